"""``skrobust demo``: the main job from end to end, on images that anybody has."""

import argparse
import os
import pathlib

from ._errors import UsageError

NAME = "demo"
SUMMARY = "defend a classifier, attack it, and write an honest report"
DESCRIPTION = """\
Fits a classifier alone, behind a sparsifying front end and on polarized codes. Tunes each for accuracy UNDER ATTACK,
the one alone with as many fits as any other. Attacks all of them white box at several eps, certifies what can be
certified, says plainly which defence helped, and writes an HTML report."""
EPILOG = """\
examples:
  skrobust demo
  skrobust demo --dataset mnist --data-home ~/data --output mnist.html
  skrobust demo --eps 0.05 0.1 0.2 --json figures.json

The digits come with scikit-learn. Of the larger sets a part is used (see --n-train and --n-test); their files are
looked for in DIR, then in the folder named by SKROBUST_DATA, then in scikit-learn's data home."""

_DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10")


def add_arguments(parser):
    """Enter the command's arguments."""
    parser.add_argument("--dataset", choices=_DATASETS, default="digits", help="images to work on (default: digits)")
    parser.add_argument("--data-home", metavar="DIR", help="folder with the files of the data set")
    parser.add_argument(
        "--download", action="store_true", help="fetch the data set from OpenML if its files are in no folder"
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="accept files that are not the published ones, by their checksums"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="report.html", help="HTML report to write (default: report.html)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    parser.add_argument(
        "--eps", metavar="EPS", type=_positive, nargs="+", help="l-infinity radii to attack at, on pixels of 0 to 1"
    )
    parser.add_argument(
        "--tune-eps", metavar="EPS", type=_positive, help="radius at which the models are tuned, one of --eps"
    )
    parser.add_argument("--n-train", metavar="N", type=_count, help="training images to use")
    parser.add_argument("--n-test", metavar="N", type=_count, help="test images to attack")
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="of everything random (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(arguments):
    """Run the demo.

    Returns
    -------
    int
        0.

    Raises
    ------
    UsageError
        If a file cannot be written, data are missing, or a needed package is not installed.
    """
    outputs = [_writable(path) for path in (arguments.output, arguments.json) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise UsageError("--output and --json name the same file.")
    _require("jinja2", "matplotlib")
    from ._experiment import run_experiment

    report, sentences = run_experiment(arguments)
    print(*sentences, sep="\n")
    report.to_html(outputs[0])
    print(f"\nWrote {arguments.output}")
    if arguments.json is not None:
        report.to_json(outputs[1])
        print(f"Wrote {arguments.json}")
    return 0


def _writable(path):
    """`path` in full, or a complaint before the work rather than after it."""
    path = pathlib.Path(path).expanduser()
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: the folder {path.parent} does not exist. Create it, or name another.")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission to write into {path.parent}.")
    return path.resolve()


def _require(*packages):
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UsageError(f"the report needs {' and '.join(missing)}. Install them: pip install 'skrobust[plot]'.")


def _positive(text):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def _count(text):
    return _integer(text, least=20)


def _seed(text):
    return _integer(text, least=0)


def _integer(text, least):
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least {least}")
    return value

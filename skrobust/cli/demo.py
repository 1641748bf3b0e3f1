"""``skrobust demo``: defend, attack, certify and report, on bundled or local images."""

import argparse
import json
import os
import pathlib

from .errors import UsageError

NAME = "demo"
SUMMARY = "defend a classifier, attack it, and write a report"
DESCRIPTION = """\
Fits a classifier alone, behind a sparsifying front end and on polarized codes. Tunes each for accuracy UNDER ATTACK
with the same number of fits. Attacks all of them white box at several eps, certifies those with a certificate, says
which defence helped, and writes an HTML report."""
EPILOG = """\
examples:
  skrobust demo
  skrobust demo --dataset mnist --data-home ~/data --output mnist.html
  skrobust demo --eps 0.05 0.1 0.2 --json figures.json

The digits come with scikit-learn. Of larger sets a part is used (see --n-train and --n-test). Their files are searched
in DIR, then in the folder given by SKROBUST_DATA, then in scikit-learn's data home."""

_DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10")


def add_arguments(parser):
    """Add the arguments of the command to its parser."""
    parser.add_argument("--dataset", choices=_DATASETS, default="digits", help="data set (default: digits)")
    parser.add_argument("--data-home", metavar="DIR", help="folder with the files of the data set")
    parser.add_argument(
        "--download", action="store_true", help="download the data set from OpenML if no folder has its files"
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="accept files whose checksums differ from the published ones"
    )
    parser.add_argument(
        "--output", metavar="FILE", default="report.html", help="HTML report to write (default: report.html)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the results, with certified accuracies, as JSON")
    parser.add_argument(
        "--eps", metavar="EPS", type=_positive, nargs="+", help="l-infinity radii of the attacks (pixels in [0, 1])"
    )
    parser.add_argument("--tune-eps", metavar="EPS", type=_positive, help="radius for tuning the models, one of --eps")
    parser.add_argument("--n-train", metavar="N", type=_count, help="training images to use")
    parser.add_argument("--n-test", metavar="N", type=_count, help="test images to attack")
    parser.add_argument("--seed", metavar="N", type=_seed, default=0, help="random seed (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(arguments):
    """Run the demo; returns 0, or raises UsageError if a file cannot be written, or data or a needed package are
    missing.
    """
    outputs = [_writable(path) for path in (arguments.output, arguments.json) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise UsageError("--output and --json name the same file.")
    _require("jinja2", "matplotlib")
    from skrobust.signals import write_atomically

    from .experiment import run_experiment

    report, proved, lines = run_experiment(arguments)
    print(*lines, sep="\n")
    report.to_html(outputs[0])
    print(f"\nWrote {arguments.output}")
    if arguments.json is not None:
        content = json.loads(report.to_json()) | {"certified": proved.rows(report.eps)}
        write_atomically(outputs[1], json.dumps(content, indent=2) + "\n")
        print(f"Wrote {arguments.json}")
    return 0


def _writable(path):
    """Absolute `path`; raises an error if it cannot be written, before the work begins."""
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
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
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least {least}")
    return value

"""The command line: help, wrong arguments, the demo from end to end, and clean-up after an interruption."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skrobust.cli import main

SMALL = ["--n-train", "150", "--n-test", "40", "--eps", "0.05", "0.1", "--quiet"]


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0
    assert "demo" in capsys.readouterr().out
    assert main([]) == 0
    assert "usage: skrobust" in capsys.readouterr().out
    assert main(["demo", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("--dataset", "mnist", "--data-home", "--output", "examples:", "UNDER ATTACK"):
        assert word in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("skrobust 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["demo", "--dataset", "imagenet"], "invalid choice: 'imagenet'"),
        (["demo", "--eps", "0"], "'0' is not a positive number"),
        (["demo", "--eps", "much"], "'much' is not a positive number"),
        (["demo", "--n-test", "3"], "'3' is not an integer of at least 20"),
        (["demo", "--seed", "-1"], "'-1' is not an integer of at least 0"),
        (["demo", "--speed"], "unrecognized arguments: --speed"),
        (["demo", "--eps", "0.1", "--tune-eps", "0.2"], "--tune-eps 0.2 is not among the radii of the report: 0.1."),
    ],
)
def test_wrong_arguments(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unwritable_outputs_are_refused_before_the_work(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "nowhere" / "report.html")]) == 2
    assert "does not exist. Create it" in capsys.readouterr().err
    assert main(["demo", "--output", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err
    same = str(tmp_path / "report")
    assert main(["demo", "--output", same, "--json", same]) == 2
    assert "name the same file" in capsys.readouterr().err


def test_missing_data_give_a_clear_error(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    output = str(tmp_path / "report.html")
    assert main(["demo", "--dataset", "mnist", "--data-home", str(tmp_path), "--output", output]) == 2
    message = capsys.readouterr().err
    assert "MNIST was not found" in message and "--data-home DIR" in message and "Traceback" not in message
    assert "download=True is --download and verify=False is --no-verify" in message


def test_other_files_and_downloads_from_the_command_line(tmp_path, capsys, monkeypatch):
    """The options that the loaders' errors advise exist as flags, and are passed to the loaders."""
    import sklearn.datasets
    from datasets_writers import write_mnist

    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    write_mnist(tmp_path / "own" / "mnist")
    command = ["demo", "--dataset", "mnist", "--output", str(tmp_path / "report.html"), "--data-home"]
    assert main([*command, str(tmp_path / "own")]) == 2
    assert "verify=False" in capsys.readouterr().err
    n_train = []

    def fit(search, X, y):
        n_train.append(len(y))
        raise KeyboardInterrupt

    monkeypatch.setattr(GridSearchCV, "fit", fit)
    assert main([*command, str(tmp_path / "own"), "--no-verify"]) == 130
    assert n_train == [20]

    def interrupted(*_, data_home, **__):
        os.makedirs(os.path.join(data_home, "openml", "api"))
        raise KeyboardInterrupt

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", interrupted)
    assert main([*command, str(tmp_path / "new" / "home"), "--download"]) == 130
    assert "Interrupted: nothing was written." in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_missing_packages_give_a_clear_error(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--output", str(tmp_path / "report.html")]) == 2
    assert "pip install 'skrobust[plot]'" in capsys.readouterr().err


@pytest.fixture
def few_settings(monkeypatch):
    """Few settings a model, so that the tests are short."""
    from dataclasses import replace

    from skrobust.cli import recipes

    monkeypatch.setitem(recipes.RECIPES, "digits", replace(recipes.RECIPES["digits"], fractions=(0.2, 0.5)))
    monkeypatch.setattr(recipes, "CS_OF_DEFENDED", (0.1,))


def test_demo_from_end_to_end(tmp_path, capsys, few_settings):
    html, figures = tmp_path / "report.html", tmp_path / "figures.json"
    assert main(["demo", *SMALL, "--seed", "1", "--output", str(html), "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    content = json.loads(figures.read_text(encoding="utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "report.html"]
    for column in ("model", "clean", "attacked", "eps", "attack", "threat model", "n", "seed"):
        assert column in printed
    worst = [row for row in content["rows"] if row["attack"] == "worst per image"]
    assert {row["model"] for row in worst} == {"wavelet front end", "polarizing coder", "undefended"}
    assert len(worst) == 6 and all(row["threat_model"] == "white box" and row["n"] == 40 for row in worst)
    for row in worst:
        assert f"{100 * row['accuracy']:.1f}" in printed
        assert row["accuracy"] <= row["clean_accuracy"]
    # The conclusion follows from the figures.
    by_model = {row["model"]: row["accuracy"] for row in worst if row["eps"] == 0.1}
    sentence = next(line for line in printed.splitlines() if line.startswith("“wavelet front end” is"))
    difference = 100 * (by_model["wavelet front end"] - by_model["undefended"])
    assert f"difference of {difference:+.1f}".replace("-", "−") in sentence
    assert "is better than" not in sentence or difference > 0
    # Certified accuracy is at most the accuracy under attack.
    attacked = {(row["model"], row["eps"]): row["accuracy"] for row in worst}
    certified = {(row["model"], row["eps"]): row["accuracy"] for row in content["certified"]}
    assert certified.keys() == attacked.keys()
    assert all(0 <= certified[key] <= attacked[key] for key in certified)
    is_exact = {row["model"]: row["is_exact"] for row in content["certified"]}
    assert is_exact == {"wavelet front end": False, "polarizing coder": True, "undefended": True}
    # The certificates in words: the settings and the printed table say the same figures.
    for name, exact in is_exact.items():
        meaning = "exact worst case" if exact else "lower bound"
        shares = ", ".join(f"{100 * certified[name, eps]:.1f}\N{NO-BREAK SPACE}% at {eps:g}" for eps in (0.05, 0.1))
        assert content["settings"][f"certified accuracy, {name}"] == f"{shares} ({meaning})"
    name, eps = "undefended", 0.05
    cells = [name, f"{eps:g}", f"{100 * certified[name, eps]:.1f}", "%", f"{100 * attacked[name, eps]:.1f}", "%"]
    assert cells in [line.split()[: len(cells)] for line in printed.splitlines()]
    # All were tuned with equally many settings.
    assert "settings ×" in printed and "tuned for" in content["settings"]
    text = html.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert sentence.split(":")[0] in text
    # The conclusion names each defence once, as helpful, harmful or neither.
    conclusions = [line for line in printed.splitlines() if line.startswith("At eps = 0.1, ")]
    for name in ("wavelet front end", "polarizing coder"):
        assert sum(line.count(f"“{name}” (") for line in conclusions) == 1
    # The same command gives the same figures.
    assert main(["demo", *SMALL, "--seed", "1", "--output", str(html), "--json", str(figures)]) == 0
    again = json.loads(figures.read_text(encoding="utf-8"))
    for a, b in zip(content["rows"], again["rows"], strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_undefended_gets_as_many_fits_as_any_defence():
    from sklearn.model_selection import ParameterGrid

    from skrobust.cli.recipes import RECIPES, UNDEFENDED, candidates

    for recipe in RECIPES.values():
        plan = candidates((8, 8), recipe, 0)
        sizes = {name: len(ParameterGrid(grid)) for name, (_, grid) in plan.items()}
        assert list(plan)[-1] == UNDEFENDED and sizes[UNDEFENDED] == max(sizes.values()) > 1


def test_conclusions_follow_from_the_intervals():
    from types import SimpleNamespace

    from skrobust.cli.proved import Proved, bounds_table, what_helped

    rng = np.random.default_rng(0)
    right = {name: rng.random((1, 400)) < share for name, share in (("a", 0.9), ("b", 0.3), ("c", 0.6), ("o", 0.6))}
    right["c"] = right["o"].copy()

    def compare(name, other, eps):
        difference = right[name][0].mean() - right[other][0].mean()
        return difference, difference - 0.05, difference + 0.05

    report = SimpleNamespace(
        models=("a", "b", "c", "o"),
        baseline="o",
        eps=np.array([0.1]),
        confidence=0.95,
        compare=compare,
        index_of=lambda eps: 0,
        worst_right=lambda name: right[name],
    )
    proved = Proved({"a": right["a"], "o": right["o"] & (rng.random((1, 400)) < 0.9)}, {"a": True, "o": False})
    helped, harmed, none, lead = what_helped(report, proved, 0.1)
    assert helped.startswith("At eps = 0.1, “a” (+") and helped.endswith("certified) helped.")
    assert harmed.startswith("At eps = 0.1, “b” (−") and harmed.endswith("under attack) did harm.")
    assert "“c” (+0.0 points under attack) made no difference" in none
    assert lead.startswith("More images are certified for “a” than survive the attacks on “o”")
    report.models = ("b", "o")
    assert what_helped(report, proved, 0.1)[0] == "At eps = 0.1, nothing helped."
    report.models = ("a", "b", "o")
    a, b, o = bounds_table(report, proved).splitlines()[2:]
    assert a.endswith("as certified") and b.endswith("no certificate is known") and o.endswith("between the two")


@pytest.mark.skipif(sys.platform == "win32", reason="interrupts of another process are POSIX")
def test_ctrl_c_leaves_nothing_behind(tmp_path):
    command = [sys.executable, "-m", "skrobust", "demo", "--output", "report.html", "--json", "figures.json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    started = process.stdout.readline()  # the data are loaded, the work begins
    assert started.startswith("digits")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("Interrupted: nothing was written.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_interrupt_that_python_drops_is_repeated():
    import weakref

    from skrobust.cli.interrupts import persistent_interrupts

    class Referent:
        pass

    referent = Referent()
    # Python prints and drops an exception raised in a callback of a weak reference.
    reference = weakref.ref(referent, lambda _: signal.raise_signal(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), persistent_interrupts():
        del referent
        assert reference() is None
        while time.monotonic() < started + 10:
            time.sleep(0.05)
    assert time.monotonic() < started + 5
    assert signal.getsignal(signal.SIGINT) is before and signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.slow
@pytest.mark.skipif("SKROBUST_DATA" not in os.environ, reason="needs MNIST: set SKROBUST_DATA")
def test_demo_on_mnist(tmp_path, capsys):
    arguments = ["--n-train", "1500", "--n-test", "100", "--eps", "0.1", "--quiet"]
    assert main(["demo", "--dataset", "mnist", *arguments, "--output", str(tmp_path / "report.html")]) == 0
    assert "28 × 28" in capsys.readouterr().out

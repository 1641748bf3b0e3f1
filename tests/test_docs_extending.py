"""The examples of the pages on extending skrobust run, stay short, and use public names only."""

import ast
import pathlib
import runpy

import numpy as np
import pytest
from attacks_helpers import binary_svm, defended, logistic, margins, network
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.attacks import Cascade, Transfer
from skrobust.evaluation import robustness_report

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "extending"
EXAMPLES = sorted(FOLDER.glob("*.py"))
MOST_LINES = 40
"""Lines of one example."""
MOST_ATTACK_LINES = 25
"""Lines of the class of an attack."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path):
    runpy.run_path(str(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_use_public_names(path):
    source = path.read_text(encoding="utf8")
    assert len(source.splitlines()) <= MOST_LINES
    tree = ast.parse(source)
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [*node.module.split("."), *(alias.name for alias in node.names)]
            assert not node.module.startswith("skrobust") or node.module.count(".") <= 1
    assert not [name for name in names if name.startswith("_") and not name.startswith("__")]


@pytest.fixture(scope="module")
def own_attacks():
    """Instances of the two attacks that the page defines."""
    black_box = runpy.run_path(str(FOLDER / "black_box_attack.py"))["RandomCorners"]
    gradient = runpy.run_path(str(FOLDER / "gradient_attack.py"))["SignAscent"]
    return [black_box(eps=0.1, n_iter=5, random_state=0), gradient(eps=0.1, n_iter=5)]


@pytest.mark.parametrize("name", ["black_box_attack", "gradient_attack"])
def test_attacks_are_shorter_than_promised(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf8"))
    (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert cls.end_lineno - cls.lineno + 1 <= MOST_ATTACK_LINES


def test_inherited_defaults(own_attacks):
    for attack in own_attacks:
        description = clone(attack).describe()
        assert (description["norm"], description["eps"], description["n_iter"]) == ("linf", 0.1, 5)
        assert (attack.clip, attack.mask, attack.perturb_all, attack.batch_size) == ((0, 1), None, False, None)
        assert (attack.random_state, attack.device, attack.verbose) in {(0, None, 0), (None, None, 0)}
    black_box, gradient = own_attacks
    assert (black_box.threat_model, black_box.describe()["gradient"]) == ("black box", None)
    assert (gradient.threat_model, gradient.describe()["gradient"], gradient.n_eot) == ("white box", "exact", 1)
    assert clone(gradient).set_params(gradient="skip").threat_model == "semi-white box"
    with pytest.raises(InvalidParameterError, match="'eps' parameter of SignAscent"):
        clone(gradient).set_params(eps=-1).perturb(*binary_svm())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_promises_of_every_attack_hold(own_attacks, dtype):
    model, X, y = network()
    X = X.astype(dtype)
    for attack in own_attacks:
        X_adv = attack.perturb(model, X, y)
        assert X_adv.dtype == X.dtype and X_adv.shape == X.shape
        assert abs(X_adv.astype(float) - X).max() <= 0.1 and X_adv.min() >= 0 and X_adv.max() <= 1
        before, after = margins(model, X, y), margins(model, X_adv, y)
        assert (after >= before).all() and (after > before).any()
        in_batches = clone(attack)
        in_batches.batch_size = 7
        np.testing.assert_allclose(in_batches.perturb(model, X, y), X_adv, atol=1e-6)
        target = (y + 1) % 10
        aimed = attack.perturb(model, X, y, y_target=target)
        assert (margins(model, aimed, target) <= margins(model, X, target)).all()
        masked = clone(attack)
        masked.mask = np.arange(X[0].size).reshape(X[0].shape) % 2 == 0
        assert not (masked.perturb(model, X, y) != X)[:, ~masked.mask].any()


def test_front_ends_cascades_and_transfer(own_attacks):
    model, X, y = defended("logistic")
    source, *_ = logistic()
    gradient = clone(own_attacks[1]).set_params(gradient="worst")
    exact = margins(model, own_attacks[1].perturb(model, X, y), y)
    assert (margins(model, gradient.perturb(model, X, y), y) > 0).sum() >= (exact > 0).sum()
    for attack in (
        clone(own_attacks[1]).set_params(gradient="skip"),
        Transfer(own_attacks[1], source),
        Cascade(eps=0.1, attacks=own_attacks, random_state=0),
    ):
        assert model.score(attack.perturb(model, X, y), y) < model.score(X, y)


def test_a_report_takes_own_attacks(own_attacks):
    model, X, y = logistic()
    report = robustness_report(model, X, y, eps=0.1, attacks=own_attacks, checks=False, random_state=0)
    assert [trial.name for trial in report.trials["model"]] == ["RandomCorners", "SignAscent"]

"""Every attack takes what predict takes, and refuses what predict refuses."""

import numpy as np
import pytest
import torch
from attacks_helpers import ATTACKS, digits, logistic, make_attack, network
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from skrobust.attacks import PGD, RandomNoise, Square
from skrobust.evaluation import make_robust_scorer, masking_checks, robustness_report

every_attack = pytest.mark.parametrize("name", ATTACKS)


@every_attack
def test_negative_strides(name):
    model, X, y = logistic()
    X, y = X[:6], y[:6]
    attack = make_attack(name, model)
    expected = attack.perturb(model, X, y)
    turned = np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    assert min(turned.strides) < 0
    np.testing.assert_array_equal(attack.perturb(model, turned, y[::-1][::-1]), expected)
    low, high = np.zeros(64)[::-1], np.ones(64)[::-1]
    boxed = make_attack(name, model, clip=(low, high))
    np.testing.assert_array_equal(boxed.perturb(model, X, y), expected)


@every_attack
@pytest.mark.parametrize("use", [logistic, network])
def test_inference_mode(name, use):
    model, X, y = use()
    X, y = X[:4], y[:4]
    attack = make_attack(name, model)
    expected = attack.perturb(model, X, y)
    with torch.inference_mode():
        np.testing.assert_array_equal(attack.perturb(model, X, y), expected)
        tensor = attack.perturb(model, torch.as_tensor(X), y)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert not tensor.is_inference()


@every_attack
def test_columns_of_another_order(name):
    pd = pytest.importorskip("pandas")
    X, y, X_test, y_test = digits()
    names = [f"p{i}" for i in range(64)]
    model = LogisticRegression(max_iter=200).fit(pd.DataFrame(X[:300], columns=names), y[:300])
    frame = pd.DataFrame(X_test[:4], columns=names)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[names[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        make_attack(name, model).perturb(model, frame[names[::-1]], y_test[:4])
    attacked = make_attack(name, model).perturb(model, frame, y_test[:4])
    assert list(attacked.columns) == names


@every_attack
def test_bytes(name):
    model, X, y = logistic()
    with pytest.raises(ValueError, match=r"look like bytes: pass X / 255"):
        make_attack(name, model).perturb(model, np.rint(X[:4] * 255).astype(np.uint8), y[:4])


def test_scorers_and_reports_refuse_columns_of_another_order():
    """Scorers, reports and checks accept and refuse the same input as attacks."""
    pd = pytest.importorskip("pandas")
    X, y, X_test, y_test = digits()
    names = [f"p{i}" for i in range(64)]
    model = LogisticRegression(max_iter=200).fit(pd.DataFrame(X[:300], columns=names), y[:300])
    turned, y_test = pd.DataFrame(X_test[:20], columns=names)[names[::-1]], y_test[:20]
    attack = PGD(0.05, n_iter=2, random_state=0)
    for use in (
        lambda: make_robust_scorer(attack)(model, turned, y_test),
        lambda: robustness_report(model, turned, y_test, eps=0.1, attacks=attack, baseline=None),
        lambda: masking_checks(model, turned, y_test, eps=0.1),
    ):
        with pytest.raises(ValueError, match="feature names should match"):
            use()
    with torch.inference_mode():
        plain = LogisticRegression(max_iter=200).fit(X[:300], y[:300])
        assert masking_checks(plain, X_test[:20, ::-1][:, ::-1], y_test, eps=0.1, n_samples=10)


def test_black_box_attacks_of_trees():
    X, y, X_test, y_test = digits()
    tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    turned = np.ascontiguousarray(X_test[:5, ::-1])[:, ::-1]
    for attack in (RandomNoise(random_state=0), Square(n_iter=5, random_state=0)):
        expected = attack.perturb(tree, X_test[:5], y_test[:5])
        np.testing.assert_array_equal(attack.perturb(tree, turned, y_test[:5]), expected)

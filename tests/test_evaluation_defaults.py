"""The default attacks: strength, cost, and comparison with AutoAttack."""

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skrobust import PolarizingCoder, as_module
from skrobust.attacks import FAB, PGD, Cascade, GradientModel, IterativeLocallyLinear
from skrobust.evaluation import robustness_report
from skrobust.evaluation.defaults import strongest_attack


def digits(n_classes=10):
    """1000 images of the first classes to train on, or half of them, and the others."""
    X, y = load_digits(return_X_y=True)
    X, y = X[y < n_classes] / 16, y[y < n_classes]
    n_train = min(1000, len(y) // 2)
    return (X[:n_train], y[:n_train]), (X[n_train:], y[n_train:])


def test_default_report_finds_what_the_iterative_locally_linear_attack_finds():
    # PGD on either loss leaves two of these images that the locally linear attack breaks.
    (X, y), (X_test, y_test) = digits()
    model = make_pipeline(PCA(30, random_state=0), SVC(C=3)).fit(X, y)
    X, y = X_test[20:125], y_test[20:125]
    broken = model.predict(IterativeLocallyLinear(0.15).perturb(model, X, y)) != y
    plain = [PGD(0.15, random_state=0), PGD(0.15, n_restarts=2, loss="margin", random_state=0)]
    assert (broken & np.logical_and.reduce([model.predict(one.perturb(model, X, y)) == y for one in plain])).any()
    report = robustness_report(model, X, y, eps=0.15, checks=False)
    assert not (report.worst_right("model")[0] & broken).any()


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5), ("l1", 2.0)])
def test_strongest_attack_is_no_weaker_than_pgd(norm, eps, n_classes):
    (X, y), (X_test, y_test) = digits(n_classes)
    model = LogisticRegression(max_iter=300).fit(X, y)
    X, y = X_test[:40], y_test[:40]
    attack = strongest_attack(norm).set_params(eps=eps)
    by_pgd = model.score(PGD(eps, norm=norm, n_iter=20, loss="margin", random_state=0).perturb(model, X, y), y)
    assert model.score(attack.perturb(model, X, y), y) <= by_pgd


@pytest.mark.parametrize(("n_classes", "n_targets"), [(2, 1), (3, 2), (12, 9)])
def test_cost_of_the_strongest_attack(n_classes, n_targets, monkeypatch):
    # No image is broken at this eps: each costs as many passes as documented.
    X = np.eye(n_classes)
    model = LogisticRegression(C=100.0).fit(X, np.arange(n_classes))
    calls = []
    plain = GradientModel.gradients
    monkeypatch.setattr(GradientModel, "gradients", lambda self, *args: calls.append(1) or plain(self, *args))
    images, labels = X[:1] * 1.0, np.arange(1)
    attack = strongest_attack().set_params(eps=1e-3)
    model.predict(attack.perturb(model, images, labels))
    n_probes = len(calls) - 101 * n_targets  # probes that find that all backward passes are equal
    assert 0 <= n_probes <= 16


def test_strongest_attack_breaks_what_fab_breaks_behind_calibration():
    """The climbing attacks leave one of these images; AutoAttack, which holds FAB, does not."""
    X, y = load_digits(return_X_y=True)
    X, order = X / 16, np.random.default_rng(0).permutation(len(y))
    model = CalibratedClassifierCV(LinearSVC(C=0.1, random_state=0)).fit(X[order[:1000]], y[order[:1000]])
    X, y = X[order[1000:1040]], y[order[1000:1040]]
    by_fab, by_climbing, by_strongest = (
        model.predict(attack.perturb(model, X, y)) != y
        for attack in (
            FAB(0.15, n_iter=30, random_state=0),
            Cascade(0.15, attacks=strongest_attack().attacks[:2], gradient="worst", random_state=0),
            strongest_attack().set_params(eps=0.15),
        )
    )
    assert (by_fab & ~by_climbing).any()
    assert not (by_fab & ~by_strongest).any()


def test_parts_of_the_default_cascade():
    (X, y), (X_test, y_test) = digits()
    model = LinearSVC(random_state=0).fit(X, y)
    report = robustness_report(model, X_test[:10], y_test[:10], eps=0.05, checks=False)
    (cascade,) = [trial for trial in report.trials["model"] if trial.name == "Cascade"]
    assert [part["name"] for part in cascade.settings["attacks"]] == ["IterativeLocallyLinear", "APGD", "FAB"]
    assert cascade.settings["gradient"] == "worst" and cascade.settings["seed"] == 0


AUTOATTACKED = {
    "logistic": (LogisticRegression(max_iter=1000), (0.05, 0.1, 0.15)),
    "MLP": (MLPClassifier((100,), max_iter=200, random_state=0), (0.05, 0.1, 0.15)),
    "calibrated": (CalibratedClassifierCV(LinearSVC(C=0.1, random_state=0)), (0.05, 0.1, 0.15)),
    "naive Bayes": (GaussianNB(var_smoothing=1e-2), (0.05, 0.1, 0.15)),
    "scaler, PCA, SVC": (make_pipeline(StandardScaler(), PCA(30, random_state=0), SVC(C=10)), (0.01, 0.02, 0.05)),
    "polarized": (
        make_pipeline(PolarizingCoder(n_thresholds=2, image_shape=(8, 8)), LogisticRegression(max_iter=1000)),
        (0.05, 0.1, 0.15),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AUTOATTACKED)
def test_autoattack_breaks_no_image_that_the_default_report_calls_robust(name):
    autoattack = pytest.importorskip("pyautoattack")
    model, grid = AUTOATTACKED[name]
    (X, y), (X_test, y_test) = digits()
    model.fit(X, y)
    X, y = X_test[:60], y_test[:60]
    robust = robustness_report(model, X, y, eps=grid, checks=False).worst_right("model")
    module = as_module(model, dtype="float64")
    x, labels = torch.tensor(X, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y)
    for eps, survives in zip(grid, robust, strict=True):
        cascade = autoattack.AutoAttack(lambda x: module(x.flatten(1).double()).float(), eps=eps, seed=0)
        attacked, _ = cascade.run_standard_evaluation(x, labels)
        # float32 leaves the ball by a rounding.
        attacked = np.clip(attacked.flatten(1).double().numpy(), np.maximum(X - eps, 0), np.minimum(X + eps, 1))
        missed = survives & (model.predict(attacked) != y)
        assert not missed.any(), f"eps = {eps}: images {np.flatnonzero(missed)}"


def test_quick_reports_leave_the_cascade_out():
    X, y = load_digits(return_X_y=True)
    X = X[:60] / 16
    model = LogisticRegression(max_iter=200).fit(X, y[:60])
    report = robustness_report(model, X, y[:60], eps=0.05, attacks="quick", checks=False)
    names = {row["attack"] for row in report.rows}
    assert "PGD" in names and "Cascade" not in names

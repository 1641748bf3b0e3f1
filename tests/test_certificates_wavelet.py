"""Certificates behind a wavelet front end whose support may change: exact references, attacks, broken certificates."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import WaveletSparsifier
from skrobust.attacks import APGD, PGD, RandomNoise
from skrobust.certificates import certify
from skrobust.certificates.support_sweep import SupportSweep

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS / 16
TRAIN, TEST = slice(0, 900), slice(900, 1200)


def tiny_model(rng, *, k, n_classes=2):
    """Haar on 2 x 2 images, and a linear classifier with random weights."""
    X = rng.random((40, 4))
    front = WaveletSparsifier("haar", n_nonzero_coefs=k, level=1, image_shape=(2, 2)).fit(X)
    head = LogisticRegression().fit(rng.normal(size=(30, 4)), np.arange(30) % n_classes)
    head.coef_ = rng.normal(size=head.coef_.shape)
    head.intercept_ = rng.normal(size=head.intercept_.shape) / 4
    model = make_pipeline(front, head)
    return model, X, model.predict(X)


def exact_worst_margin(model, x, label, eps, clip):
    """Smallest margin over the l-infinity ball: a linear programme for every support and every choice of signs."""
    front, head = model
    basis = np.stack([front.inverse_transform_coefficients(row[None])[0] for row in np.eye(4)])
    low, high = x - eps, x + eps
    if clip is not None:
        low, high = np.maximum(low, clip[0]), np.minimum(high, clip[1])
    weights, offset = head.coef_[0], head.intercept_[0]
    if label == 0:
        weights, offset = -weights, -offset
    worst = np.inf
    for kept in itertools.combinations(range(4), front.n_nonzero_coefs_[0]):
        dropped = [j for j in range(4) if j not in kept]
        direction = sum((weights @ basis[j]) * basis[j] for j in kept)
        for signs in itertools.product([-1, 1], repeat=4):
            oriented = np.array(signs)[:, None] * basis
            rows = [-row for row in oriented]  # every magnitude is non-negative
            rows += [oriented[out] - oriented[j] for j in kept for out in dropped]
            found = linprog(
                direction, A_ub=np.array(rows), b_ub=np.zeros(len(rows)), bounds=np.stack([low, high], axis=1)
            )
            if found.status == 0:
                worst = min(worst, found.fun + offset)
    return worst


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("clip", [None, (0, 1)])
def test_sound_and_nearly_exact_against_linear_programmes(k, clip):
    model, X, y = tiny_model(np.random.default_rng(k), k=k)
    eps = 0.08
    exact = np.array([exact_worst_margin(model, x, label, eps, clip) for x, label in zip(X[:8], y[:8], strict=True)])
    certified = certify(model, X[:8], y[:8], eps, clip=clip, radius=False).certified
    assert (exact[certified] > 0).all()
    assert certified.sum() >= 0.7 * (exact > 0).sum() > 0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("front_clip", [None, (0.2, 0.8)])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_no_random_point_of_the_ball_changes_a_certified_image(norm, front_clip, n_classes):
    rng = np.random.default_rng(5)
    model, X, _ = tiny_model(rng, k=2, n_classes=n_classes)
    model[0].set_params(clip=front_clip)
    y = model.predict(X)
    certificate = certify(model, X, y, 0.05, norm=norm, clip=None)
    assert np.mean(certificate.radius > 0.01) > 0
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    for x, label, radius in zip(X, y, certificate.radius, strict=True):
        steps = rng.normal(size=(2000, 4))
        steps[:1000] = np.sign(steps[:1000])
        steps[1900:] = np.eye(4)[rng.integers(0, 4, 100)] * rng.choice([-1, 1], size=(100, 1))
        near = x + min(radius, 4.0) * steps / np.linalg.norm(steps, ord=order, axis=1, keepdims=True) * (1 - 1e-12)
        assert (model.predict(near) == label).all()


@pytest.fixture(scope="module")
def model():
    front = WaveletSparsifier("haar", n_nonzero_coefs=16, level=1, image_shape=(8, 8))
    return make_pipeline(front, LogisticRegression(C=0.05, max_iter=500)).fit(DIGITS[TRAIN], LABELS[TRAIN])


def attacked_accuracy(model, X, y, eps, norm):
    """Accuracy of the images after the worst of several attacks, each at its own radius."""
    right = np.ones(len(y), dtype=bool)
    for value in np.unique(eps):
        rows = np.flatnonzero(eps == value)
        for attack in (
            PGD(eps=value, norm=norm, n_iter=20, loss="margin", gradient="worst", random_state=0),
            APGD(eps=value, norm=norm, n_iter=20, gradient="projection", random_state=0),
            RandomNoise(eps=value, norm=norm, n_restarts=5, random_state=0),
        ):
            right[rows] &= model.predict(attack.perturb(model, X[rows], y[rows])) == y[rows]
    return right


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_attacks_fail_inside_certified_radii(model, norm, dtype):
    X, y = DIGITS[TEST].astype(dtype), LABELS[TEST]
    certificate = certify(model, X, y, 0.05, norm=norm)
    for share in (0.3, 0.6, 0.9):
        eps = float(np.quantile(certificate.radius[certificate.radius > 0], share))
        chosen = certificate.radius >= eps
        assert attacked_accuracy(model, X[chosen], y[chosen], np.full(chosen.sum(), eps), norm).all()


def test_a_certificate_that_ignores_most_of_the_change_is_caught(model, monkeypatch):
    """The attacks above would notice: coefficients that move by a fifth of what they may move."""
    X, y = DIGITS[TEST], LABELS[TEST]
    exceeds = SupportSweep.exceeds

    def careless(self, codes, weights, goal, eps, group):
        return exceeds(self, replace(codes, change=codes.change / 5), weights, goal, eps, group)

    monkeypatch.setattr(SupportSweep, "exceeds", careless)
    broken = certify(model, X, y, 0.15, radius=False).certified
    assert not attacked_accuracy(model, X[broken], y[broken], np.full(broken.sum(), 0.15), "linf").all()


def test_a_changing_support_is_certified_where_the_gap_is_not_enough(model):
    """Few images keep their support; many keep their class."""
    X, y = DIGITS[TEST], LABELS[TEST]
    certificate = certify(model, X, y, 0.05, radius=False)
    assert certificate.certified_accuracy > 0.5
    assert not certificate.is_exact
    assert "may be kept" in certificate.method


def test_batches_do_not_change_the_answer(model):
    X, y = DIGITS[TEST], LABELS[TEST]
    whole = certify(model, X[:40], y[:40], 0.05, radius=False).certified
    single = [certify(model, X[[i]], y[[i]], 0.05, radius=False).certified[0] for i in range(40)]
    np.testing.assert_array_equal(whole, single)


def test_channels_select_separately():
    rng = np.random.default_rng(0)
    X = rng.random((60, 4, 4, 2))
    front = WaveletSparsifier("haar", n_nonzero_coefs=(5, 9), level=1)
    y = (X[:, :2].mean(axis=(1, 2, 3)) > X[:, 2:].mean(axis=(1, 2, 3))).astype(int)
    flat = make_pipeline(front.set_params(image_shape=(4, 4, 2)), LogisticRegression(C=10, max_iter=500)).fit(
        X.reshape(60, -1), y
    )
    rows = X.reshape(60, -1)
    for norm, eps in (("linf", 0.02), ("l2", 0.08)):
        certified = certify(flat, rows, y, eps, norm=norm, radius=False).certified
        assert certified.any()
        assert attacked_accuracy(flat, rows[certified], y[certified], np.full(certified.sum(), eps), norm).all()

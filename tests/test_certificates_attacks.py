"""Attacks and certificates meet: nothing succeeds inside a certified radius, and exact ones are reached."""

import os
import pickle

import matplotlib
import numpy as np
import pytest
from sklearn import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from skrobust import WaveletSparsifier
from skrobust.attacks import APGD, PGD, CornerSearch, RandomNoise, Square
from skrobust.certificates import certify
from skrobust.displays import AmbiguityDisplay
from skrobust.estimators import PolarizingCoder
from skrobust.estimators.polar.torch import PolarizingModule
from skrobust.evaluation import make_certified_scorer

matplotlib.use("Agg")
DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS / 16
TRAIN, TEST = slice(0, 1300), slice(1300, 1500)


def _model(coder, head=None):
    head = LogisticRegression(C=0.1, max_iter=500) if head is None else head
    return make_pipeline(coder, head).fit(DIGITS[TRAIN], LABELS[TRAIN])


@pytest.fixture(scope="module")
def pixel():
    return _model(PolarizingCoder())


@pytest.fixture(scope="module")
def network():
    return _model(PolarizingCoder(n_thresholds=2), MLPClassifier((64,), max_iter=100, random_state=0))


# Corner search. Its contract (balls, boxes, layouts, labels) is that of its base class.


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_corner_search_reaches_the_exact_certificate(pixel, eps):
    X, y = DIGITS[TEST], LABELS[TEST]
    certificate = certify(pixel, X, y, eps)
    attacked = CornerSearch(eps=eps, n_targets=9).perturb(pixel, X, y)
    assert certificate.is_exact
    np.testing.assert_array_equal(pixel.predict(attacked) == y, certificate.certified)
    assert np.abs(attacked - X).max() <= eps
    assert attacked.min() >= 0
    assert attacked.max() <= 1


def test_corner_search_against_brute_force():
    """On a network over few thresholded pixels it finds what trying all corners finds, nearly always."""
    rng = np.random.default_rng(0)
    X = rng.random((400, 8))
    y = ((X > 0.5) @ np.arange(8) % 3).astype(int)
    model = make_pipeline(PolarizingCoder(threshold=0.5), MLPClassifier((32,), max_iter=500, random_state=0)).fit(X, y)
    right = model.predict(X) == y
    X, y = X[right][:150], y[right][:150]
    corners = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    eps = 0.15
    breakable = np.array(
        [np.any(model.predict(np.clip(x + eps * corners, 0, 1)) != t) for x, t in zip(X, y, strict=True)]
    )
    misclassified = model.predict(CornerSearch(eps=eps, n_targets=2).perturb(model, X, y)) != y
    assert not (misclassified & ~breakable).any()
    assert misclassified.sum() >= 0.95 * breakable.sum() > 20


def test_black_box_does_not_beat_white_box(network):
    X, y = DIGITS[TEST], LABELS[TEST]
    white = network.score(CornerSearch(eps=0.1, gradient="worst", n_targets=9).perturb(network, X, y), y)
    black = network.score(Square(eps=0.1, n_iter=300, image_shape=(8, 8), random_state=0).perturb(network, X, y), y)
    assert white <= black
    assert white < network.score(X, y) - 0.1


def test_every_second_restart_is_annealed(network, monkeypatch):
    shares = []
    monkeypatch.setattr(PolarizingModule, "anneal", lambda module, share: shares.append(share))
    attack = PGD(eps=1e-6, n_iter=4, n_restarts=3, gradient="smooth", random_state=0)
    attack.perturb(network, DIGITS[TEST][:5], LABELS[TEST][:5])
    assert shares == [None, 0.0, 0.25, 0.5, 0.75, None, None]


def test_corner_search_is_an_attack_like_others(pixel):
    attack = CornerSearch(eps=0.1)
    assert clone(attack).get_params() == attack.get_params()
    description = attack.describe()
    assert description["name"] == "CornerSearch"
    assert description["threat_model"] == "white box" and description["norm"] == "linf"
    X, y = DIGITS[TEST][:40], LABELS[TEST][:40]
    one = attack.perturb(pixel, X, y)
    np.testing.assert_array_equal(CornerSearch(eps=0.1, batch_size=7).perturb(pixel, X, y), one)
    np.testing.assert_array_equal(CornerSearch(eps=0.0).perturb(pixel, X, y), X)
    target = (y + 1) % 10
    aimed = CornerSearch(eps=0.5).perturb(pixel, X, y, y_target=target)
    assert np.mean(pixel.predict(aimed) == target) > np.mean(pixel.predict(one) == target)
    with pytest.raises(ValueError, match="n_targets"):
        CornerSearch(n_targets=0).perturb(pixel, X, y)


# Scorer and display.


def test_certified_scorer(pixel):
    scorer = make_certified_scorer(0.1)
    X, y = DIGITS[TEST], LABELS[TEST]
    assert scorer(pixel, X, y) == certify(pixel, X, y, 0.1).certified_accuracy
    copy = pickle.loads(pickle.dumps(scorer))
    assert copy(pixel, X, y) == scorer(pixel, X, y)
    assert repr(scorer) == "make_certified_scorer(eps=0.1)"
    assert (
        repr(make_certified_scorer(0.1, norm="l2", clip=None)) == "make_certified_scorer(eps=0.1, norm='l2', clip=None)"
    )
    grid = {"polarizingcoder__threshold": [0.5, 0.95], "logisticregression__C": [0.1]}
    search = GridSearchCV(pixel, grid, scoring={"clean": "accuracy", "certified": scorer}, refit="certified", cv=2)
    search.fit(DIGITS[:400], LABELS[:400])
    assert search.best_params_["polarizingcoder__threshold"] == 0.5
    assert (search.cv_results_["mean_test_certified"] <= search.cv_results_["mean_test_clean"]).all()
    several = make_certified_scorer((0.05, 0.1))
    assert several(pixel, X, y) == pytest.approx(np.mean([make_certified_scorer(e)(pixel, X, y) for e in (0.05, 0.1)]))
    assert repr(several) == "make_certified_scorer(eps=[0.05, 0.1])"
    for bad in (-0.1, "0.1", np.nan, [], [0.1, -1]):
        with pytest.raises(ValueError, match="eps must be a finite number"):
            make_certified_scorer(bad)


def test_ambiguity_display(pixel):
    display = AmbiguityDisplay.from_estimator(pixel, DIGITS[TEST], eps=[0.2, 0, 0.1])
    shares = [pixel[0].ambiguous_share(DIGITS[TEST], eps, clip=(0, 1)) for eps in (0, 0.1, 0.2)]
    np.testing.assert_allclose(display.line_.get_xdata(), [0, 0.1, 0.2])
    np.testing.assert_allclose(display.line_.get_ydata(), [100 * share.overall for share in shares])
    assert display.limit_.get_ydata()[0] == pytest.approx(50 * shares[0].difference)
    assert display.ax_.get_xlabel() == "eps (linf)"
    with pytest.raises(TypeError, match="needs a fitted PolarizingCoder .* got LogisticRegression"):
        AmbiguityDisplay.from_estimator(LogisticRegression(), DIGITS)


# Ten thousand pairs of an image and a radius.


def _models_of(image_shape, small):
    wavelet = WaveletSparsifier("haar", n_nonzero_coefs=0.3, clip=(0, 1), image_shape=image_shape)
    average = PolarizingCoder("average", kernel_size=2, n_thresholds=2, image_shape=image_shape)
    haar = PolarizingCoder("haar", levels="ternary", output="reconstruction", image_shape=image_shape)
    strength = {"C": 0.1, "max_iter": 300} if small else {"C": 1e-3, "max_iter": 60}
    return {
        "linear": make_pipeline(LogisticRegression(**{**strength, "C": strength["C"] / 10})),
        "pixel": make_pipeline(PolarizingCoder(), StandardScaler(), LinearSVC(C=1e-4)),
        "thermometer": make_pipeline(PolarizingCoder(n_thresholds=3), LogisticRegression(**strength)),
        "average": make_pipeline(average, LogisticRegression(**strength)),
        "haar code": make_pipeline(haar, LogisticRegression(**strength)),
        "wavelet": make_pipeline(wavelet, LogisticRegression(**strength)),
    }


def _count_pairs(models, train, test, gradient_steps):
    """Attack each image at radii up to its own, and count the pairs; any success is an error."""
    X, y = test
    n_pairs = 0
    for name, model in models.items():
        model.fit(*train)
        certificate = certify(model, X, y, 0.1)
        inside_reach = certificate.radius[(certificate.radius > 0) & np.isfinite(certificate.radius)]
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            eps = float(np.quantile(inside_reach, share))
            chosen = np.flatnonzero(certificate.radius >= eps)
            smooth = "exact" if name == "linear" else "smooth"
            attacks = [
                CornerSearch(eps=eps, gradient=smooth),
                PGD(eps=eps, n_iter=gradient_steps, loss="margin", gradient=smooth, random_state=0),
                APGD(eps=eps, n_iter=gradient_steps, gradient="identity", random_state=0),
                RandomNoise(eps=eps, n_restarts=10, random_state=0),
            ]
            for attack in attacks:
                attacked = attack.perturb(model, X[chosen], y[chosen])
                assert (model.predict(attacked) == y[chosen]).all(), (name, eps, attack)
            # Images just inside their radius: the sharpest test of rounding.
            n_pairs += len(chosen)
        certain = np.flatnonzero((certificate.radius > 0) & np.isfinite(certificate.radius))
        edge = certain[np.argsort(certificate.radius[certain])[-40:]]
        for i in edge:
            eps = float(certificate.radius[i])
            attacked = CornerSearch(eps=eps, n_targets=9).perturb(model, X[[i]], y[[i]])
            assert (model.predict(attacked) == y[[i]]).all(), (name, eps)
        n_pairs += len(edge)
    return n_pairs


@pytest.mark.slow
def test_ten_thousand_pairs_on_digits_and_mnist(record_property):
    order = np.random.default_rng(0).permutation(len(LABELS))
    train, test = order[:1000], order[1000:]
    pairs = 0
    for dtype in (np.float64, np.float32):
        X = DIGITS.astype(dtype)
        models = _models_of((8, 8), small=True)
        pairs += _count_pairs(models, (X[train], LABELS[train]), (X[test], LABELS[test]), 20)
    if os.environ.get("SKROBUST_DATA"):
        from skrobust.datasets import load_dataset

        fit, held = (load_dataset("mnist", split=split, dtype="float32") for split in ("train", "test"))
        models = _models_of((28, 28), small=False)
        data = (fit.data[:4000], fit.target[:4000]), (held.data[:300], held.target[:300])
        pairs += _count_pairs(models, *data, 20)
    record_property("pairs", pairs)
    assert pairs >= 10_000

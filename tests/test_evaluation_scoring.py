"""Robust accuracy and scorers: against closed forms, and inside scikit-learn's searches."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust.attacks import FGSM, PGD
from skrobust.evaluation import (
    Corruption,
    TradeOff,
    corruptions_for,
    make_robust_scorer,
    paired_difference_interval,
    robust_accuracy,
    wilson_interval,
)
from skrobust.evaluation.scoring.robust import evenly_spread


@pytest.fixture(scope="module")
def pair():
    """Threes and sevens, and a linear classifier for them."""
    X, y = load_digits(return_X_y=True)
    chosen = np.isin(y, [3, 7])
    X, y = X[chosen] / 16, np.where(y[chosen] == 3, "three", "seven")
    return LogisticRegression(C=0.1).fit(X[:200], y[:200]), X[200:], y[200:]


class Breaker(BaseEstimator):
    """Puts the image at a place where the model is wrong, for some of the images."""

    threat_model = "white box"

    def __init__(self, which, far, eps=1.0, norm="linf"):
        self.which = which
        self.far = far
        self.eps = eps
        self.norm = norm

    def perturb(self, model, X, y):
        broken = np.array(X)
        broken[self.which] = self.far
        return broken


@given(st.integers(1, 500), st.data())
def test_wilson_interval_is_scipys(n, data):
    k = data.draw(st.integers(0, n))
    low, high = wilson_interval(k, n, 0.9)
    reference = binomtest(k, n).proportion_ci(0.9, method="wilson")
    assert low == pytest.approx(reference.low, abs=1e-12)
    assert high == pytest.approx(reference.high, abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1


def test_paired_interval_covers_the_truth_and_is_antisymmetric():
    rng = np.random.default_rng(0)
    covered, n = 0, 80
    for _ in range(1500):
        a = rng.random(n) < 0.8
        b = np.where(rng.random(n) < 0.7, a, rng.random(n) < 0.5)  # correlated; P(b) = 0.7 * 0.8 + 0.3 * 0.5
        difference, low, high = paired_difference_interval(a, b)
        covered += low <= 0.8 - (0.7 * 0.8 + 0.3 * 0.5) <= high
        mirrored = paired_difference_interval(b, a)
        assert mirrored == pytest.approx((-difference, -high, -low))
    assert 0.935 < covered / 1500 < 0.98
    same = np.ones(50, bool)
    difference, low, high = paired_difference_interval(same, same)
    assert difference == 0 and low < 0 < high


@pytest.mark.parametrize("eps", [0.0, 0.03, 0.1, 0.3])
def test_linear_classifier_against_its_closed_form(pair, eps):
    """Under l-infinity noise of eps a linear score falls by eps times the l1 norm of its weights, no more."""
    model, X, y = pair
    sign = np.where(y == model.classes_[1], 1, -1)
    expected = np.mean(sign * model.decision_function(X) - eps * np.abs(model.coef_).sum() > 0)
    assert robust_accuracy(model, X, y, FGSM(eps=eps, clip=None)) == expected
    climbed = robust_accuracy(model, X, y, PGD(eps=eps, n_iter=20, clip=None, random_state=0))
    assert climbed == pytest.approx(expected, abs=0.01)  # it may end short of the corner: an image in a hundred


def test_worst_case_is_per_image_not_per_attack(pair):
    model, X, y = pair
    right = model.predict(X) == y
    X, y = X[right][:20], y[right][:20]
    far = X[y == "seven"][0] if y[0] == "three" else X[y == "three"][0]
    same = np.flatnonzero(y == y[0])
    first, second = Breaker(same[:2], far), Breaker(same[2:5], far)
    assert robust_accuracy(model, X, y, first) == pytest.approx(18 / 20)
    assert robust_accuracy(model, X, y, second) == pytest.approx(17 / 20)
    assert robust_accuracy(model, X, y, [first, second]) == pytest.approx(15 / 20)
    assert robust_accuracy(model, X, y, [first, second], reduce="mean") == pytest.approx(17.5 / 20)
    assert make_robust_scorer([first, second])(model, X, y) == pytest.approx(15 / 20)


def test_an_attack_that_repairs_images_gains_the_defender_nothing(pair):
    model, X, y = pair
    flipped = np.where(y == "three", "seven", "three")
    rare = X[model.predict(X) == flipped][:1]
    X, y = np.concatenate([X[:10], rare]) if len(rare) else X[:10], y[:10]
    y = np.append(y, flipped[:1])[: len(X)]
    wrong = np.flatnonzero(model.predict(X) != y)
    if not wrong.size:
        y[0] = flipped[0]
        wrong = np.array([0])
    helper = Breaker(wrong, X[model.predict(X) == y[wrong[0]]][0])
    clean = np.mean(model.predict(X) == y)
    assert np.mean(model.predict(helper.perturb(model, X, y)) == y) > clean
    assert robust_accuracy(model, X, y, helper) == clean


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:360] / 16, y[:360]


def test_scorers_in_a_parallel_search_with_a_trade_off(digits):
    X, y = digits
    scoring = {
        "clean": "accuracy",
        "robust": make_robust_scorer(PGD(eps=0.1, n_iter=5, random_state=0), max_samples=60),
        "corrupted": make_robust_scorer(Corruption("gaussian_noise", 5, random_state=0)),
    }
    pipeline = make_pipeline(StandardScaler(with_std=False), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [0.001, 0.03, 1.0]}
    results = []
    for n_jobs in (None, 2):
        refit = TradeOff({"clean": 1, "robust": 2}, at_least={"clean": 0.8})
        search = GridSearchCV(pipeline, grid, scoring=scoring, refit=refit, cv=3, n_jobs=n_jobs)
        results.append(search.fit(X, y).cv_results_)
        means = {name: search.cv_results_[f"mean_test_{name}"] for name in scoring}
        mixed = np.where(means["clean"] >= 0.8, means["clean"] + 2 * means["robust"], -1)
        assert search.best_index_ == np.argmax(mixed)
        assert search.predict(X).shape == y.shape
        assert (means["robust"] < means["clean"]).all()
    for name in scoring:
        np.testing.assert_array_equal(results[0][f"mean_test_{name}"], results[1][f"mean_test_{name}"])


def test_cross_validate_and_pickle(digits):
    X, y = digits
    scorer = make_robust_scorer([FGSM(eps=0.05), Corruption(random_state=0)])
    model = LogisticRegression(max_iter=300)
    results = cross_validate(model, X, y, scoring={"clean": "accuracy", "robust": scorer}, cv=3, n_jobs=2)
    assert (results["test_robust"] <= results["test_clean"]).all()
    model.fit(X, y)
    assert pickle.loads(pickle.dumps(scorer))(model, X, y) == scorer(model, X, y)
    assert "FGSM(eps=0.05)" in repr(scorer) and "max_samples=7" in repr(make_robust_scorer(FGSM(), max_samples=7))


def test_max_samples_spreads_over_all_images(digits):
    X, y = digits
    model = LogisticRegression(max_iter=300).fit(X, y)
    seen = []

    class Spy(Breaker):
        def perturb(self, model, X, y):
            seen.append(len(X))
            return X

    scorer = make_robust_scorer(Spy([], 0), max_samples=50)
    scorer(model, X, y)
    assert seen == [50]
    scorer(model, X[:20], y[:20])
    assert seen[1] == 20


def test_invalid_trade_offs_are_refused():
    results = {"mean_test_clean": np.array([0.7, 0.9]), "mean_test_robust": np.array([0.5, np.nan])}
    assert TradeOff({"robust": 1})(results) == 0
    with pytest.raises(ValueError, match=r"No candidate satisfies at_least=.*clean 0\.9000"):
        TradeOff({"robust": 1}, at_least={"clean": 0.95})(results)
    with pytest.raises(ValueError, match=r"no score named 'noisy'.*\['clean', 'robust'\]"):
        TradeOff({"noisy": 1})(results)
    for weights in ({}, {"clean": -1}, {"clean": 0}, ["clean"]):
        with pytest.raises(ValueError, match="weights must be"):
            TradeOff(weights)(results)


def test_errors(pair):
    model, X, y = pair
    with pytest.raises(TypeError, match="Pass an instance"):
        make_robust_scorer(PGD)
    with pytest.raises(TypeError, match=r"needs a method perturb\(model, X, y\)"):
        robust_accuracy(model, X, y, 3)
    with pytest.raises(ValueError, match="'corruptions', got 'pgd'"):
        robust_accuracy(model, X, y, "pgd")
    with pytest.raises(ValueError, match="empty list"):
        make_robust_scorer([])
    with pytest.raises(ValueError, match="reduce must be 'worst' or 'mean', got 'min'"):
        robust_accuracy(model, X, y, FGSM(), reduce="min")
    with pytest.raises(ValueError, match="max_samples must be"):
        make_robust_scorer(FGSM(), max_samples=0)
    with pytest.raises(ValueError, match="0 <= n_correct <= n"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
        wilson_interval(1, 2, 95)
    with pytest.raises(ValueError, match="same images"):
        paired_difference_interval([True], [True, False])


@pytest.mark.parametrize("as_images", [False, True])
def test_a_scorer_of_all_corruptions_that_fit(pair, as_images):
    model, X, y = pair
    corruptions = corruptions_for(X, image_shape=(8, 8))
    each = [robust_accuracy(model, X[:40], y[:40], corruption) for corruption in corruptions]
    scorer = make_robust_scorer("corruptions", reduce="mean")
    seen, classifier = X[:40], model
    if as_images:
        seen, classifier = X[:40].reshape(-1, 8, 8), _OnImages(model)
    assert len(each) == 13 and scorer(classifier, seen, y[:40]) == pytest.approx(np.mean(each))
    assert repr(pickle.loads(pickle.dumps(scorer))) == "make_robust_scorer('corruptions', reduce='mean')"
    for word in ("corruption", "all"):
        with pytest.raises(ValueError, match="'corruptions', got"):
            make_robust_scorer(word)


class _OnImages(BaseEstimator):
    """A classifier of rows that takes images."""

    def __init__(self, model):
        self.model = model

    def predict(self, X):
        return self.model.predict(X.reshape(len(X), -1))


def test_sample_weights_are_requested(digits):
    X, y = digits
    weights = (np.arange(len(y)) % 3).astype(float)
    model = LogisticRegression(max_iter=200).fit(X[:180], y[:180])
    attack = FGSM(eps=0.05)
    scorer = make_robust_scorer(attack, max_samples=100)
    with pytest.raises(RuntimeError, match="enable_metadata_routing"):
        scorer.set_score_request(sample_weight=True)
    right = model.predict(attack.perturb(model, X[180:], y[180:])) == y[180:]
    expected = np.average(right, weights=weights[180:])
    assert robust_accuracy(model, X[180:], y[180:], attack, sample_weight=weights[180:]) == pytest.approx(expected)
    assert expected != right.mean()
    with config_context(enable_metadata_routing=True):
        chosen = evenly_spread(180, 100)
        assert scorer(model, X[180:], y[180:], sample_weight=weights[180:]) == pytest.approx(
            np.average(right[chosen], weights=weights[180:][chosen])
        )
        scorer = pickle.loads(pickle.dumps(make_robust_scorer(attack).set_score_request(sample_weight=True)))
        estimator = LogisticRegression(C=0.1, max_iter=200).set_fit_request(sample_weight=False)
        kwargs = {"cv": 2, "scoring": scorer}
        weighted = cross_validate(estimator, X, y, params={"sample_weight": weights}, **kwargs)["test_score"].mean()
        search = GridSearchCV(estimator, {"C": [0.1]}, cv=2, scoring={"robust": scorer}, refit="robust")
        assert search.fit(X, y, sample_weight=weights).best_score_ == pytest.approx(weighted)
        assert cross_validate(estimator, X, y, **kwargs)["test_score"].mean() != pytest.approx(weighted)
        with pytest.raises(UnsetMetadataPassedError):
            cross_validate(
                estimator, X, y, cv=2, scoring=make_robust_scorer(attack), params={"sample_weight": weights}
            )

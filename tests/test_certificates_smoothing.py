"""Randomized smoothing: the confidence level, radii of a classifier with known radii, seeds, contract."""

import matplotlib
import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import WaveletSparsifier
from skrobust.certificates import NoCertificateError, RandomizedSmoothingClassifier, certify
from skrobust.certificates.randomized_smoothing import clopper_pearson_lower
from skrobust.displays import CertifiedAccuracyDisplay

matplotlib.use("Agg")
DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS = DIGITS / 16


class FirstFeature(ClassifierMixin, BaseEstimator):
    """The sign of the first feature; smoothed, its radius at x is exactly ``|x[0]|``."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[(X[:, 0] > 0).astype(int)]


@parametrize_with_checks([RandomizedSmoothingClassifier(n0=5, n=25, sigma=0.1)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("p", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_lower_bound_misses_with_probability_alpha_at_most(p, alpha):
    """Exactly, over all outcomes of the binomial distribution; and not much more rarely, so that it is no loose one."""
    n = 400
    hits = np.arange(n + 1)
    misses = binom.pmf(hits, n, p)[clopper_pearson_lower(hits, n, alpha) > p].sum()
    assert alpha / 4 < misses <= alpha


def test_radii_exceed_the_true_ones_as_rarely_as_alpha_says():
    rng = np.random.default_rng(0)
    alpha = 0.05
    X = np.column_stack([rng.uniform(0.1, 0.4, 3000), rng.normal(size=3000)])
    y = np.tile([0, 1], 1500)
    model = RandomizedSmoothingClassifier(FirstFeature(), sigma=0.5, n0=20, n=200, alpha=alpha, random_state=1)
    labels, radii = model.fit(X, y).predict_with_radius(X)
    wrong = (radii > X[:, 0]) | ((labels == 0) & (radii > 0))
    assert alpha / 3 < wrong.mean() < binom.ppf(0.9999, len(X), alpha) / len(X)
    # Not vacuous either.
    assert np.median(radii[radii > 0] / X[radii > 0, 0]) > 0.6


def test_confidence_without_the_interval_is_caught(monkeypatch):
    """A certificate that takes the share of the votes for the probability fails the test above."""
    monkeypatch.setattr(
        "skrobust.certificates.randomized_smoothing.clopper_pearson_lower", lambda hits, n, alpha: np.asarray(hits) / n
    )
    with pytest.raises(AssertionError):
        test_radii_exceed_the_true_ones_as_rarely_as_alpha_says()


def test_largest_radius_is_that_of_unanimous_votes():
    X, y = np.array([[9.0], [-9.0]]), np.array([1, 0])
    model = RandomizedSmoothingClassifier(FirstFeature(), sigma=0.5, n=100, alpha=0.01).fit(X, y)
    _, radii = model.predict_with_radius(X)
    np.testing.assert_allclose(radii, 0.5 * norm.ppf(0.01 ** (1 / 100)), rtol=1e-8)


@pytest.fixture(scope="module")
def model():
    front = WaveletSparsifier("haar", n_nonzero_coefs=16, level=1, image_shape=(8, 8))
    pipeline = make_pipeline(front, LogisticRegression(max_iter=300))
    return RandomizedSmoothingClassifier(pipeline, n=200, random_state=0).fit(DIGITS[:900], LABELS[:900])


def test_votes_do_not_depend_on_the_batch(model):
    X = DIGITS[900:940]
    labels, radii = model.predict_with_radius(X)
    order = np.random.default_rng(0).permutation(len(X))
    again = RandomizedSmoothingClassifier.__new__(RandomizedSmoothingClassifier)
    again.__setstate__(model.__getstate__())
    again.set_params(batch_size=7)
    mixed, mixed_radii = again.predict_with_radius(X[order])
    np.testing.assert_array_equal(mixed, labels[order])
    np.testing.assert_array_equal(mixed_radii, radii[order])
    np.testing.assert_array_equal(model.predict(X[[3]]), model.predict(X)[[3]])


def test_certify_returns_its_radii(model):
    X, y = DIGITS[900:1000], LABELS[900:1000]
    certificate = certify(model, X, y, 0.1, norm="l2")
    labels, radii = model.predict_with_radius(X)
    right = certificate.correct & (labels == y)
    np.testing.assert_allclose(certificate.radius, np.where(right, radii, 0))
    np.testing.assert_array_equal(certificate.certified, right & (radii > 0.1))
    assert certificate.certified_accuracy > 0.5
    assert "confidence 0.999" in certificate.method
    with pytest.raises(NoCertificateError, match="l2 radii only, got norm='linf'"):
        certify(model, X, y, 0.1)


def test_predict_abstains_where_votes_are_even():
    X, y = np.array([[0.0], [5.0]]), np.array([0, 1])
    model = RandomizedSmoothingClassifier(FirstFeature(), n=100, abstain_label=-1, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), [-1, 1])
    assert model.predict_with_radius(X)[1][0] == 0


def test_noise_in_training_raises_certified_accuracy():
    X, y = DIGITS[900:1050], LABELS[900:1050]
    scores = []
    for n_augment in (0, 2):
        smoothed = RandomizedSmoothingClassifier(
            LogisticRegression(C=100, max_iter=300), sigma=0.5, n=200, n_augment=n_augment, random_state=0
        ).fit(DIGITS[:900], LABELS[:900])
        scores.append(certify(smoothed, X, y, 0.3, norm="l2").certified_accuracy)
    assert scores[1] > scores[0] + 0.03


def test_a_failed_fit_leaves_the_classifier_as_it_was(model):
    before = model.predict(DIGITS[900:905])
    with pytest.raises(ValueError):
        model.fit(DIGITS[:50], np.zeros(50))
    np.testing.assert_array_equal(model.predict(DIGITS[900:905]), before)


def test_curves_of_certificates(model):
    X, y = DIGITS[900:960], LABELS[900:960]
    linear = LogisticRegression(max_iter=300).fit(DIGITS[:900], LABELS[:900])
    certificates = {
        "smoothed": certify(model, X, y, 0.1, norm="l2"),
        "linear": certify(linear, X, y, 0.1, norm="l2"),
    }
    display = CertifiedAccuracyDisplay.from_certificates(certificates, baseline="linear")
    eps, accuracy, low, high = display.curves["smoothed"]
    np.testing.assert_allclose(accuracy, certificates["smoothed"].accuracy_at(eps))
    assert ((low <= accuracy + 1e-12) & (accuracy <= high + 1e-12)).all()
    assert display.ax_.get_ylabel() == "certified accuracy, %"
    np.testing.assert_allclose(display.lines_["linear"].get_ydata(), 100 * display.curves["linear"][1])
    single = CertifiedAccuracyDisplay.from_estimator(linear, X, y, eps=[0.1, 0], name="mine")
    np.testing.assert_allclose(single.lines_["mine"].get_xdata(), [0, 0.1])
    with pytest.raises(ValueError, match="one norm"):
        CertifiedAccuracyDisplay({**certificates, "other": certify(linear, X, y, 0.1)})
    with pytest.raises(ValueError, match="no radii"):
        CertifiedAccuracyDisplay({"linear": certify(linear, X, y, 0.1, radius=False)})

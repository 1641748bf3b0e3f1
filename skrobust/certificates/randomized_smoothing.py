"""`RandomizedSmoothingClassifier`: any classifier, smoothed by Gaussian noise, with l2 radii."""

import hashlib
from numbers import Integral, Real

import numpy as np
from scipy.stats import beta, binomtest, norm
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, validate_data
from tqdm import tqdm

from skrobust.signals import restored_on_error
from skrobust.signals.arrays import label_indices
from skrobust.signals.parameters import AT_LEAST_1, POSITIVE, parameter, parametrized

from .proofs import Proof
from .registry import NoCertificateError, register_certificate

_SELECTION, _ESTIMATION, _PREDICTION = range(3)
"""Streams of noise: to choose the class, to bound its probability, to predict."""


@parametrized
class RandomizedSmoothingClassifier(ClassifierMixin, BaseEstimator):
    """Predict the class that a classifier gives most often under Gaussian noise, with a radius within which it stays.

    The smoothed classifier is ``g(x) = argmax_c P(f(x + e) = c)`` with e normal of standard deviation sigma. If the
    class c has probability at least p > 1/2, then ``g(x + d) = c`` for all ``||d||_2 < sigma * Phi^-1(p)``, with Phi
    the distribution function of the normal distribution ([1]_, theorem 1). The classifier f may be anything: a Pipeline
    whose first step is a front end uses the front end as denoiser.

    Parameters
    ----------
    estimator : classifier or None, default=None
        The classifier f, a Pipeline for instance; a clone is fitted. For a classifier that is already fitted, pass
        ``FrozenEstimator(classifier)``. None: `LogisticRegression`.
    sigma : float, default=0.25
        Standard deviation of the noise, in the units of X. Larger values allow larger radii at lower accuracy.
    n0 : int, default=100
        Noisy images from which the class to certify is chosen.
    n : int, default=1000
        Noisy images from which its probability is bounded, and by which `predict` votes. The largest possible radius
        is ``sigma * Phi^-1(alpha^(1/n))``: 2.5 sigma for 1000 at the default alpha, 3.8 sigma for 100 000.
    alpha : float, default=0.001
        Probability that the radius of an image is wrong.
    n_augment : int, default=1
        Noisy copies of each training image on which the classifier is fitted. 0: fit on the images themselves.
    abstain_label : object, default=None
        What `predict` returns where the most frequent class is not significant at level alpha. None: that class.
    batch_size : int, default=1000
        Noisy images that are predicted at once.
    random_state : int, RandomState or None, default=None
        Seed of the noise. The noise of an image depends on this seed and on the image alone, not on its batch.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    estimator_ : classifier
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int

    See Also
    --------
    skrobust.certificates.certify : Certified accuracy; takes this classifier with ``norm="l2"``.

    Notes
    -----
    A radius belongs to g, whose probabilities are known only from samples. It holds with probability 1 - alpha per
    image over the noise, for an image that was chosen without knowledge of the seed. `predict` is a vote of n samples
    and may differ from g where two classes are about equally probable. The noise is drawn in floating point.

    References
    ----------
    .. [1] J. Cohen, E. Rosenfeld, Z. Kolter, "Certified adversarial robustness via randomized smoothing", ICML 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.certificates import RandomizedSmoothingClassifier, certify
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = RandomizedSmoothingClassifier(LogisticRegression(max_iter=500), sigma=0.25, random_state=0)
    >>> model.fit(X[:1300], y[:1300]).score(X[1300:1400], y[1300:1400]) > 0.8
    True
    >>> certificate = certify(model, X[1300:1400], y[1300:1400], 0.2, norm="l2")
    >>> bool(certificate.certified_accuracy > 0.6)
    True
    """

    estimator: object = parameter(None, HasMethods(["fit", "predict"]), positional=True)
    sigma: float = parameter(0.25, POSITIVE)
    n0: int = parameter(100, AT_LEAST_1)
    n: int = parameter(1000, AT_LEAST_1)
    alpha: float = parameter(0.001, Interval(Real, 0, 1, closed="neither"))
    n_augment: int = parameter(1, Interval(Integral, 0, None, closed="left"))
    abstain_label: object = parameter(None)
    batch_size: int = parameter(1000, AT_LEAST_1)
    random_state: object = parameter(None, "random_state")
    verbose: bool = parameter(False, "verbose")

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit the classifier on noisy copies of the images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        y : array-like of shape (n_samples,)

        Returns
        -------
        self
        """
        with restored_on_error(self):
            X, y = validate_data(self, X, y, dtype=(np.float64, np.float32), allow_nd=True)
            random = check_random_state(self.random_state)
            self._seed = int(random.randint(np.iinfo(np.int32).max))
            estimator = LogisticRegression() if self.estimator is None else clone(self.estimator)
            if self.n_augment:
                copies = np.concatenate([X] * self.n_augment)
                copies += (self.sigma * random.standard_normal(copies.shape)).astype(X.dtype)
                X, y = copies, np.concatenate([y] * self.n_augment)
            self.estimator_ = estimator.fit(X, y)
            self.classes_ = self.estimator_.classes_
        return self

    def predict(self, X):
        """Class of most of the n noisy images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        votes = self._votes(self._read(X), self.n, _PREDICTION)
        labels = self.classes_[votes.argmax(axis=1)]
        if self.abstain_label is None:
            return labels
        first, second = np.sort(votes, axis=1)[:, -2:].T[::-1]
        unsure = [binomtest(int(a), int(a + b)).pvalue > self.alpha for a, b in zip(first, second, strict=True)]
        dtype = np.result_type(labels, np.asarray(self.abstain_label))
        return np.where(unsure, np.asarray(self.abstain_label, dtype=dtype), labels.astype(dtype))

    def predict_proba(self, X):
        """Shares of the votes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._votes(self._read(X), self.n, _PREDICTION) / self.n

    def predict_with_radius(self, X):
        """Classes of the smoothed classifier, and l2 radii within which they hold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        radii : ndarray of shape (n_samples,)
            0 where the classifier abstains: the lower bound of the probability is not above 1/2.
        """
        X = self._read(X)
        chosen = self._votes(X, self.n0, _SELECTION).argmax(axis=1)
        counts = self._votes(X, self.n, _ESTIMATION)[np.arange(len(X)), chosen]
        probability = clopper_pearson_lower(counts, self.n, self.alpha)
        # Rounded inward: the functions of scipy are accurate to about 1e-13.
        radii = self.sigma * norm.ppf(np.maximum(probability * (1 - 1e-10), 0.5)) * (1 - 1e-10)
        return self.classes_[chosen], np.maximum(radii, 0.0)

    def _read(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=(np.float64, np.float32), allow_nd=True, reset=False)

    def _votes(self, X, n_draws, stream):
        """Votes for each class, of shape (n_samples, n_classes)."""
        votes = np.zeros((len(X), len(self.classes_)), dtype=np.int64)
        at_once = max(1, self.batch_size // n_draws)
        for start in tqdm(range(0, len(X), at_once), disable=not self.verbose, desc="noisy images", unit="batch"):
            rows = np.arange(start, min(start + at_once, len(X)))
            generators = [self._generator(X[i], stream) for i in rows]
            for first in range(0, n_draws, self.batch_size):
                n_now = min(self.batch_size, n_draws - first)
                shape = (n_now, *X.shape[1:])
                noise = np.stack([generator.standard_normal(shape, dtype=X.dtype) for generator in generators])
                noisy = X[rows][:, None] + X.dtype.type(self.sigma) * noise
                labels = self.estimator_.predict(noisy.reshape(-1, *X.shape[1:]))
                np.add.at(votes, (np.repeat(rows, n_now), np.searchsorted(self.classes_, labels)), 1)
        return votes

    def _generator(self, image, stream):
        """Noise of an image, by its values."""
        digest = hashlib.blake2b(np.ascontiguousarray(image, dtype=np.float64).tobytes(), digest_size=16).digest()
        return np.random.default_rng([self._seed, stream, int.from_bytes(digest, "little")])


def clopper_pearson_lower(n_hits, n, alpha):
    """Lower end of the one-sided Clopper-Pearson confidence interval of a probability.

    Parameters
    ----------
    n_hits : array-like of int
    n : int
        Number of trials.
    alpha : float
        Probability of an interval that misses.

    Returns
    -------
    ndarray
    """
    n_hits = np.asarray(n_hits)
    return np.where(n_hits > 0, beta.ppf(alpha, np.maximum(n_hits, 1), n - n_hits + 1), 0.0)


class SmoothingProof(Proof):
    """Radii of `RandomizedSmoothingClassifier`, each wrong with probability at most alpha."""

    def __init__(self, classifier, X, y):
        super().__init__(np.asarray(X), None, "l2", None)
        labels, radii = classifier.predict_with_radius(X)
        true = label_indices(np.asarray(y), classifier.classes_)
        found = label_indices(labels, classifier.classes_)
        # The theorem excludes the radius itself.
        self._radii = np.where(true == found, np.maximum(np.nextafter(radii, 0), 0.0), 0.0)
        self.method = (
            f"randomized smoothing, sigma = {classifier.sigma:g}, {classifier.n} samples: the smoothed classifier, "
            f"each image with confidence {1 - classifier.alpha:g}"
        )

    def holds(self, eps, index):
        return (self._radii[index] >= eps) & (self._radii[index] > 0)

    def radii(self):
        return self._radii


@register_certificate(RandomizedSmoothingClassifier)
def _prove(classifier, name, head, X, y, norm, clip):
    if norm != "l2":
        raise NoCertificateError(
            f"RandomizedSmoothingClassifier has l2 radii only, got norm={norm!r}. Use norm='l2'; an l-infinity ball of "
            "radius eps lies in the l2 ball of radius eps * sqrt(n_features)."
        )
    return SmoothingProof(classifier, X, y)

"""`certify`: predictions that no perturbation of a given size can change."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from sklearn.base import is_classifier
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skrobust.bridge.inputs import active_steps
from skrobust.estimators.polar.bounds import check_ball

from . import code_proof, network_proof, randomized_smoothing, wavelet_proof  # noqa: F401 (they register themselves)
from .linear_heads import linear_head
from .proofs import prove_linear
from .registry import NoCertificateError, certificate_of

try:
    from sklearn.frozen import FrozenEstimator
except ImportError:  # scikit-learn < 1.6
    FrozenEstimator = ()


@dataclass(frozen=True)
class Certificate:
    """Certified result for each image.

    Attributes
    ----------
    eps : float
    norm : str
    clip : tuple of float or None
    method : str
        Description of the method.
    is_exact : bool
        Whether every image that is not certified can be misclassified, up to rounding. False: the certificate is sound
        but may be conservative.
    correct : ndarray of bool of shape (n_samples,)
        Whether the model's own ``predict`` is correct on the image itself.
    certified : ndarray of bool of shape (n_samples,)
        Whether the prediction is proved correct on every image within `eps`.
    radius : ndarray of shape (n_samples,) or None
        Largest certified eps, 0 for misclassified images; None if not requested.
    """

    eps: float
    norm: str
    clip: tuple
    method: str
    is_exact: bool
    correct: np.ndarray
    certified: np.ndarray
    radius: np.ndarray

    @property
    def certified_accuracy(self):
        """Share of all images that are certified at `eps`."""
        return float(np.mean(self.certified))

    @property
    def accuracy(self):
        """Clean accuracy."""
        return float(np.mean(self.correct))

    def accuracy_at(self, eps):
        """Certified accuracy at other radii.

        Parameters
        ----------
        eps : float or array-like

        Returns
        -------
        float or ndarray
        """
        if self.radius is None:
            raise ValueError("accuracy_at needs radii: call certify with radius=True.")
        radii = np.asarray(eps, dtype=np.float64)
        shares = np.mean(self.correct & (self.radius >= radii[..., None]), axis=-1)
        return float(shares) if radii.ndim == 0 else shares

    def __str__(self):
        return (
            f"{self.certified_accuracy:.1%} of {len(self.correct)} images certified at {self.norm} eps = {self.eps:g} "
            f"({self.accuracy:.1%} correct without perturbation). {self.method[0].upper()}{self.method[1:]}."
        )


def certify(model, X, y, eps, *, norm="linf", clip=(0, 1), radius=True):
    """Prove which images are classified correctly under every perturbation of norm at most `eps`.

    Linear classifiers (also one-vs-rest, also after scalers, feature selection and PCA) can be certified behind a
    `PolarizingCoder`, a `WaveletSparsifier` or any step registered with `register_certificate`, and on the images
    themselves, in Pipelines and searches; networks as a `TorchClassifier`. Certificates account for all rounding
    errors, including those of the model.

    Parameters
    ----------
    model : fitted classifier or Pipeline
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        Images within `clip`.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float
        Largest perturbation, in the units of X.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip : pair of float or None, default=(0, 1)
        Range of valid values of perturbed images, as for attacks. None: no bounds.
    radius : bool, default=True
        Also find the largest eps at which each image is certified.

    Returns
    -------
    Certificate

    Raises
    ------
    NoCertificateError
        A ValueError that names the step without a certificate.

    Notes
    -----
    *Polarized code, linf.* Each atom can reach a range of levels (`PolarizingCoder.code_bounds`); the score difference
    to each other class is smallest if every atom has its worst level. For pixels this is exact; other atoms may not
    reach their worst levels together, so the bound is conservative. *l2, l1.* Changing a set of entries costs the
    attacker at least the sum of squares (absolute values) of the required changes of their responses, up to a constant
    of the dictionary. The fractional knapsack problem bounds the possible harm.

    *Wavelets.* For each possible magnitude of the K-th coefficient, the worst case over what may be kept: coefficients
    that surely stay, surely go, or may swap. This replaces the SNR condition of [1]_, whose proof covers only exactly
    K-sparse images.

    *Randomized smoothing, l2.* `RandomizedSmoothingClassifier`: the radius of each image holds with confidence
    1 - alpha, for the smoothed classifier.

    *Networks.* A `TorchClassifier` without a front end, by interval bounds from layer to layer. They are vacuous unless
    it was trained for them (``certified=IntervalBound(eps)``). In l2 and l1 the ball is replaced by the l-infinity ball
    that contains it.

    *Linear.* The margin divided by the dual norm of the difference of the weight vectors.

    References
    ----------
    .. [1] S. Gopalakrishnan, Z. Marzi, M. Cekic, U. Madhow, R. Pedarsani, "Robust adversarial learning via
       sparsifying front ends", arXiv:1810.10625.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import PolarizingCoder
    >>> from skrobust.certificates import certify
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = make_pipeline(PolarizingCoder(), LogisticRegression(C=0.1, max_iter=500)).fit(X[:1300], y[:1300])
    >>> certificate = certify(model, X[1300:], y[1300:], 0.1)
    >>> bool(certificate.certified_accuracy > 0.5), certificate.is_exact
    (True, True)
    >>> bool((certificate.radius[certificate.certified] >= 0.1).all())
    True
    """
    if not isinstance(eps, Real):
        raise ValueError(f"eps must be a number, got {eps!r}. Certificate.accuracy_at takes several.")
    steps = _steps(model)
    proof = _proof(model, steps, X, y, norm, clip)
    n = len(proof.values)
    radii = check_ball(eps, norm, clip, proof.values)
    correct = np.asarray(model.predict(X)) == np.asarray(y)
    certified = proof.holds(radii, np.arange(n)) & correct
    largest = None
    if radius:
        # Bisection ends just below the largest radius, so images certified at eps have at least eps.
        largest = np.where(correct, proof.radii(), 0.0)
        largest[certified] = np.maximum(largest, radii)[certified]
    return Certificate(
        eps=float(eps),
        norm=norm,
        clip=None if clip is None else tuple(clip),
        method=proof.method,
        is_exact=proof.is_exact,
        correct=correct,
        certified=certified,
        radius=largest,
    )


def _proof(model, steps, X, y, norm, clip):
    (name, front), rest = steps[0], steps[1:]
    for later_name, later in rest:
        if certificate_of(later) is not None:
            raise NoCertificateError(
                f"No certificate for step {later_name!r} ({type(later).__name__}) behind {name!r} "
                f"({type(front).__name__}): the front end must come first. Rescale X before the Pipeline."
            )
    build = certificate_of(front)
    if build is None:
        return prove_linear(linear_head(steps), X, y, norm, clip)
    if not rest and is_classifier(front):
        return build(front, name, None, X, y, norm, clip)
    if not rest:
        raise NoCertificateError(f"{type(model).__name__} has no classifier behind {type(front).__name__}.")
    return build(front, name, linear_head(rest), X, y, norm, clip)


def _steps(model, name=None):
    """The estimators inside a model, in order, with their names."""
    check_is_fitted(model)
    if isinstance(model, BaseSearchCV):
        if not hasattr(model, "best_estimator_"):
            raise NoCertificateError(f"{type(model).__name__} has no best_estimator_: fit it with refit=True.")
        return _steps(model.best_estimator_, name)
    if FrozenEstimator and isinstance(model, FrozenEstimator):
        return _steps(model.estimator, name)
    if isinstance(model, Pipeline):
        return [inner for step, part in active_steps(model) for inner in _steps(part, step)]
    return [(name, model)]

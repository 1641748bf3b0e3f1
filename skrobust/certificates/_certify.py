"""`certify`: which answers of a Pipeline no perturbation of a given size can change."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_array, check_is_fitted

from skrobust.coders import PolarizingCoder
from skrobust.coders._reach import check_ball
from skrobust.frontends import WaveletSparsifier
from skrobust.signals import is_tensor

from ._code_proof import CodeBoxProof, CodeBudgetProof
from ._errors import NoCertificateError
from ._linear_heads import linear_head
from ._linear_proof import LinearProof
from ._margins import Rivals
from ._wavelet_proof import WaveletProof

try:
    from sklearn.frozen import FrozenEstimator
except ImportError:  # younger than the oldest scikit-learn that we support
    FrozenEstimator = ()


@dataclass(frozen=True)
class Certificate:
    """What was proved of each image.

    Attributes
    ----------
    eps : float
    norm : str
    clip : tuple of float or None
    method : str
        How, in words.
    is_exact : bool
        Whether what is not certified can really be changed, but for rounding. False: the verdict is sound, and may be
        too careful.
    correct : ndarray of bool of shape (n_samples,)
        Whether the model's own ``predict`` is right on the image itself.
    certified : ndarray of bool of shape (n_samples,)
        Whether it is proved right on every image within `eps`.
    radius : ndarray of shape (n_samples,) or None
        Largest eps that was proved, 0 where the answer is wrong; None where it was not asked for.
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
        """Share of images answered rightly without perturbation."""
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
            f"({self.accuracy:.1%} right without perturbation). {self.method[0].upper()}{self.method[1:]}."
        )


def certify(model, X, y, eps, *, norm="linf", clip=(0, 1), radius=True):
    """Prove which images keep their right answer under every perturbation of norm at most `eps`.

    Knows linear classifiers (also one-vs-rest, also after scalers, feature selection and PCA) on a `PolarizingCoder`,
    on a `WaveletSparsifier`, or on the images themselves, in Pipelines and searches. All rounding, the model's own
    included, is bounded and counted against the certificate.

    Parameters
    ----------
    model : fitted classifier or Pipeline
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        In `clip`.
    y : array-like of shape (n_samples,)
        True labels.
    eps : float
        Largest perturbation, in the units of X.
    norm : {"linf", "l2", "l1"}, default="linf"
    clip : pair of float or None, default=(0, 1)
        Range of valid values, in which perturbed images stay, as for attacks. None: no bounds.
    radius : bool, default=True
        Also find the largest eps at which each image is certified.

    Returns
    -------
    Certificate

    Raises
    ------
    NoCertificateError
        A ValueError that names the step whose worst case is not known.
    ValueError
        If eps, norm or clip make no sense, or X lies outside `clip`.

    Notes
    -----
    *Polarized code, linf.* Each atom reaches a range of levels (`PolarizingCoder.code_bounds`); the score
    difference to each rival class is smallest where every atom is at its worst one. For pixels this is exact; other
    atoms are assumed to be there together even where they cannot. *l2, l1.* Changing a set of entries costs the
    attacker at least the sum of the squares (absolute values) of what their responses must move by, up to a
    constant of the dictionary; the fractional knapsack of what can be changed is an upper bound of the harm.

    *Wavelets.* The gap between the K-th and the next coefficient must exceed what the two can move by. It replaces the
    SNR condition of [1]_, whose proof covers exactly K-sparse images only.

    *Linear.* The margin over the dual norm of the difference of the weight vectors.

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
    proof = _proof(model, steps, X, y, eps, norm, clip)
    n = len(proof.values)
    radii = check_ball(eps, norm, clip, proof.values)
    correct = np.asarray(model.predict(X)) == np.asarray(y)
    certified = proof.holds(radii, np.arange(n)) & correct
    largest = None
    if radius:
        # Bisection ends just below a largest radius that is itself certified.
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


def _proof(model, steps, X, y, eps, norm, clip):
    (name, front), rest = steps[0], steps[1:]
    for later_name, later in rest:
        if isinstance(later, (PolarizingCoder, WaveletSparsifier)):
            raise NoCertificateError(
                f"No certificate for step {later_name!r} ({type(later).__name__}) behind {name!r} "
                f"({type(front).__name__}): the front end must come first. Rescale X before the Pipeline."
            )
    if not isinstance(front, (PolarizingCoder, WaveletSparsifier)):
        head = linear_head(steps)
        values = check_array(X, dtype=(np.float64, np.float32), input_name="X")
        check_ball(eps, norm, clip, values)
        return LinearProof(values, _rivals(head, y), norm, clip)
    head = linear_head(rest) if rest else None
    if head is None:
        raise NoCertificateError(f"{type(model).__name__} has no classifier behind {type(front).__name__}.")
    values = front._read_signals(X, reset=False).values
    if is_tensor(values):
        values = values.detach().cpu().numpy()
    check_ball(eps, norm, clip, values)
    if isinstance(front, WaveletSparsifier):
        return WaveletProof(front, name, values, _rivals(head, y), norm, clip)
    if front.output == "reconstruction":
        matrix, offset = front._decoder()
        _refuse_clip_that_acts(front, name, matrix, offset)
        head = head.after(matrix, offset, int(np.diff(matrix.indptr).max(initial=0)) + 8)
    kind = CodeBoxProof if norm == "linf" else CodeBudgetProof
    return kind(front, values, _rivals(head, y), norm, clip)


def _refuse_clip_that_acts(coder, name, matrix, offset):
    """Reconstructions are affine in the code only where the clip changes none of them."""
    if coder.clip is None:
        return
    most = np.maximum(matrix.toarray(), 0).sum(axis=1)
    least = np.minimum(matrix.toarray(), 0).sum(axis=1)
    if coder._switches.ternary:
        most, least = most - least, least - most
    low, high = (offset + least).min(), (offset + most).max()
    if low < coder.clip[0] or high > coder.clip[1]:
        raise NoCertificateError(
            f"No certificate through step {name!r} ({type(coder).__name__}): clip={tuple(coder.clip)!r} may cut "
            f"reconstructions, which can reach {low:.6g} to {high:.6g}. Set clip=None, or use output='code'."
        )


def _rivals(head, y):
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y must have shape (n_samples,), got {labels.shape}.")
    position = {label: i for i, label in enumerate(head.classes.tolist())}
    return Rivals(head, np.array([position.get(label, -1) for label in labels.tolist()], dtype=np.int64))


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
        kept = [(step, part) for step, part in model.steps if part is not None and not isinstance(part, str)]
        return [inner for step, part in kept for inner in _steps(part, step)]
    return [(name, model)]

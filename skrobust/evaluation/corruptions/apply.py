"""Common corruptions with CIFAR-10-C's constants: a function on images, and a class for scorers and reports."""

from numbers import Integral, Real

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state, gen_even_slices
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skrobust.signals import SignalLayout, documented_like, parameter, parametrized

from .kinds import KINDS

CORRUPTIONS = tuple(KINDS)


@validate_params(
    {
        "kind": [StrOptions(set(KINDS))],
        "severity": [Interval(Integral, 1, 5, closed="both")],
        "random_state": ["random_state"],
        "image_shape": [tuple, list, None],
        "data_range": [tuple, list],
        "n_jobs": [Integral, None],
        "strength": [Interval(Real, 0, None, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)
def corrupt(X, kind, severity=1, random_state=None, *, image_shape=None, data_range=(0, 1), n_jobs=None, strength=None):
    """Corrupt images as in CIFAR-10-C.

    Images are 8-bit, as in CIFAR-10-C: floats are first rounded to 256 levels, and the result is truncated to them.
    Each image has its own random stream, so the result does not depend on batches or threads.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        Images as uint8, or as floats within `data_range`. The four noises, "brightness" and "contrast" also take
        signals that are not images.
    kind : str
        One of ``skrobust.evaluation.CORRUPTIONS``; `corruptions_for` gives those that apply to X. "gaussian_noise",
        "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "defocus_blur", "glass_blur", "zoom_blur",
        "fog", "brightness", "contrast", "saturate" (colour only), "pixelate", "jpeg_compression".
    severity : int, 1 to 5, default=1
        Strength, as in CIFAR-10-C.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same corrupted images in every call.
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of flattened images.
    data_range : (float, float), default=(0, 1)
        The values that stand for black and white in a float `X`.
    n_jobs : int or None, default=None
        Number of threads; the result does not depend on it.
    strength : float or None, default=None
        The constant of the corruption, in place of that of `severity`: the standard deviation of Gaussian and speckle
        noise, the photons per unit of brightness of shot noise, the share of pixels hit by impulse noise, the radius of
        Gaussian blur, and so on. Only for kinds with one constant.

    Returns
    -------
    X_corrupted : ndarray of the shape of X
        uint8 for uint8, float32 for float32, float64 otherwise.

    Raises
    ------
    ValueError
        If `X` exceeds `data_range`, or the kind needs images or colours and `X` has none.

    References
    ----------
    D. Hendrycks, T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
    ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.evaluation import corrupt
    >>> X = np.full((2, 8, 8, 3), 0.5)
    >>> float(corrupt(X, "contrast", severity=5).mean().round(2))
    0.5
    >>> float(corrupt(X, "gaussian_noise", severity=5, random_state=0).std().round(2))
    0.1
    """
    X = _checked_images(X)
    low, high = _checked_range(data_range)
    recipe = KINDS[kind]
    signals = _checked_layout(kind, recipe, X, image_shape)
    images = _to_bytes(signals.values, low, high)
    entropy = check_random_state(random_state).randint(0, 2**32, size=4, dtype=np.uint32).tolist()
    constants = recipe.constants[severity - 1] if strength is None else _checked_strength(kind, strength)

    def work(part):
        out = np.empty_like(images[part])
        for position, index in enumerate(range(part.start, part.stop)):
            rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(index,)))
            out[position] = recipe.make(images[index], constants, rng).astype(np.uint8)
        return out

    parts = gen_even_slices(len(images), min(len(images), 4 * effective_n_jobs(n_jobs)))
    corrupted = np.concatenate(Parallel(n_jobs=n_jobs, prefer="threads")(delayed(work)(part) for part in parts))
    if X.dtype != np.uint8:
        corrupted = (low + (high - low) * (corrupted / 255)).astype(X.dtype)
    return signals.restore(corrupted)


@documented_like(corrupt)
@parametrized
class Corruption(BaseEstimator):
    """One kind of corruption at one severity, used like an attack in scorers, reports and displays.

    It does not depend on the classifier; an image counts as correct if the corrupted image is classified correctly.

    Parameters
    ----------
    kind : str, default="gaussian_noise"
        See `corrupt`.
    severity : int, 1 to 5, default=3
        Strength, as in CIFAR-10-C.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.evaluation import Corruption
    >>> noise = Corruption("shot_noise", severity=5, random_state=0)
    >>> noise.perturb(None, np.full((3, 16), 0.5)).shape
    (3, 16)
    """

    threat_model = "corruption"

    kind: str = parameter("gaussian_noise", positional=True)
    severity: int = parameter(3, positional=True)
    random_state: int | np.random.RandomState | None = parameter(None, positional=True)
    image_shape: tuple | None = parameter(None)
    data_range: tuple = parameter((0, 1))
    n_jobs: int | None = parameter(None)
    strength: float | None = parameter(None)

    def perturb(self, model, X, y=None):
        """`X` corrupted; `model` and `y` are not used.

        Returns
        -------
        ndarray of the shape of X
        """
        return corrupt(
            X,
            self.kind,
            self.severity,
            self.random_state,
            image_shape=self.image_shape,
            data_range=self.data_range,
            n_jobs=self.n_jobs,
            strength=self.strength,
        )

    def describe(self):
        """Settings for reports."""
        level = f"severity {self.severity}" if self.strength is None else f"strength {self.strength:.3g}"
        return {
            "name": f"{self.kind.replace('_', ' ')}, {level}",
            "threat_model": self.threat_model,
            **({"severity": self.severity} if self.strength is None else {"strength": self.strength}),
            "seed": self.random_state if isinstance(self.random_state, Integral) else None,
        }


N_LEVELS = 10
"""Levels of noise between the severities 1 and 5."""


@documented_like(corrupt)
def corruption_levels(kind, strengths=None, *, random_state=None, image_shape=None, data_range=(0, 1), n_jobs=None):
    """One `Corruption` for each of several continuous strengths, from weak to strong.

    Parameters
    ----------
    kind : str
        A kind with one constant: "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "gaussian_blur",
        "brightness", "contrast", "pixelate" or "jpeg_compression".
    strengths : array-like or None, default=None
        Constants, see `corrupt`. None: ten, in geometric steps from CIFAR-10-C's severity 1 to 5.
    random_state : int, RandomState instance or None, default=None
        Of each corruption.

    Returns
    -------
    list of Corruption

    Examples
    --------
    >>> from skrobust.evaluation import corruption_levels
    >>> [round(one.strength, 3) for one in corruption_levels("gaussian_noise")][::3]
    [0.04, 0.054, 0.074, 0.1]
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}.")
    if strengths is None:
        constants = KINDS[kind].constants
        _checked_strength(kind, constants[0])
        strengths = np.geomspace(constants[0], constants[-1], N_LEVELS)
    shared = {"image_shape": image_shape, "data_range": data_range, "n_jobs": n_jobs}
    return [
        Corruption(kind, random_state=random_state, strength=_checked_strength(kind, one), **shared)
        for one in strengths
    ]


def _checked_strength(kind, strength):
    constant = KINDS[kind].constants[0]
    if not isinstance(constant, Real):
        raise ValueError(f"kind={kind!r} has several constants: set severity, not strength.")
    return max(1, round(float(strength))) if isinstance(constant, int) else float(strength)


@documented_like(corrupt)
def corruptions_for(X, *, severity=3, image_shape=None, data_range=(0, 1), random_state=0, n_jobs=None):
    """One `Corruption` of every kind that applies to the samples: "saturate" needs colours, blurs need images.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        Only its shape is used.
    severity : int, 1 to 5, default=3
        Strength, as in CIFAR-10-C.
    random_state : int, RandomState instance or None, default=0
        Of each corruption.

    Returns
    -------
    list of Corruption
        In the order of `CORRUPTIONS`.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.evaluation import CORRUPTIONS, corruptions_for
    >>> grey = [one.kind for one in corruptions_for(np.zeros((1, 8, 8)))]
    >>> sorted(set(CORRUPTIONS) - set(grey))
    ['saturate']
    """
    layout = SignalLayout.infer(np.shape(X)[1:], image_shape)
    shared = {"image_shape": image_shape, "data_range": data_range, "n_jobs": n_jobs}
    return [
        Corruption(kind, severity, random_state, **shared)
        for kind, recipe in KINDS.items()
        if _mismatch(kind, recipe, layout) is None
    ]


def _checked_images(X):
    X = np.asarray(X)
    return check_array(
        X,
        dtype=np.uint8 if X.dtype == np.uint8 else (np.float64, np.float32),
        allow_nd=True,
        input_name="X",
        estimator="corrupt",
    )


def _checked_range(data_range):
    if len(data_range) != 2 or not data_range[0] < data_range[1]:
        raise ValueError(f"data_range must be (low, high) with low < high, got {data_range!r}.")
    return data_range


def _checked_layout(kind, recipe, X, image_shape):
    layout = SignalLayout.infer(X.shape[1:], image_shape)
    mismatch = _mismatch(kind, recipe, layout)
    if mismatch is not None:
        raise ValueError(f"{mismatch} corruptions_for(X) gives the kinds that apply.")
    return layout.place(X)


def _mismatch(kind, recipe, layout):
    """Why this kind does not apply to signals of this layout, or None."""
    if recipe.needs_image and len(layout.grid) != 2:
        return (
            f"kind={kind!r} needs images, but X has samples of shape {layout.grid}. "
            "Set image_shape=(height, width[, n_channels]) for flattened images."
        )
    if recipe.channels and layout.n_channels not in recipe.channels:
        numbers = " or ".join(map(str, recipe.channels))
        return f"kind={kind!r} needs {numbers} channels, but the images have {layout.n_channels}."
    return None


def _to_bytes(values, low, high):
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.min() < low or values.max() > high:
        raise ValueError(
            f"X must lie within data_range=({low}, {high}), but spans {values.min():.6g} to {values.max():.6g}. "
            "Rescale X, or set data_range to its values of black and white."
        )
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)

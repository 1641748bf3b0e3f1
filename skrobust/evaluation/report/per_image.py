"""Attacks with one box, mask or radius per image, restricted to some images or set to another radius."""

import numpy as np
from sklearn.base import clone

# Parameters that may have one row per image, of an attack or of the attack inside a transfer.
_NAMES = tuple(f"{prefix}{name}" for prefix in ("", "attack__") for name in ("clip", "mask", "eps"))


def for_images(attack, index, X):
    """An attack on X, restricted to ``X[index]``: with the matching rows of its clip, mask and eps.

    The same object if none of them has a row per image.
    """
    if not hasattr(attack, "get_params"):
        return attack
    parameters = attack.get_params()
    restricted = {name: rows(parameters[name], name, index, np.shape(X)) for name in _NAMES if name in parameters}
    changed = {name: value for name, value in restricted.items() if value is not parameters[name]}
    return clone(attack).set_params(**changed) if changed else attack


def rows(value, name, index, shape):
    """The rows of a clip, a mask or an eps for ``X[index]``, with X of the given shape."""
    if name.endswith("clip") and value is not None:
        low, high = (_rows_of(bound, index, shape) for bound in value)
        return value if low is value[0] and high is value[1] else (low, high)
    if name.endswith("eps") and np.ndim(value) == 1:
        if len(shape) == 2 and len(value) == shape[0] == shape[1] > 1:
            raise ValueError(
                f"eps of shape ({len(value)},) may mean one number per image or one per feature. Pass eps[:, None] for "
                "one per image, eps[None] for one per feature."
            )
        if len(value) == shape[0]:
            value = np.asarray(value).reshape(-1, *[1] * (len(shape) - 1))
    return _rows_of(value, index, shape)


def _rows_of(value, index, shape):
    if np.ndim(value) != len(shape) or len(value) != shape[0] or shape[0] == 1:
        return value
    return np.asarray(value)[index]


def is_per_image(value, ndim):
    """Whether a bound or a mask has one row per image, for X of `ndim` dimensions."""
    return np.ndim(value) == ndim and len(value) > 1


def at_radius(attack, eps):
    """A copy of `attack` with the radius `eps`; an array keeps its pattern, and `eps` becomes its largest value."""
    pattern = getattr(attack, "eps", None)
    if np.ndim(pattern) == 0:
        return clone(attack).set_params(eps=float(eps))
    pattern = np.asarray(pattern, dtype=float)
    return clone(attack).set_params(eps=eps * pattern / pattern.max())

"""Input of attacks: reading and checking X, y and parameters, and restoring the type of X."""

import hashlib

import numpy as np
import torch
from sklearn.utils import check_array, column_or_1d

from skrobust.bridge.inputs import check_feature_names
from skrobust.signals import is_tensor
from skrobust.signals.arrays import label_indices
from skrobust.signals.tensors import check_tensor, to_numpy

from .box import Box


def read_images(X, *, name, device=None, model=None):
    """Return X as a float32 or float64 tensor that shares no memory with it."""
    check_feature_names(model, X)
    if is_tensor(X):
        values = check_tensor(X, name=name).detach()
        return values.to(device if device is not None else values.device).clone()
    values = check_array(X, dtype=[np.float64, np.float32], allow_nd=True, input_name="X", estimator=name)
    # torch does not support negative strides.
    return torch.tensor(np.ascontiguousarray(values), device=device)


def summarize(value):
    """An array's shape, range and checksum as text, which identifies arrays in reports; other values unchanged."""
    if np.ndim(value) == 0:
        return value
    values = np.ascontiguousarray(to_numpy(value))
    checksum = hashlib.sha256(values.tobytes()).hexdigest()[:8]
    if values.dtype == bool:
        return f"{values.mean():.0%} of an array of shape {values.shape}, checksum {checksum}"
    return f"{values.min():.4g} to {values.max():.4g} in an array of shape {values.shape}, checksum {checksum}"


def restore_type(x, X):
    """`x` in the type of `X`: a tensor on its device, a data frame, or an ndarray."""
    if is_tensor(X):
        return x.to(X.device)
    if hasattr(X, "iloc"):
        return type(X)(x.cpu().numpy(), index=X.index, columns=X.columns)
    return x.cpu().numpy()


def read_labels(y, classes, n_samples, *, what):
    """Positions of the labels in `classes`; -1 for labels that are not classes of the model."""
    labels = to_numpy(y) if is_tensor(y) else y
    labels = column_or_1d(labels)
    if len(labels) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_samples}, {what} has {len(labels)}."
        )
    indices = label_indices(labels, classes)
    if (indices < 0).all():
        raise ValueError(
            f"{what} contains none of the model's classes: {what} begins with {labels[:3].tolist()}, classes_ with "
            f"{classes[:3].tolist()}. Pass labels of the type with which the model was fitted."
        )
    return indices


def read_box(clip, x):
    """The valid range as a `Box`; without bounds for None."""
    if clip is None:
        return Box.of(None, x)
    try:
        low, high = clip
        low, high = (torch.tensor(np.array(bound, dtype=np.float64), device=x.device) for bound in (low, high))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"clip must be None or a pair (low, high) of numbers or of arrays; got {clip!r}.") from error
    for bound in (low, high):
        _check_broadcast(bound, x, "clip must be a pair (low, high) of numbers, or of arrays")
    if not bool((low <= high).all()):
        raise ValueError(f"clip must be a pair (low, high) with low <= high; got {clip!r}.")
    tolerance = 1e-6 * torch.where(torch.isfinite(high - low), high - low, 1.0)
    if bool(((x < low - tolerance) | (x > high + tolerance)).any()):
        raise ValueError(
            f"X lies outside clip={clip!r}: its values go from {float(x.min()):.4g} to {float(x.max()):.4g}. "
            + _remedy(x)
        )
    return Box.of((_inward(low, x, torch.inf), _inward(high, x, -torch.inf)), x)


def read_mask(mask, x):
    """The features that may change, as a tensor of bool with the number of dimensions of `x`; None: all."""
    if mask is None:
        return None
    values = to_numpy(mask)
    if values.dtype != bool:
        raise ValueError(
            f"mask must be an array of bool, True where a feature may change; got dtype {values.dtype}. "
            "Pass mask.astype(bool)."
        )
    values = torch.as_tensor(values.copy(), device=x.device)
    _check_broadcast(values, x, "mask must be an array of bool")
    return values.reshape(*[1] * (x.ndim - values.ndim), *values.shape)


def read_radius(eps, x, norm):
    """The radius as a float64 tensor that broadcasts to `x`: one for all, one per image, or one per feature."""
    values = to_numpy(eps)
    try:
        values = torch.as_tensor(values.astype(np.float64), device=x.device)
    except (TypeError, ValueError) as error:
        raise ValueError(f"eps must be a number or an array of numbers; got {eps!r}.") from error
    if not bool((values >= 0).all()):
        raise ValueError(f"eps must not be negative or NaN; its smallest value is {float(values.min()):.4g}.")
    if values.ndim == 1:
        values = _per_image(values, x)
    _check_broadcast(values, x, "eps must be a number, one number per image, or an array")
    values = values.reshape(*[1] * (x.ndim - values.ndim), *values.shape)
    if norm != "linf" and values[0].numel() > 1:
        raise ValueError(
            f"norm={norm!r} has one eps per image, but eps has shape {tuple(values.shape)}. Pass one eps per feature "
            "with norm='linf' only; to fix features, pass mask=."
        )
    finite = torch.isfinite(values)
    if bool(finite.any()) and not bool(finite.all()):
        raise ValueError("eps must be finite for all images or infinite for all. Attack the two groups separately.")
    return values


def _per_image(eps, x):
    """A one-dimensional `eps` in a shape that broadcasts to `x`: one per image, or for 2-D `x` one per feature."""
    n_samples, n_features = len(x), x.shape[-1]
    if x.ndim == 2 and len(eps) == n_features > 1:
        if len(eps) == n_samples:
            raise ValueError(
                f"eps of shape ({len(eps)},) may mean one number per image or one per feature: X has equal "
                "numbers of both. Pass eps[:, None] for one per image, eps[None] for one per feature."
            )
        return eps
    if len(eps) != n_samples:
        raise ValueError(
            f"eps of shape ({len(eps)},) is one number per image, but X has {n_samples} images. For one per feature, "
            f"pass eps in a shape that broadcasts to X, such as {(1, *x.shape[1:])}."
        )
    return eps.reshape(-1, *[1] * (x.ndim - 1))


def _check_broadcast(values, x, what):
    """Raise an error unless `values` broadcast to `x` without enlarging it."""
    shape = tuple(values.shape)
    trailing = x.shape[x.ndim - len(shape) :] if len(shape) <= x.ndim else ()
    if len(trailing) != len(shape) or any(n not in (1, size) for n, size in zip(shape, trailing, strict=True)):
        raise ValueError(
            f"{what} that broadcast to X: of the shape of one sample, {tuple(x.shape[1:])}, for all images, or of "
            f"{tuple(x.shape)} for each; got shape {shape}."
        )


def _inward(bound, x, inside):
    """`bound` in the dtype of `x`, rounded towards `inside`, so that the box lies within `clip`."""
    stored = bound.to(x.dtype)
    outside = stored.double() > bound if inside < 0 else stored.double() < bound
    return torch.where(outside, torch.nextafter(stored, torch.full_like(stored, inside)), stored)


def _remedy(x):
    """What to do about images outside the box."""
    if bool((x == x.round()).all()) and float(x.min()) >= 0 and 1 < float(x.max()) <= 255:
        return (
            "They look like bytes: pass X / 255 to a model fitted on such values, or set clip=(0, 255) and eps in the "
            "same units."
        )
    return "Set clip to the range of valid values, such as (-1, 1), or to None for no bounds."

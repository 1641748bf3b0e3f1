"""X and y on their way into an attack and back."""

import numpy as np
import torch
from sklearn.utils import check_array, column_or_1d

from skrobust.bridge._inputs import check_feature_names
from skrobust.signals import is_tensor
from skrobust.signals._tensors import check_tensor


def read_images(X, *, name, device=None, model=None):
    """Return X as a float32 or float64 tensor that shares no memory with it.

    Raises
    ------
    ValueError
        If X is no array of finite numbers, or a data frame that `model` would refuse.
    """
    check_feature_names(model, X)
    if is_tensor(X):
        values = check_tensor(X, name=name).detach()
        return values.to(device if device is not None else values.device).clone()
    values = check_array(X, dtype=[np.float64, np.float32], allow_nd=True, input_name="X", estimator=name)
    # torch knows no negative strides.
    return torch.tensor(np.ascontiguousarray(values), device=device)


def give_back(x, X):
    """`x` as what `X` was: a tensor on its device, a data frame, or an ndarray."""
    if is_tensor(X):
        return x.to(X.device)
    if hasattr(X, "iloc"):
        return type(X)(x.cpu().numpy(), index=X.index, columns=X.columns)
    return x.cpu().numpy()


def read_labels(y, classes, n_samples, *, what):
    """Positions of the labels in `classes`; -1 for labels that the model does not know.

    Raises
    ------
    ValueError
        If the lengths differ, or the model knows none of the labels.
    """
    labels = y.detach().cpu().numpy() if is_tensor(y) else y
    labels = column_or_1d(labels)
    if len(labels) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_samples}, {what} has {len(labels)}."
        )
    position = {label: k for k, label in enumerate(classes.tolist())}
    found = np.array([position.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    if (found < 0).all():
        raise ValueError(
            f"{what} holds none of the model's classes: {what} begins with {labels[:3].tolist()}, classes_ with "
            f"{classes[:3].tolist()}. Pass the labels in the form in which the model was fitted."
        )
    return found


def read_box(clip, x):
    """The valid range as a pair of tensors, or None.

    Raises
    ------
    ValueError
        If `clip` is no range, or X does not lie in it.
    """
    if clip is None:
        return None
    try:
        low, high = clip
        low, high = (torch.tensor(np.array(bound, dtype=np.float64), device=x.device) for bound in (low, high))
        torch.broadcast_shapes(low.shape, high.shape, x.shape[1:])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"clip must be None or a pair (low, high) of numbers, or of arrays of the shape of one sample "
            f"{tuple(x.shape[1:])}; got {clip!r}."
        ) from error
    if not bool((low <= high).all()):
        raise ValueError(f"clip must be a pair (low, high) with low <= high; got {clip!r}.")
    tolerance = 1e-6 * torch.where(torch.isfinite(high - low), high - low, 1.0)
    if bool(((x < low - tolerance) | (x > high + tolerance)).any()):
        raise ValueError(
            f"X lies outside clip={clip!r}: its values go from {float(x.min()):.4g} to {float(x.max()):.4g}. "
            + _remedy(x)
        )
    return low.to(x.dtype), high.to(x.dtype)


def _remedy(x):
    """What to do about images outside the box."""
    if bool((x == x.round()).all()) and float(x.min()) >= 0 and 1 < float(x.max()) <= 255:
        return (
            "They look like bytes: pass X / 255 to a model that was fitted so, or set clip=(0, 255) and eps in the "
            "same units."
        )
    return "Set clip to the range of valid values, such as (-1, 1), or to None for no bounds."

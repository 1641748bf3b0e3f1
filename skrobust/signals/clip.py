"""Clipping with the derivative of exact arithmetic."""

import math
from numbers import Real

import numpy as np

from .tensors import is_tensor

ROUNDINGS = 32
"""Values up to this many rounding errors outside the range count as inside: the error of a sum of as many terms."""


def check_clip(clip):
    """Raise ValueError unless `clip` is None or a range.

    Parameters
    ----------
    clip : pair of float or None
        Lowest and highest value.
    """
    if clip is None:
        return
    bounds = tuple(clip) if hasattr(clip, "__len__") else ()
    are_numbers = len(bounds) == 2 and all(isinstance(bound, Real) and not math.isnan(bound) for bound in bounds)
    if not are_numbers or not bounds[0] < bounds[1]:
        raise ValueError(f"clip must be None or (lowest, highest) with lowest < highest, got {clip!r}.")


def clip_range(clip):
    """Lowest and highest valid value of any feature, for a `clip` of numbers or arrays; None for no bounds."""
    return None if clip is None else (float(np.min(clip[0])), float(np.max(clip[1])))


def clip_values(values, low, high):
    """Values clipped to [low, high].

    Rounding may move a reconstructed pixel at an end of the range (the black background of a digit) slightly outside,
    and plain clipping would then set its gradient to zero. Therefore the derivative is one where values are inside up
    to rounding: up to ``32 eps`` times the largest magnitude of the sample's values and the ends of the range. The
    result itself is clipped exactly.

    Parameters
    ----------
    values : ndarray or Tensor of shape (n_samples, ...)
    low, high : float
        May be infinite.

    Returns
    -------
    ndarray or Tensor of the shape of `values`

    Examples
    --------
    >>> import torch
    >>> from skrobust.signals import clip_values
    >>> X = torch.tensor([[-1e-17, 0.5, 1.5]], dtype=torch.float64, requires_grad=True)
    >>> clipped = clip_values(X, 0, 1)
    >>> clipped.sum().backward()
    >>> clipped.tolist(), X.grad.tolist()
    ([[0.0, 0.5, 1.0]], [[1.0, 1.0, 0.0]])
    """
    if not is_tensor(values):
        return values.clip(low, high)
    import torch

    clipped = values.clamp(low, high)
    if not torch.is_grad_enabled():
        return clipped
    unit = max((abs(float(end)) for end in (low, high) if math.isfinite(end)), default=0.0)
    largest = values.detach().abs()
    if values.ndim > 1:
        largest = largest.amax(tuple(range(1, values.ndim)), keepdim=True)
    margin = ROUNDINGS * torch.finfo(values.dtype).eps * largest.clamp_min(unit)
    loosely_clipped = torch.minimum(torch.maximum(values, low - margin), high + margin)
    return loosely_clipped + (clipped - loosely_clipped).detach()

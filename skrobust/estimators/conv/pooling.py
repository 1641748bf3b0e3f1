"""Pooling of convolutional codes: a few magnitudes per atom instead of one per position."""

import math

import numpy as np

from skrobust.signals import is_tensor


def pooled_shape(code_shape, size):
    """Shape of pooled codes of one sample: ``(*cells, n_components)``."""
    if size is None:
        return (*[1] * (len(code_shape) - 1), code_shape[-1])
    return (*(math.ceil(n / size) for n in code_shape[:-1]), code_shape[-1])


def pool_codes(codes, kind, size):
    """Largest magnitude ("max") or sum of magnitudes ("sum") of each atom over cells of `size` positions along each
    axis; None: one cell.
    """
    code_shape = tuple(codes.shape[1:])
    cells = pooled_shape(code_shape, size)[:-1]
    sizes = [n if size is None else size for n in code_shape[:-1]]
    margins = [c * s - n for c, s, n in zip(cells, sizes, code_shape[:-1], strict=True)]
    magnitudes = abs(codes)
    if any(margins):
        magnitudes = _padded(magnitudes, margins)
    split = [length for pair in zip(cells, sizes, strict=True) for length in pair]
    by_cell = magnitudes.reshape(codes.shape[0], *split, code_shape[-1])
    axes = tuple(range(2, 2 + 2 * len(cells), 2))
    if kind == "sum":
        return by_cell.sum(axes)
    return by_cell.amax(axes) if is_tensor(by_cell) else by_cell.max(axis=axes)


def _padded(values, margins):
    if not is_tensor(values):
        return np.pad(values, [(0, 0), *((0, m) for m in margins), (0, 0)])
    from torch.nn.functional import pad

    return pad(values, [0, 0, *(side for m in reversed(margins) for side in (0, m))])

"""Positions of the atoms of a convolutional dictionary on the grid of a signal."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from skrobust.signals import is_tensor

PADDINGS = ("same", "full", "valid", "circular")


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Positions of atoms along each axis of a grid.

    The atom at position p begins at pixel ``p * stride - offset``. Parts beyond the grid are cut off, or wrap around if
    `wraps` is true.
    """

    grid: tuple
    kernel_size: tuple
    stride: tuple
    offset: tuple
    code_grid: tuple
    wraps: bool

    @classmethod
    def of(cls, grid, kernel_size, padding="same", stride=1):
        """Geometry of a padding mode, or of a number of pixels at each edge as in torch; a ValueError if a kernel is
        larger than the grid where it must not be.
        """
        grid, kernel = tuple(grid), tuple(kernel_size)
        if isinstance(padding, Integral):
            padding = int(padding)
            if not 0 <= padding < min(kernel) or any(k > n + 2 * padding for k, n in zip(kernel, grid, strict=True)):
                raise ValueError(
                    f"padding={padding} does not go with kernels of {kernel} on a grid of {grid}: it must be at least "
                    "0 and smaller than the kernels, which must fit into the padded grid."
                )
        elif padding not in PADDINGS:
            names = ", ".join(map(repr, PADDINGS))
            raise ValueError(f"padding must be one of {names}, or an integer >= 0, got {padding!r}.")
        strides = (stride,) * len(grid) if isinstance(stride, Integral) else stride
        strides = tuple(strides) if hasattr(strides, "__len__") else ()
        if len(strides) != len(grid) or not all(isinstance(s, Integral) and s >= 1 for s in strides):
            raise ValueError(f"stride must be an integer >= 1 or {len(grid)} of them, got {stride!r}.")
        if padding in ("valid", "circular") and any(k > n for k, n in zip(kernel, grid, strict=True)):
            raise ValueError(
                f"padding={padding!r} needs kernels no larger than the signal, got kernels of {kernel} on a grid of "
                f"{grid}. Use padding='same' or 'full', or smaller kernels."
            )
        if isinstance(padding, int):
            offset = (padding,) * len(grid)
            spans = tuple(n + 2 * padding - k + 1 for n, k in zip(grid, kernel, strict=True))
        else:
            offset = {
                "same": tuple((k - 1) // 2 for k in kernel),
                "full": tuple(k - 1 for k in kernel),
            }.get(padding, (0,) * len(grid))
            spans = {
                "full": tuple(n + k - 1 for n, k in zip(grid, kernel, strict=True)),
                "valid": tuple(n - k + 1 for n, k in zip(grid, kernel, strict=True)),
            }.get(padding, grid)
        code_grid = tuple(math.ceil(span / s) for span, s in zip(spans, strides, strict=True))
        return cls(grid, kernel, strides, offset, code_grid, padding == "circular")

    @property
    def extent(self):
        """Pixels from the start of the first atom to the end of the last, along each axis."""
        return tuple((p - 1) * s + k for p, s, k in zip(self.code_grid, self.stride, self.kernel_size, strict=True))

    @property
    def circle(self):
        """The grid if atoms wrap around, else None."""
        return self.grid if self.wraps else None

    @property
    def is_dense(self):
        """Whether every atom covers the whole grid once, so that the operator is a matrix product."""
        return self.kernel_size == self.grid and self.n_positions == 1 and not any(self.offset)

    @property
    def n_positions(self):
        """Positions of one atom."""
        return math.prod(self.code_grid)


def overlap_distances(n_positions, kernel_size, stride, circle=None):
    """Distances of positions along an axis whose atoms overlap: at most `near`, or at least `far`.

    Parameters
    ----------
    n_positions, kernel_size, stride : int
    circle : int or None, default=None
        Number of pixels if atoms wrap around, else None. If the stride does not divide it, the last and the first
        position are closer than a stride.

    Returns
    -------
    near, far : int
        `far` is `n_positions` (no such pair) if atoms do not wrap around.
    """
    near = (kernel_size - 1) // stride
    return near, n_positions if circle is None else max((circle - kernel_size) // stride + 1, 0)


def stripe_counts(n_atoms, kernel_size, stride, circle=None):
    """Number of atoms in each stripe, that is in all positions whose atoms overlap those at one position.

    Parameters
    ----------
    n_atoms : ndarray of int of shape ``(n_samples, *code_grid)``
        Number of atoms at each position.
    kernel_size, stride : tuple of int
    circle : tuple of int or None, default=None
        Number of pixels per axis if atoms wrap around, else None.

    Returns
    -------
    ndarray of int of shape ``(n_samples, *code_grid)``
    """
    circle = (None,) * len(kernel_size) if circle is None else circle
    for axis, (k, s, n) in enumerate(zip(kernel_size, stride, circle, strict=True), start=1):
        n_atoms = _overlapping_sum(n_atoms, *overlap_distances(n_atoms.shape[axis], k, s, n), axis)
    return n_atoms


def _overlapping_sum(n_atoms, near, far, axis):
    """Sum over positions at most `near` or at least `far` apart along an axis, each counted once."""
    n = n_atoms.shape[axis]
    sums = np.concatenate([np.zeros_like(n_atoms.take([0], axis)), n_atoms.cumsum(axis)], axis)
    positions = np.arange(n)
    first, last = np.maximum(positions - near, 0), np.minimum(positions + near + 1, n)
    # Wrapped part of the window: positions up to i - far, and from i + far on.
    before, after = np.clip(positions - far + 1, 0, first), np.clip(positions + far, last, n)
    inside = sums.take(last, axis) - sums.take(first, axis)
    return inside + sums.take(before, axis) + sums.take([n], axis) - sums.take(after, axis)


def least_over_cover(values, geometry):
    """For each pixel, the smallest of the values ``(n_samples, *code_grid)`` at positions whose atoms cover it, at most
    1.
    """
    for axis, length in enumerate(geometry.grid):
        values = values.swapaxes(1 + axis, -1)
        least = _ones(values, length)
        starts = np.arange(values.shape[-1]) * geometry.stride[axis] - geometry.offset[axis]
        for tap in range(geometry.kernel_size[axis]):
            pixels = starts + tap
            inside = np.arange(len(pixels))
            if geometry.wraps:
                pixels = pixels % length
            else:
                inside = np.flatnonzero((pixels >= 0) & (pixels < length))
            at = pixels[inside]
            here, there = values[..., inside], least[..., at]
            least[..., at] = here.minimum(there) if is_tensor(values) else np.minimum(here, there)
        values = least.swapaxes(1 + axis, -1)
    return values


def _ones(like, length):
    shape = (*like.shape[:-1], length)
    return like.new_ones(shape) if is_tensor(like) else np.ones(shape, dtype=like.dtype)

"""Filters, sizes and offsets of a periodized orthogonal wavelet transform."""

import math
from dataclasses import dataclass

import numpy as np
import pywt


@dataclass(frozen=True)
class WaveletPlan:
    """Parameters of one transform for the kernels.

    Attributes
    ----------
    taps : ndarray of shape (2, n_taps)
        Low-pass and high-pass filter g with ``band[i] = sum_t g[t] x[(2 i + t - n_taps / 2 + 1) mod n]``.
    sizes : tuple of tuple of int
        For each axis, the size before level 1, 2, … and after the last.
    starts : tuple of tuple of int
        For each axis and level, the start of its high band in the coefficients (PyWavelets' array order).
    shape : tuple of int
        Shape of the coefficients.
    is_orthonormal : bool
        Whether all sizes halve exactly.
    """

    taps: np.ndarray
    sizes: tuple
    starts: tuple
    shape: tuple
    is_orthonormal: bool

    @property
    def n_levels(self):
        return len(self.starts[0])

    @property
    def n_coefficients(self):
        """Coefficients of one channel, without the gaps that odd sizes leave between the bands of an array."""
        coarse = [math.prod(sizes) for sizes in zip(*self.sizes, strict=True)]
        return coarse[-1] + sum((2 ** len(self.sizes) - 1) * size for size in coarse[1:])

    def analysis_matrix(self, axis, level):
        """Matrix from the samples before a level (0-based) to its coefficients in array order; gaps are zero."""
        return self._with_gaps(axis, level, self._orthonormal(axis, level, repeat_last=True))

    def synthesis_matrix(self, axis, level):
        """Matrix from the coefficients of a level (0-based) to the samples before it."""
        n = self.sizes[axis][level]
        return self._with_gaps(axis, level, self._orthonormal(axis, level)[:, :n]).T

    def _orthonormal(self, axis, level, repeat_last=False):
        """One level on an even number of samples; `repeat_last` adds the column of a repeated last sample."""
        n = self.sizes[axis][level]
        even = n + n % 2
        n_taps = self.taps.shape[1]
        matrix = np.zeros((even, even))
        for band, taps in enumerate(self.taps):
            for i in range(even // 2):
                np.add.at(matrix[band * (even // 2) + i], (2 * i + 1 - n_taps // 2 + np.arange(n_taps)) % even, taps)
        if repeat_last and n % 2:
            matrix[:, n - 1] += matrix[:, n]
            matrix = matrix[:, :n]
        return matrix

    def _with_gaps(self, axis, level, matrix):
        half, start = self.sizes[axis][level + 1], self.starts[axis][level]
        padded = np.zeros((start + half, matrix.shape[1]))
        padded[:half], padded[start:] = matrix[:half], matrix[half:]
        return padded


def max_levels(grid):
    """Levels after which the smallest axis has one sample left.

    Examples
    --------
    >>> max_levels((28, 28)), max_levels((1,))
    (5, 0)
    """
    return int(min(grid) - 1).bit_length()


def exact_levels(grid):
    """The deepest level at which every size is halved exactly, at least 1.

    Examples
    --------
    >>> exact_levels((28, 28)), exact_levels((32, 48)), exact_levels((7, 8))
    (2, 4, 1)
    """
    return max(1, min((n & -n).bit_length() - 1 for n in grid))


def plan_wavelet(wavelet, grid, level):
    """Plan the transform of signals on `grid`; a ValueError that names the orthogonal families for other wavelets."""
    filters = orthogonal_wavelet(wavelet)
    taps = np.array([filters.dec_lo[::-1], filters.dec_hi[::-1]])
    sizes, starts, shape = [], [], []
    for size in grid:
        axis_sizes = [size]
        for _ in range(level):
            axis_sizes.append(-(-axis_sizes[-1] // 2))
        # In array order, the high band of a level follows all coarser levels.
        start, axis_starts = axis_sizes[-1], []
        for half in reversed(axis_sizes[1:]):
            axis_starts.append(start)
            start += half
        sizes.append(tuple(axis_sizes))
        starts.append(tuple(reversed(axis_starts)))
        shape.append(start)
    exact = all(size % 2 == 0 for axis in sizes for size in axis[:-1])
    return WaveletPlan(taps, tuple(sizes), tuple(starts), tuple(shape), exact and has_orthonormal_filters(taps))


def has_orthonormal_filters(taps):
    """Whether the filters are orthonormal to rounding: "dmey", a truncated filter, is orthonormal to 1e-3 only."""
    n = taps.shape[1]
    for shift in range(0, n, 2):
        gram = taps[:, shift:] @ taps[:, : n - shift].T
        if not np.allclose(gram, np.eye(2) * (shift == 0), rtol=0, atol=1e-9):
            return False
    return True


def orthogonal_wavelet(name):
    """The orthogonal `pywt.Wavelet` of that name, or a ValueError that names the orthogonal families."""
    if isinstance(name, pywt.Wavelet):
        wavelet = name
    else:
        if name not in pywt.wavelist(kind="discrete"):
            raise ValueError(
                f"wavelet={name!r} is not a discrete wavelet of PyWavelets. Orthogonal ones: {_orthogonal_families()}."
            )
        wavelet = pywt.Wavelet(name)
    if not wavelet.orthogonal:
        raise ValueError(
            f"wavelet={wavelet.name!r} is not orthogonal, so its largest coefficients are not the best approximation. "
            f"Orthogonal ones: {_orthogonal_families()}."
        )
    return wavelet


def _orthogonal_families():
    described = []
    for family in pywt.families():
        names = [name for name in pywt.wavelist(family) if name in pywt.wavelist(kind="discrete")]
        if names and pywt.Wavelet(names[0]).orthogonal:
            described.append(names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}")
    return ", ".join(described)

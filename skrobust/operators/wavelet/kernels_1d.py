"""The wavelet kernels for 1-D signals: as many signals at a time as a vector has lanes, time running down the rows."""

import numpy as np
from numba import prange

from skrobust.kernels.vectors import kernel, lanes

from .kernels import analyze_rows, synthesize_rows
from .selection import keep_largest


def level_table_1d(plan):
    """Length, half length and start of the high band of each level, one row a level."""
    (lengths,), (starts,) = plan.sizes, plan.starts
    return np.array([lengths[:-1], lengths[1:], starts], dtype=np.int64).reshape(3, -1).T.copy()


@kernel
def _analyze_lanes(coefficients, step, levels, taps, scratch):
    for j in range(levels.shape[0]):
        n, half, start = levels[j]
        scratch[: n * step] = coefficients[: n * step]
        analyze_rows(scratch, step, n, step, taps, coefficients, step, start)
        coefficients[half * step : start * step] = 0


@kernel
def _synthesize_lanes(coefficients, step, levels, taps, scratch):
    for j in range(levels.shape[0] - 1, -1, -1):
        n, _, start = levels[j]
        synthesize_rows(coefficients, step, start, n, step, taps, scratch, step)
        coefficients[: n * step] = scratch[: n * step]


@kernel
def _keep_in_lane(coefficients, step, lane, size, k, row, maxima, packed):
    """`keep_largest` on one lane."""
    for r in range(size):
        row[r] = coefficients[r * step + lane]
    keep_largest(row, row.size, k, maxima, packed)
    for r in range(size):
        coefficients[r * step + lane] = row[r]


@kernel
def _read_lanes(signals, first, coefficients, step):
    """Signals ``first ..`` of an array (n_samples, length, n_channels), one a lane; lanes without a signal are zero."""
    n, length, n_channels = signals.shape
    coefficients[: length * step] = 0
    for lane in range(min(step, n * n_channels - first)):
        i, channel = (first + lane) // n_channels, (first + lane) % n_channels
        for r in range(length):
            coefficients[r * step + lane] = signals[i, r, channel]


@kernel
def _write_lanes(coefficients, step, first, signals, lowest, highest):
    n, length, n_channels = signals.shape
    for lane in range(min(step, n * n_channels - first)):
        i, channel = (first + lane) // n_channels, (first + lane) % n_channels
        for r in range(length):
            signals[i, r, channel] = min(max(coefficients[r * step + lane], lowest), highest)


@kernel
def _workspace(size, taps):
    step = lanes(taps)
    row = np.zeros(-(-size // step) * step, taps.dtype)
    return step, np.zeros((size + 1) * step, taps.dtype), np.zeros((size + 1) * step, taps.dtype), row


@kernel(parallel=True)
def sparsify_signals(signals, result, size, levels, taps, ks, n_groups, lowest, highest):
    """`sparsify_images` for arrays of shape (n_samples, length, n_channels)."""
    n_rows = signals.shape[0] * signals.shape[2]
    for b in prange(-(-n_rows // lanes(taps))):
        step, coefficients, scratch, row = _workspace(size, taps)
        packed, maxima = np.zeros(row.size + step, taps.dtype), np.empty(n_groups, taps.dtype)
        _read_lanes(signals, b * step, coefficients, step)
        _analyze_lanes(coefficients, step, levels, taps, scratch)
        for lane in range(min(step, n_rows - b * step)):
            k = ks[(b * step + lane) % signals.shape[2]]
            _keep_in_lane(coefficients, step, lane, size, k, row, maxima, packed)
        _synthesize_lanes(coefficients, step, levels, taps, scratch)
        _write_lanes(coefficients, step, b * step, result, lowest, highest)


@kernel(parallel=True)
def analyze_signals(signals, result, levels, taps, ks, n_groups):
    """Coefficients (n_samples, n_channels, size) of signals; only the ``ks[c]`` largest where ks[c] > 0."""
    n_channels, size = result.shape[1:]
    n_rows = signals.shape[0] * n_channels
    for b in prange(-(-n_rows // lanes(taps))):
        step, coefficients, scratch, row = _workspace(size, taps)
        packed, maxima = np.zeros(row.size + step, taps.dtype), np.empty(n_groups, taps.dtype)
        _read_lanes(signals, b * step, coefficients, step)
        _analyze_lanes(coefficients, step, levels, taps, scratch)
        for lane in range(min(step, n_rows - b * step)):
            i, channel = (b * step + lane) // n_channels, (b * step + lane) % n_channels
            if ks[channel] > 0:
                _keep_in_lane(coefficients, step, lane, size, ks[channel], row, maxima, packed)
            for r in range(size):
                result[i, channel, r] = coefficients[r * step + lane]


@kernel(parallel=True)
def synthesize_signals(values, result, levels, taps, lowest, highest):
    """Signals (n_samples, length, n_channels) of coefficients (n_samples, n_channels, size)."""
    n, n_channels, size = values.shape
    for b in prange(-(-n * n_channels // lanes(taps))):
        step, coefficients, scratch, _ = _workspace(size, taps)
        for lane in range(min(step, n * n_channels - b * step)):
            i, channel = (b * step + lane) // n_channels, (b * step + lane) % n_channels
            for r in range(size):
                coefficients[r * step + lane] = values[i, channel, r]
        _synthesize_lanes(coefficients, step, levels, taps, scratch)
        _write_lanes(coefficients, step, b * step, result, lowest, highest)

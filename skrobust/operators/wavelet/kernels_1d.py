"""The wavelet kernels for 1-D signals: one signal per lane, with time along the rows."""

import numpy as np

from skrobust.kernels.memory import zeros
from skrobust.kernels.vectors import kernel, lanes, take_number

from .kernels import analyze_rows, clear, copy, synthesize_rows
from .selection import keep_largest


def level_table_1d(plan):
    """Length, half length and start of the high band, one row per level."""
    (lengths,), (starts,) = plan.sizes, plan.starts
    return np.array([lengths[:-1], lengths[1:], starts], dtype=np.int64).reshape(3, -1).T.copy()


@kernel
def _analyze_lanes(coefficients, step, levels, taps, scratch):
    for j in range(levels.shape[0]):
        n, half, start = levels[j]
        copy(coefficients, scratch, n * step)
        analyze_rows(scratch, step, n, step, taps, coefficients, step, start)
        clear(coefficients, half * step, start * step)


@kernel
def _synthesize_lanes(coefficients, step, levels, taps, scratch):
    for j in range(levels.shape[0] - 1, -1, -1):
        n, _, start = levels[j]
        synthesize_rows(coefficients, step, start, n, step, taps, scratch, step)
        copy(scratch, coefficients, n * step)


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
    """Signals ``first ..`` of an array (n_samples, length, n_channels), one per lane; unused lanes are zero."""
    n, length, n_channels = signals.shape
    clear(coefficients, 0, length * step)
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
    row = zeros(-(-size // step) * step, taps)
    return step, zeros((size + 1) * step, taps), zeros((size + 1) * step, taps), row


@kernel
def sparsify_signals(signals, result, size, levels, taps, ks, n_groups, lowest, highest, next_group):
    """`sparsify_images` for arrays of shape (n_samples, length, n_channels)."""
    n_rows = signals.shape[0] * signals.shape[2]
    step, coefficients, scratch, row = _workspace(size, taps)
    packed, maxima = zeros(row.size + step, taps), zeros(n_groups, taps)
    first = take_number(next_group) * step
    while first < n_rows:
        _read_lanes(signals, first, coefficients, step)
        _analyze_lanes(coefficients, step, levels, taps, scratch)
        for lane in range(min(step, n_rows - first)):
            k = ks[(first + lane) % signals.shape[2]]
            _keep_in_lane(coefficients, step, lane, size, k, row, maxima, packed)
        _synthesize_lanes(coefficients, step, levels, taps, scratch)
        _write_lanes(coefficients, step, first, result, lowest, highest)
        first = take_number(next_group) * step


@kernel
def analyze_signals(signals, result, levels, taps, ks, n_groups, next_group):
    """Coefficients (n_samples, n_channels, size) of signals; only the ``ks[c]`` largest where ks[c] > 0."""
    n_channels, size = result.shape[1:]
    n_rows = signals.shape[0] * n_channels
    step, coefficients, scratch, row = _workspace(size, taps)
    packed, maxima = zeros(row.size + step, taps), zeros(n_groups, taps)
    first = take_number(next_group) * step
    while first < n_rows:
        _read_lanes(signals, first, coefficients, step)
        _analyze_lanes(coefficients, step, levels, taps, scratch)
        for lane in range(min(step, n_rows - first)):
            i, channel = (first + lane) // n_channels, (first + lane) % n_channels
            if ks[channel] > 0:
                _keep_in_lane(coefficients, step, lane, size, ks[channel], row, maxima, packed)
            for r in range(size):
                result[i, channel, r] = coefficients[r * step + lane]
        first = take_number(next_group) * step


@kernel
def synthesize_signals(values, result, levels, taps, lowest, highest, next_group):
    """Signals (n_samples, length, n_channels) of coefficients (n_samples, n_channels, size)."""
    n, n_channels, size = values.shape
    step, coefficients, scratch, _ = _workspace(size, taps)
    first = take_number(next_group) * step
    while first < n * n_channels:
        for lane in range(min(step, n * n_channels - first)):
            i, channel = (first + lane) // n_channels, (first + lane) % n_channels
            for r in range(size):
                coefficients[r * step + lane] = values[i, channel, r]
        _synthesize_lanes(coefficients, step, levels, taps, scratch)
        _write_lanes(coefficients, step, first, result, lowest, highest)
        first = take_number(next_group) * step

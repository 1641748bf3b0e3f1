"""Fused kernels: responses of filters, and the switches that turn responses into codes.

Vector lanes hold filters, registers hold a few positions; the responses of a signal stay in the cache of a core until
they are compared with thresholds. `weights` is flat: for each tap (row, column, channel) the filters, padded to whole
vectors. `geometry` holds image height, width times channels, kernel height, kernel width times channels, output height
and width, the step between rows, and that between columns times channels.
"""

import numpy as np

from skrobust.kernels.vectors import broadcast, fma, kernel, lanes, load, load_all, store_first, take_number


@kernel
def _correlate(pixels, start, geometry, weights, n_filters, responses, target):
    """Responses of one signal that begins at `start`, written from `target` on: position after position."""
    height, width, kernel_height, taps_per_row, rows, columns, row_step, column_step = geometry
    step = lanes(weights)
    padded = weights.size // (kernel_height * taps_per_row)
    zero = broadcast(weights.dtype.type(0))
    for r in range(rows):
        origin = start + r * row_step * width
        position = target + r * columns * n_filters
        for g in range(0, n_filters, step):
            n_lanes = min(step, n_filters - g)
            c = 0
            while c < columns:
                at = origin + c * column_step
                target_position = position + c * n_filters + g
                if c + 4 <= columns:
                    a0, a1, a2, a3 = zero, zero, zero, zero
                    for i in range(kernel_height):
                        x = at + i * width
                        w = i * taps_per_row * padded + g
                        for _ in range(taps_per_row):
                            tap = load(weights, w)
                            a0 = fma(load_all(pixels, x), tap, a0)
                            a1 = fma(load_all(pixels, x + column_step), tap, a1)
                            a2 = fma(load_all(pixels, x + 2 * column_step), tap, a2)
                            a3 = fma(load_all(pixels, x + 3 * column_step), tap, a3)
                            x += 1
                            w += padded
                    store_first(responses, target_position, a0, n_lanes)
                    store_first(responses, target_position + n_filters, a1, n_lanes)
                    store_first(responses, target_position + 2 * n_filters, a2, n_lanes)
                    store_first(responses, target_position + 3 * n_filters, a3, n_lanes)
                    c += 4
                else:
                    a0 = zero
                    for i in range(kernel_height):
                        x = at + i * width
                        w = i * taps_per_row * padded + g
                        for _ in range(taps_per_row):
                            a0 = fma(load_all(pixels, x), load(weights, w), a0)
                            x += 1
                            w += padded
                    store_first(responses, target_position, a0, n_lanes)
                    c += 1


@kernel
def _switch(responses, start, thresholds, n_thresholds, ternary, codes, target):
    """Codes of one signal: 1 above the threshold, else 0; ternary: also -1 below minus the threshold."""
    one, zero = codes.dtype.type(1), codes.dtype.type(0)
    if n_thresholds == 1:
        if ternary:
            for a in range(thresholds.size):
                up = one if responses[start + a] > thresholds[a] else zero
                down = one if -responses[start + a] > thresholds[a] else zero
                codes[target + a] = up - down
        else:
            for a in range(thresholds.size):
                codes[target + a] = one if responses[start + a] > thresholds[a] else zero
        return
    for j in range(thresholds.size):
        response = responses[start + j // n_thresholds]
        code = one if response > thresholds[j] else zero
        if ternary and -response > thresholds[j]:
            code = -one
        codes[target + j] = code


@kernel
def filter_responses(pixels, n_values, geometry, weights, n_filters, responses, block, next_block):
    """Responses of all signals of `n_values` values each, into the C-contiguous `responses` (n_samples, n_atoms)."""
    flat, n, n_atoms = responses.reshape(-1), responses.shape[0], responses.shape[1]
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            _correlate(pixels, i * n_values, geometry, weights, n_filters, flat, i * n_atoms)
        b = take_number(next_block)


@kernel
def encode_filters(
    pixels, n_values, geometry, weights, n_filters, n_atoms, thresholds, n_thresholds, ternary, codes, block, next_block
):
    """Codes of all signals, into the C-contiguous `codes` of shape (n_samples, n_atoms * n_thresholds)."""
    flat, n, n_codes = codes.reshape(-1), codes.shape[0], codes.shape[1]
    responses = np.empty(n_atoms, weights.dtype)
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            _correlate(pixels, i * n_values, geometry, weights, n_filters, responses, 0)
            _switch(responses, 0, thresholds, n_thresholds, ternary, flat, i * n_codes)
        b = take_number(next_block)


@kernel
def encode(responses, thresholds, n_thresholds, ternary, codes, block, next_block):
    """Codes of given responses of shape (n_samples, n_atoms)."""
    values, flat = responses.reshape(-1), codes.reshape(-1)
    n, n_atoms, n_codes = responses.shape[0], responses.shape[1], codes.shape[1]
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            _switch(values, i * n_atoms, thresholds, n_thresholds, ternary, flat, i * n_codes)
        b = take_number(next_block)


@kernel
def count(responses, scale, groups, lowest, bins_per_unit, magnitudes, counts):
    """Add the responses, divided by `scale`, to the histograms of their groups; outliers go to the end bins."""
    last = counts.shape[1] - 1
    for i in range(responses.shape[0]):
        for a in range(responses.shape[1]):
            value = responses[i, a] / scale[a]
            if magnitudes:
                value = abs(value)
            position = (value - lowest) * bins_per_unit
            # Compared as floats: NaN and values too large for an integer must not become an index.
            bin_number = 0 if not position > 0 else last if position >= last else int(position)
            counts[groups[a], bin_number] += 1


@kernel
def bound_pixels(signals, eps, thresholds, n_thresholds, ternary, lowest, highest, lower, upper, next_signal):
    """Exact bounds of codes of single values over [x - eps, x + eps] intersected with [lowest, highest]."""
    n_codes = thresholds.size
    i = take_number(next_signal)
    while i < signals.shape[0]:
        for j in range(n_codes):
            x, t = np.float64(signals[i, j // n_thresholds]), thresholds[j]
            low = lowest > t or _exceeds(x, -eps[i], t)
            high = highest > t and _exceeds(x, eps[i], t)
            least, greatest = np.int8(low), np.int8(high)
            if ternary:
                least_down = -highest > t or _exceeds(-x, -eps[i], t)
                greatest_down = -lowest > t and _exceeds(-x, eps[i], t)
                least -= np.int8(greatest_down)
                greatest -= np.int8(least_down)
            lower[i, j], upper[i, j] = least, greatest
        i = take_number(next_signal)


@kernel
def _exceeds(a, b, c):
    """Whether the exact sum a + b exceeds c."""
    total = a + b
    if total != c:
        return total > c
    part = total - a
    return (a - (total - part)) + (b - part) > 0

"""Fused wavelet kernels: transform, select and invert one image at a time, in the cache of a core.

Vectors lie along rows, and filtering runs down the columns of a buffer; for the other axis the buffer is transposed
block by block. All buffers are flat, with rows padded to whole vectors. `levels` is a `level_table`; `taps` holds the
low-pass and then the high-pass filter of a `WaveletPlan`.
"""

import numpy as np

from skrobust.kernels.memory import rounded_up, zeros
from skrobust.kernels.vectors import (
    add,
    blend_first,
    broadcast,
    either,
    fma,
    inlined,
    is_zero,
    kernel,
    lanes,
    load,
    load_all,
    load_first,
    maximum,
    minimum,
    store,
    store_first,
    take_number,
    transpose_block,
)

from .selection import keep_largest


def level_table(plan):
    """Sizes and offsets of a 2-D plan for the kernels, one row per level.

    Height, width, half height, half width, and the first row and column of the high bands.
    """
    (heights, widths), (rows, columns) = plan.sizes, plan.starts
    table = [heights[:-1], widths[:-1], heights[1:], widths[1:], rows, columns]
    return np.array(table, dtype=np.int64).reshape(6, -1).T.copy()


@inlined
def _store_within(target, index, value, n_lanes):
    """Store the first `n_lanes` lanes of a vector, or all, in a buffer of this thread.

    The vector is blended with the old values, because a masked store delays the loads that follow it.
    """
    if n_lanes < lanes(target):
        value = blend_first(value, load(target, index), n_lanes)
    store(target, index, value)


@inlined
def _copy_padded(source, start, stride, height, width, target, target_stride):
    """Copy rows into a buffer with rows of whole vectors, padded with zeros."""
    step = lanes(source)
    for r in range(height):
        for v in range(0, width, step):
            store(target, r * target_stride + v, load_first(source, start + r * stride + v, width - v))


@inlined
def _copy_exactly(source, stride, height, width, target, start, target_stride):
    """Copy rows out of a buffer without touching neighbouring values, which other threads write."""
    step = lanes(source)
    for r in range(height):
        for v in range(0, width, step):
            store_first(target, start + r * target_stride + v, load(source, r * stride + v), width - v)


@inlined
def _copy_corner(source, stride, height, width, target, target_stride):
    """Copy rows between two buffers of this thread, preserving neighbouring values."""
    step = lanes(source)
    for r in range(height):
        for v in range(0, width, step):
            _store_within(target, r * target_stride + v, load(source, r * stride + v), width - v)


@inlined
def analyze_rows(source, stride, n, width, taps, target, target_stride, high_start):
    """Filter and halve the `n` periodic rows of `source`: low band to row 0 of `target`, high band to `high_start`.

    If `n` is odd, the last row is repeated; `source` has space for it.
    """
    step = lanes(source)
    zero = broadcast(source.dtype.type(0))
    n_taps = taps.size // 2
    if n % 2:
        for v in range(0, width, step):
            store(source, n * stride + v, load(source, (n - 1) * stride + v))
        n += 1
    end = n * stride
    first = (1 - n_taps // 2) % n * stride  # a remainder inside the loop would cost as much as the filtering
    for i in range(n // 2):
        to_low, to_high = i * target_stride, (high_start + i) * target_stride
        v = 0
        while v + step < width:  # two vectors share the taps
            low, high, low2, high2 = zero, zero, zero, zero
            at = first
            for t in range(n_taps):
                row, row2 = load(source, at + v), load(source, at + v + step)
                g, h = load_all(taps, t), load_all(taps, n_taps + t)
                low, high = fma(row, g, low), fma(row, h, high)
                low2, high2 = fma(row2, g, low2), fma(row2, h, high2)
                at += stride
                at = 0 if at == end else at
            store(target, to_low + v, low)
            store(target, to_high + v, high)
            v += step
            _store_within(target, to_low + v, low2, width - v)
            _store_within(target, to_high + v, high2, width - v)
            v += step
        if v < width:
            low, high = zero, zero
            at = first
            for t in range(n_taps):
                row = load(source, at + v)
                low, high = fma(row, load_all(taps, t), low), fma(row, load_all(taps, n_taps + t), high)
                at += stride
                at = 0 if at == end else at
            _store_within(target, to_low + v, low, width - v)
            _store_within(target, to_high + v, high, width - v)
        first += 2 * stride
        first = first - end if first >= end else first


@inlined
def _rows_are_zero(source, start, stride, n, width):
    united = broadcast(source.dtype.type(0))
    for r in range(n):
        for v in range(start + r * stride, start + r * stride + width, lanes(source)):
            united = either(united, load(source, v))
    return is_zero(united)


@inlined
def synthesize_rows(source, stride, high_start, n, width, taps, target, target_stride):
    """Adjoint of `analyze_rows`: bands at rows 0 and `high_start` of `source` to `n` rows of `target`.

    If `n` is odd, `target` has space for one more row. After a sparse selection the high band is often zero; half the
    work is then skipped.
    """
    step = lanes(source)
    zero = broadcast(source.dtype.type(0))
    n_taps = taps.size // 2
    lead = n_taps // 2 - 1
    n_half = (n + 1) // 2
    to_high = high_start * stride
    last = (n_half - 1) * stride
    low_only = _rows_are_zero(source, to_high, stride, n_half, width)
    end = 2 * n_half * target_stride
    to_even = -lead % (2 * n_half) * target_stride
    to_odd = (1 - lead) % (2 * n_half) * target_stride
    for q in range(n_half):
        for v in range(0, width, step):
            even, odd = zero, zero
            at = q * stride
            if low_only:
                for t in range(0, n_taps, 2):
                    low = load(source, at + v)
                    even, odd = fma(low, load_all(taps, t), even), fma(low, load_all(taps, t + 1), odd)
                    at = last if at == 0 else at - stride
            else:
                even2, odd2 = zero, zero
                for t in range(0, n_taps, 2):
                    low, high = load(source, at + v), load(source, at + to_high + v)
                    even, even2 = fma(low, load_all(taps, t), even), fma(high, load_all(taps, n_taps + t), even2)
                    odd, odd2 = fma(low, load_all(taps, t + 1), odd), fma(high, load_all(taps, n_taps + t + 1), odd2)
                    at = last if at == 0 else at - stride
                even, odd = add(even, even2), add(odd, odd2)
            store(target, to_even + v, even)
            store(target, to_odd + v, odd)
        to_even += 2 * target_stride
        to_even = to_even - end if to_even >= end else to_even
        to_odd += 2 * target_stride
        to_odd = to_odd - end if to_odd >= end else to_odd


@inlined
def clear(buffer, start, stop):
    """Zero whole vectors."""
    zero = broadcast(buffer.dtype.type(0))
    for v in range(start, stop, lanes(buffer)):
        store(buffer, v, zero)


@inlined
def copy(source, target, size):
    """Copy the first `size` values, whole vectors."""
    for v in range(0, size, lanes(source)):
        store(target, v, load(source, v))


@inlined
def _transpose(source, start, stride, height, width, target, target_stride):
    step = lanes(source)
    for i in range(0, height, step):
        for j in range(0, width, step):
            transpose_block(source, start + i * stride + j, stride, target, j * target_stride + i, target_stride)


@inlined
def read_image(pixels, start, height, width, n_channels, target, stride):
    """Copy one channel of a channels-last image into the corner of `target`."""
    if n_channels == 1:
        _copy_padded(pixels, start, width, height, width, target, stride)
        return
    for r in range(height):
        for c in range(width):
            target[r * stride + c] = pixels[start + (r * width + c) * n_channels]


@kernel
def _analyze_image(pixels, start, height, width, n_channels, coefficients, stride, levels, taps, first, second):
    """Coefficients of one channel of an image that starts at `start` among the pixels."""
    step = lanes(coefficients)
    # Blocks are whole vectors; they read in place if everything they read beyond the image still belongs to `pixels`.
    end = start + (rounded_up(height, step) + 1) * width + step
    in_place = n_channels == 1 and levels.shape[0] > 0 and end <= pixels.size
    if not in_place:
        read_image(pixels, start, height, width, n_channels, coefficients, stride)
    for j in range(levels.shape[0]):
        height, width, half_height, half_width = levels[j, 0], levels[j, 1], levels[j, 2], levels[j, 3]
        row_start, column_start = levels[j, 4], levels[j, 5]
        padded_height = rounded_up(height, step)
        total = column_start + half_width
        padded_width = rounded_up(total, step)
        # Along the rows: transposed, the columns of the image are the rows of the buffer.
        if j == 0 and in_place:
            _transpose(pixels, start, width, height, width, first, padded_height)
        else:
            _transpose(coefficients, 0, stride, height, width, first, padded_height)
        analyze_rows(first, padded_height, width, padded_height, taps, second, padded_height, column_start)
        clear(second, half_width * padded_height, column_start * padded_height)
        clear(second, total * padded_height, padded_width * padded_height)
        _transpose(second, 0, padded_height, total, height, first, padded_width)
        # At the finest level only zeros lie next to the coefficients, and may be overwritten.
        used = padded_width if j == 0 else total
        analyze_rows(first, padded_width, height, used, taps, coefficients, stride, row_start)
        for r in range(half_height, row_start):
            for v in range(r * stride, r * stride + total):
                coefficients[v] = 0


@kernel
def _synthesize_image(coefficients, stride, levels, taps, first, image, padded_width):
    """Invert `_analyze_image` into `image`, with rows `padded_width` apart. Overwrites the coefficients."""
    step = lanes(coefficients)
    if levels.shape[0] == 0:
        copy(coefficients, image, coefficients.size)
    for j in range(levels.shape[0] - 1, -1, -1):
        height, width, half_width = levels[j, 0], levels[j, 1], levels[j, 3]
        row_start, column_start = levels[j, 4], levels[j, 5]
        padded_height = rounded_up(height, step)
        total = column_start + half_width
        padded_total = rounded_up(total, step)
        synthesize_rows(coefficients, stride, row_start, height, total, taps, first, padded_total)
        _transpose(first, 0, padded_total, height, total, image, padded_height)
        synthesize_rows(image, padded_height, column_start, width, height, taps, first, padded_height)
        _transpose(first, 0, padded_height, width, height, image, rounded_up(width, step))
        if j > 0:
            _copy_corner(image, rounded_up(width, step), height, width, coefficients, stride)


@inlined
def write_clipped(source, stride, pixels, start, height, width, n_channels, lowest, highest):
    """Copy one channel, clipped to [lowest, highest], into a channels-last image."""
    if n_channels == 1:
        low, high = broadcast(lowest), broadcast(highest)
        for r in range(height):
            for v in range(0, width, lanes(source)):
                clipped = minimum(maximum(load(source, r * stride + v), low), high)
                store_first(pixels, start + r * width + v, clipped, width - v)
        return
    for r in range(height):
        for c in range(width):
            pixels[start + (r * width + c) * n_channels] = min(max(source[r * stride + c], lowest), highest)


@kernel
def _workspace(shape, taps):
    """Row stride of the coefficients, and the zeroed buffers of one thread: the coefficients, and two for passes."""
    step = lanes(taps)
    padded_height, padded_width = rounded_up(shape[0], step), rounded_up(shape[1], step)
    coefficients = zeros((padded_height + 1) * padded_width, taps)
    # Either orientation of the coefficients, and one more row for odd sizes.
    size = max((padded_height + 1) * padded_width, (padded_width + 1) * padded_height) + step
    return padded_width, coefficients, zeros(size, taps), zeros(size, taps)


@kernel
def sparsify_images(pixels, sparsified, sizes, shape, levels, taps, ks, n_groups, lowest, highest, block, next_block):
    """Keep the ``ks[c]`` largest coefficients of channel c of each image, invert, clip to [lowest, highest].

    `pixels` and `sparsified` are flat; `sizes` is (n_samples, height, width, n_channels).
    """
    n, height, width, n_channels = sizes
    stride, coefficients, first, second = _workspace(shape, taps)
    padded_width = rounded_up(width, lanes(taps))
    maxima = zeros(n_groups, taps)
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            for channel in range(n_channels):
                start = i * height * width * n_channels + channel
                _analyze_image(
                    pixels, start, height, width, n_channels, coefficients, stride, levels, taps, first, second
                )
                keep_largest(coefficients, shape[0] * stride, ks[channel], maxima, first)
                _synthesize_image(coefficients, stride, levels, taps, first, second, padded_width)
                write_clipped(second, padded_width, sparsified, start, height, width, n_channels, lowest, highest)
        b = take_number(next_block)


@kernel
def analyze_images(pixels, values, sizes, shape, levels, taps, ks, n_groups, block, next_block):
    """Coefficients (n_samples, n_channels, *shape) of images; only the ``ks[c]`` largest where ks[c] > 0."""
    n, height, width, n_channels = sizes
    stride, coefficients, first, second = _workspace(shape, taps)
    maxima = zeros(n_groups, taps)
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            for channel in range(n_channels):
                start = i * height * width * n_channels + channel
                _analyze_image(
                    pixels, start, height, width, n_channels, coefficients, stride, levels, taps, first, second
                )
                if ks[channel] > 0:
                    keep_largest(coefficients, shape[0] * stride, ks[channel], maxima, first)
                to = (i * n_channels + channel) * shape[0] * shape[1]
                _copy_exactly(coefficients, stride, shape[0], shape[1], values, to, shape[1])
        b = take_number(next_block)


@kernel
def synthesize_images(values, pixels, sizes, shape, levels, taps, lowest, highest, block, next_block):
    """Images of coefficients (n_samples, n_channels, *shape)."""
    n, height, width, n_channels = sizes
    stride, coefficients, first, second = _workspace(shape, taps)
    padded_width = rounded_up(width, lanes(taps))
    b = take_number(next_block)
    while b * block < n:
        for i in range(b * block, min(n, (b + 1) * block)):
            for channel in range(n_channels):
                start = (i * n_channels + channel) * shape[0] * shape[1]
                _copy_padded(values, start, shape[1], shape[0], shape[1], coefficients, stride)
                _synthesize_image(coefficients, stride, levels, taps, first, second, padded_width)
                to = i * height * width * n_channels + channel
                write_clipped(second, padded_width, pixels, to, height, width, n_channels, lowest, highest)
        b = take_number(next_block)

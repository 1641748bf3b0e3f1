"""The loops of `ConvolutionalStatistics`."""

import numpy as np

from skrobust.kernels.vectors import (
    broadcast,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    store,
    take_number,
)
from skrobust.kernels.workspace import fill, part, pointer
from skrobust.operators.conv.vectors import bits_nonzero, lowest_bit

FLUSH = 256
"""Number of coefficients whose products are summed in the precision of the codes before adding in double precision."""


@kernel
def list_by_atom(codes, next_free, positions, values, next_signal):
    """Write positions and values of the nonzero coefficients at the free entries of their atoms, or count them.

    Parameters
    ----------
    codes : ndarray of shape (n, positions * atoms)
    next_free : ndarray of int of shape (n, atoms)
        Incremented by the number of coefficients.
    positions, values : ndarray
        Empty: only count.
    """
    n_codes, n_atoms = codes.shape[1], next_free.shape[1]
    width = lanes(codes)
    n = take_number(next_signal)
    while n < codes.shape[0]:
        flat, free = pointer(codes, n * n_codes), pointer(next_free, n * n_atoms)
        i = 0
        while i < n_codes:
            if i + width <= n_codes:
                bits = bits_nonzero(load(flat, i))
                step = width
            else:
                bits, step = np.int64(flat[i] != 0), 1
            while bits != 0:
                index = i + lowest_bit(bits)
                bits &= bits - 1
                position = index // n_atoms
                k = index - position * n_atoms
                if values.size > 0:
                    positions[free[k]], values[free[k]] = position, flat[index]
                free[k] += 1
            i += step
        n = take_number(next_signal)


@inlined
def _add_multiple(target, t, source, s, n, value):
    """Add ``value * source[s : s + n]`` to ``target[t : t + n]``."""
    width = lanes(target)
    v = broadcast(value)
    i = 0
    while i + width <= n:
        store(target, t + i, fma(v, load(source, s + i), load(target, t + i)))
        i += width
    while i < n:
        target[t + i] += value * source[s + i]
        i += 1


@kernel
def _flush(partial, total, n):
    """Add partial sums to the totals, and set them to zero."""
    for i in range(n):
        total[i] += partial[i]
        partial[i] = 0


@inlined
def _add_neighbours(target, codes, y, x, value, shape, max_lag, wraps, n_atoms):
    """Add a multiple of the codes of the positions around (y, x), from its own row on."""
    height, width = shape
    span = 2 * max_lag[1] + 1
    for dy in range(max_lag[0] + 1):
        row = y + dy
        if wraps:
            row %= height
        elif row >= height:
            break
        i = 0 if wraps else max(0, max_lag[1] - x)
        while i < span:  # several pieces on a circle
            column = x - max_lag[1] + i
            if wraps:
                column %= width
            elif column >= width:
                break
            length = min(span - i, width - column)
            target_index, source = (dy * span + i) * n_atoms, (row * width + column) * n_atoms
            _add_multiple(target, target_index, codes, source, length * n_atoms, value)
            i += length


@kernel
def add_lags(
    codes, canvas, starts, positions, values, shape, max_lag, steps, wraps, row, lags, products, sums, next_atom
):
    """Add the products of each atom's coefficients with the codes around them, and with the signals they cover.

    Parameters
    ----------
    codes : ndarray of shape (n, positions * atoms)
    canvas : ndarray of shape (n, height, width)
        Signals with interleaved channels, padded with zeros such that the atom at position (y, x) begins at
        (y, x) times `steps`.
    starts : ndarray of int of shape (atoms * n + 1,)
        Start of the coefficients of each atom and signal in `positions` and `values`.
    shape, max_lag : tuple of int
        Rows and columns of positions; positions to either side whose atoms overlap.
    steps : tuple of int
        From position to position on the canvas.
    row : int
        Values of one row of an atom.
    lags : ndarray of shape (atoms, (max_lag[0] + 1) * (2 * max_lag[1] + 1) * atoms)
        ``lags[k][dy, dx + max_lag[1], l]`` is the sum over positions p of ``z_k[p] z_l[p + (dy, dx)]``.
    products : ndarray of shape (atoms, kernel_height * row)
    sums : Workspace
        Workspace for one row of lags and one of products.
    """
    n_samples, n_atoms = codes.shape[0], lags.shape[0]
    kernel_height = products.shape[1] // row
    lag_sums, product_sums = part(sums, 0), part(sums, 1)
    size = canvas.shape[1] * canvas.shape[2]
    fill(lag_sums, lags.shape[1], 0)
    fill(product_sums, products.shape[1], 0)
    k = take_number(next_atom)
    while k < n_atoms:
        n_pending = 0
        for n in range(n_samples):
            flat, signal = pointer(codes, n * codes.shape[1]), pointer(canvas, n * size)
            start, end = starts[k * n_samples + n], starts[k * n_samples + n + 1]
            for e in range(start, end):
                y, x = positions[e] // shape[1], positions[e] % shape[1]
                _add_neighbours(lag_sums, flat, y, x, values[e], shape, max_lag, wraps, n_atoms)
                index = y * steps[0] * canvas.shape[2] + x * steps[1]
                for u in range(kernel_height):
                    _add_multiple(product_sums, u * row, signal, index + u * canvas.shape[2], row, values[e])
            n_pending += end - start
            if n_pending >= FLUSH or n == n_samples - 1:
                _flush(lag_sums, pointer(lags, k * lags.shape[1]), lags.shape[1])
                _flush(product_sums, pointer(products, k * products.shape[1]), products.shape[1])
                n_pending = 0
        k = take_number(next_atom)


@kernel
def add_tap_pairs(lags, kernel_size, stride, gram, next_atom):
    """Add to ``gram``, for each pair of taps, the sum over positions at the distance of the taps.

    Parameters
    ----------
    lags : ndarray of shape (atoms, rows, columns, atoms)
        As of `add_lags`.
    kernel_size, stride : tuple of int
    gram : ndarray of shape (taps, taps)
    """
    n_atoms, max_lag = lags.shape[0], lags.shape[2] // 2
    taps = kernel_size[0] * kernel_size[1]
    k = take_number(next_atom)
    while k < n_atoms:
        for u in range(taps):
            uy, ux = u // kernel_size[1], u % kernel_size[1]
            gram_row = pointer(gram, (k * taps + u) * gram.shape[1])
            for v in range(taps):
                dy, dx = uy - v // kernel_size[1], ux - v % kernel_size[1]
                if dy % stride[0] or dx % stride[1]:
                    continue
                dy, dx = dy // stride[0], dx // stride[1]
                if dy >= 0:
                    for m in range(n_atoms):
                        gram_row[m * taps + v] += lags[k, dy, dx + max_lag, m]
                else:
                    for m in range(n_atoms):
                        gram_row[m * taps + v] += lags[m, -dy, max_lag - dx, k]
        k = take_number(next_atom)


@kernel
def write_design(maps, valid, grid, kernel_size, stride, offset, wraps, next_free, values, taps, next_signal):
    """Write the entries of the design matrix at the free entries of their rows; with empty output, count them."""
    per_atom = kernel_size[0] * kernel_size[1]
    n = take_number(next_signal)
    while n < maps.shape[0]:
        valid_pixels = valid[n % valid.shape[0]]
        for p in range(maps.shape[1]):
            for q in range(maps.shape[2]):
                is_covered = False  # any pixel covered by these atoms
                for u in range(kernel_size[0]):
                    for v in range(kernel_size[1]):
                        y, x = p * stride[0] - offset[0] + u, q * stride[1] - offset[1] + v
                        if wraps:
                            y, x = y % grid[0], x % grid[1]
                        is_covered = is_covered or (0 <= y < grid[0] and 0 <= x < grid[1] and valid_pixels[y, x])
                if not is_covered:
                    continue
                for k in range(maps.shape[3]):
                    coefficient = maps[n, p, q, k]
                    if coefficient == 0:
                        continue
                    for u in range(kernel_size[0]):
                        y = p * stride[0] - offset[0] + u
                        if wraps:
                            y %= grid[0]
                        if y < 0 or y >= grid[0]:
                            continue
                        for v in range(kernel_size[1]):
                            x = q * stride[1] - offset[1] + v
                            if wraps:
                                x %= grid[1]
                            if x < 0 or x >= grid[1] or not valid_pixels[y, x]:
                                continue
                            entry = next_free[n, y * grid[1] + x]
                            if values.size > 0:
                                values[entry] = coefficient
                                taps[entry] = k * per_atom + u * kernel_size[1] + v
                            next_free[n, y * grid[1] + x] = entry + 1
        n = take_number(next_signal)


@kernel
def add_gram(column_data, column_rows, column_starts, data, indices, starts, gram, next_row):
    """Add C^T S, where C has the pattern of S; one thread per row, so that the result does not depend on `n_jobs`."""
    f = take_number(next_row)
    while f < gram.shape[0]:
        row = pointer(gram, f * gram.shape[1])
        for c in range(column_starts[f], column_starts[f + 1]):
            coefficient = column_data[c]
            pixel = column_rows[c]
            for e in range(starts[pixel], starts[pixel + 1]):
                row[indices[e]] += coefficient * data[e]
        f = take_number(next_row)

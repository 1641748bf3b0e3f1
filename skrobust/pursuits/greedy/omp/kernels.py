"""Batch orthogonal matching pursuit on the CPU: blocks of signals, their products with all atoms, then atom by atom.

The triangular factor of the selected atoms is read from the basis rows of `steps`. One back-substitution at the end
gives the coefficients, and the squared residual is ||x||^2 - sum_k pivot_k projection_k^2.
"""

import numpy as np

from skrobust.kernels.memory import rounded_up, zeros, zeros_2d
from skrobust.kernels.products import inner_products
from skrobust.kernels.vectors import (
    aligned_zeros,
    broadcast,
    count_at_least,
    first_largest,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    load_first,
    read,
    resolution,
    store,
    take_number,
    total,
    write,
)

from .steps import gram_row, largest, next_by_correlation, next_by_gain

ROUNDINGS = 16
"""Correlations and pivots of at most this many rounding errors count as zero."""

SMALL = 2.0**-40
"""Largest correlations between this and its inverse are of ordinary size: their squares are in range in float32."""

SLACK, UNSURE = 4, 256
"""Squared residuals this close to `tol`, or this small initially, in rounding errors, are recomputed."""

NOT_CODED, DEPENDENT, UNMET = 0, 1, 2
"""Columns of `tally`: signals not coded (NaN, infinite, out of range), stopped by dependent atoms, not at `tol`."""

OBJECTIVE, IS_SHORT = 0, 1
"""Columns of `report`: half the squared norm of the residual, and whether the signal stopped before `tol`."""


@inlined
def _read_pivot(basis, at, stride, k, inverses, factor, w):
    """Squared norm of what the basis leaves of an atom; writes its negated weights in the basis to `factor`."""
    pivot = basis.dtype.type(1)
    for p in range(k):
        product = read(basis, at)
        weight = -product * read(inverses, p)
        write(factor, w + p, weight)
        pivot += product * weight
        at += stride
    return pivot


@inlined
def _solve(factor, projections, solution, k, capacity):
    """Coefficients of the `k` selected atoms, by back-substitution."""
    for q in range(k - 1, -1, -1):
        value = read(projections, q)
        at = (k - 1) * capacity + q
        for p in range(k - 1, q, -1):
            value += read(factor, at) * read(solution, p)
            at -= capacity
        write(solution, q, value)


@kernel
def _squared_residual(x, mask, row, atoms, width, buffers, k, masked_inv_norms, start, scale):
    """Squared norm of a signal minus its approximation, computed directly where the recursion is inaccurate."""
    _, _, factor, projections, _, solution, selected = buffers
    _solve(factor, projections, solution, k, selected.size)
    squared = 0.0
    for f in range(x.shape[1]):
        if masked_inv_norms.size > 0 and not mask[row, f]:
            continue
        r = x[row, f]
        for p in range(k):
            j = np.int64(selected[p]) - 1
            coefficient = solution[p] * scale
            if masked_inv_norms.size > 0:
                coefficient *= masked_inv_norms[start + j]
            r -= coefficient * atoms[f * width + j]
        squared += np.float64(r) * np.float64(r)
    return squared


@kernel
def workspace(like, width, max_atoms):
    """Zeroed buffers of one thread.

    The basis, with rows `width` plus one vector apart, because rows a power of two apart would share cache lines; the
    squared norms of what it leaves of the atoms; the triangular factor (negated, rows `capacity` apart), projections,
    inverse pivots, solution; the selected atoms, counted from 1.
    """
    capacity = rounded_up(max_atoms, lanes(like))
    return (
        aligned_zeros(max_atoms * (width + lanes(like)), like),
        aligned_zeros(width, like),
        aligned_zeros(max_atoms * capacity, like),
        aligned_zeros(capacity, like),
        aligned_zeros(capacity, like),
        aligned_zeros(capacity, like),
        aligned_zeros(capacity, like),
    )


@inlined
def _write_code(selected, solution, k, scale, inv_norms, masked_inv_norms, start, row, indices, values):
    """Write a code in the order of its atoms, and clear `selected` for the next signal."""
    for p in range(k):
        atom = read(selected, p)
        at = row + k
        for q in range(0, k, lanes(selected)):  # entries after the last atom are zero
            at -= count_at_least(load(selected, q), atom)
        j = np.int64(atom) - 1
        value = read(solution, p) * scale * read(inv_norms, j)
        if masked_inv_norms.size > 0:
            value *= read(masked_inv_norms, start + j)
        write(indices, at, np.int32(j))
        write(values, at, value)
    for q in range(0, k, lanes(selected)):
        store(selected, q, broadcast(selected.dtype.type(0)))


@inlined
def _is_zero(x, row):
    """Whether a signal is known and all zeros."""
    for f in range(x.shape[1]):
        if x[row, f] != 0:
            return False
    return x.shape[1] > 0


@kernel
def pursue_rows(
    correlations, n_rows, width, energies, by_gain, smallest, x, mask, atoms, masked_inv_norms, gram, column, inv_norms,
    squared_tol, indices, values, counts, report, tally, buffers,
):  # fmt: skip
    """Pursue the signals whose correlations are the rows of `correlations`, which are overwritten.

    Signals whose largest correlation is below `smallest` or above its inverse are only counted, except zero signals.
    Empty `squared_tol`: no tolerance. Nonempty `column`: `gram` holds a single row, computed from `atoms`. Empty
    `masked_inv_norms`: no missing features. `x` without features: residuals come from the recursion only.
    """
    basis, atom_residuals, factor, projections, inverses, solution, selected = buffers
    scalar = correlations.dtype.type
    max_atoms, capacity, stride = indices.size // max(1, n_rows), selected.size, width + lanes(correlations)
    noise = scalar(ROUNDINGS * resolution(correlations))
    has_tol, wants_energy = squared_tol.size > 0, squared_tol.size > 0 or report.size > 0
    for row in range(n_rows):
        start = row * width
        best, position = largest(correlations, start, width)
        top, j = first_largest(best, position)
        energy = energies[row]
        in_range = (top >= smallest and top * smallest <= 1) or (top == 0 and _is_zero(x, row))
        if not (in_range and top < np.inf and energy < np.inf):
            tally[NOT_CODED] += 1
            continue
        scale = scalar(1)
        if (top < SMALL or top * SMALL > 1) and top > 0:
            scale = top
            for i in range(start, start + width):
                correlations[i] /= scale
            top = scalar(1)
        floor = top * noise
        accurate_energy = energy  # the last one that was not computed by recursion
        if by_gain:
            for i in range(0, width, lanes(atom_residuals)):
                store(atom_residuals, i, broadcast(scalar(1)))
        k = 0
        unmet = has_tol
        while True:
            if has_tol:
                slack = SLACK * noise * accurate_energy
                if x.shape[1] > 0 and abs(energy - squared_tol[row]) <= slack:
                    energy = _squared_residual(x, mask, row, atoms, width, buffers, k, masked_inv_norms, start, scale)
                    accurate_energy = energy  # the last one that was not computed by recursion
                if energy <= squared_tol[row]:
                    unmet = False
                    break
            c = read(correlations, start + j)
            if k == max_atoms or not abs(c) > floor:
                break
            w = k * capacity
            pivot = _read_pivot(basis, j, stride, k, inverses, factor, w)
            if not pivot > noise:
                tally[DEPENDENT] += 1
                break
            inverse = scalar(1) / pivot
            c *= inverse
            write(projections, k, c)
            write(inverses, k, inverse)
            write(selected, k, scalar(j + 1))
            if wants_energy:
                energy -= np.float64(c) ** 2 * pivot * np.float64(scale) ** 2
            k += 1
            if k == max_atoms:
                continue
            g = j * width
            if column.size > 0:
                gram_row(atoms, width, j, mask, row, masked_inv_norms, start, column, gram)
                g = 0
            if by_gain:
                best, position = next_by_gain(
                    correlations, start, width, gram, g, basis, stride, factor, w, k - 1, c, inverse, atom_residuals,
                    noise,
                )  # fmt: skip
            else:
                best, position = next_by_correlation(
                    correlations, start, width, gram, g, basis, stride, factor, w, k - 1, c
                )  # fmt: skip
            j = first_largest(best, position)[1]
        counts[row] = k
        if wants_energy:
            if x.shape[1] > 0 and energy < UNSURE * noise * energies[row]:
                energy = _squared_residual(x, mask, row, atoms, width, buffers, k, masked_inv_norms, start, scale)
            is_short = unmet and energy > squared_tol[row] + noise * noise * energies[row]
            if is_short:
                tally[UNMET] += 1
            if report.size > 0:
                report[row, OBJECTIVE], report[row, IS_SHORT] = max(energy, 0.0) / 2, is_short
        _solve(factor, projections, solution, k, capacity)
        _write_code(selected, solution, k, scale, inv_norms, masked_inv_norms, start, row * max_atoms, indices, values)


@kernel
def squared_norms(x, n_rows, energies):
    """Squared norm in the precision of `x`, or in float64 if that over- or underflows."""
    flat, d = x.reshape(-1), x.shape[1]
    for i in range(n_rows):
        squares = broadcast(x.dtype.type(0))
        for v in range(0, d, lanes(x)):
            part = load_first(flat, i * d + v, d - v)
            squares = fma(part, part, squares)
        energies[i] = total(squares)
        if not (energies[i] > SMALL * SMALL and energies[i] < np.inf):
            energies[i] = 0
            for f in range(d):
                energies[i] += np.float64(x[i, f]) ** 2


@kernel
def pursue_signals(
    X, atoms, gram, inv_norms, by_gain, smallest, squared_tol, indices, values, counts, report, tally, block, next_block
):
    """Code signals (n_signals, n_features) by the columns of `atoms` (n_features, width), block after block.

    Each thread calls this with the same arguments. If `gram` is empty, its rows are computed when needed. `indices`
    and `values` have a row per signal, `tally` one per block of signals; `squared_tol` and `report` may be empty.
    """
    n, d = X.shape
    width = atoms.shape[1]
    columns = atoms.reshape(-1)
    buffers = workspace(atoms, width, indices.shape[1])
    products = aligned_zeros(block * width, atoms)
    energies = zeros(block, np.float64)
    empty, no_mask = zeros(0, atoms), zeros_2d(0, 0, np.bool_)
    column = zeros(d if gram.size == 0 else 0, atoms)
    rows = gram if gram.size > 0 else aligned_zeros(width, atoms)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        inner_products(X[lo:hi].reshape(-1), hi - lo, d, columns, width, products)
        if squared_tol.size > 0 or report.size > 0:
            squared_norms(X[lo:hi], hi - lo, energies)
        pursue_rows(
            products, hi - lo, width, energies, by_gain, smallest, X[lo:hi], no_mask, columns,
            empty, rows, column, inv_norms, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], buffers,
        )  # fmt: skip
        b = take_number(next_block)


@kernel
def pursue_masked(
    X, mask, atoms, squares, inv_norms, by_gain, smallest, squared_tol,
    indices, values, counts, report, tally, block, next_block,
):  # fmt: skip
    """The same with missing features, where `mask` is False; `squares` are the squared entries of the atoms."""
    n, d = X.shape
    width = atoms.shape[1]
    columns = atoms.reshape(-1)
    buffers = workspace(atoms, width, indices.shape[1])
    products = aligned_zeros(block * width, atoms)
    masked_inv_norms = aligned_zeros(block * width, atoms)
    x, mask_values = zeros_2d(block, d, atoms), zeros_2d(block, d, atoms)
    energies, column, row = zeros(block, np.float64), zeros(d, atoms), aligned_zeros(width, atoms)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        for i in range(hi - lo):
            for f in range(d):
                x[i, f] = X[lo + i, f] if mask[lo + i, f] else 0
                mask_values[i, f] = 1 if mask[lo + i, f] else 0
        inner_products(x.reshape(-1), hi - lo, d, columns, width, products)
        inner_products(mask_values.reshape(-1), hi - lo, d, squares.reshape(-1), width, masked_inv_norms)
        for i in range((hi - lo) * width):
            if masked_inv_norms[i] > 0:
                masked_inv_norms[i] = 1 / np.sqrt(masked_inv_norms[i])
            products[i] *= masked_inv_norms[i]
        squared_norms(x, hi - lo, energies)
        pursue_rows(
            products, hi - lo, width, energies, by_gain, smallest, x, mask[lo:hi], columns,
            masked_inv_norms, row, column, inv_norms, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], buffers,
        )  # fmt: skip
        b = take_number(next_block)


@kernel
def pursue_correlations(
    correlations, squared_norms, width, gram, inv_norms, by_gain, smallest, squared_tol,
    indices, values, counts, report, tally, block, next_block,
):  # fmt: skip
    """The same from correlations (n_signals, n_atoms) and squared norms, without the signals."""
    n, m = correlations.shape
    buffers = workspace(gram, width, indices.shape[1])
    products = aligned_zeros(block * width, gram)
    energies = zeros(block, np.float64)
    empty, no_mask = zeros(0, gram), zeros_2d(0, 0, np.bool_)
    no_features = zeros_2d(block, 0, gram)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        for i in range(hi - lo):
            for j in range(m):
                products[i * width + j] = correlations[lo + i, j] * inv_norms[j]
            if squared_norms.size > 0:
                energies[i] = squared_norms[lo + i]
        pursue_rows(
            products, hi - lo, width, energies, by_gain, smallest, no_features, no_mask, empty,
            empty, gram, empty, inv_norms, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], buffers,
        )  # fmt: skip
        b = take_number(next_block)

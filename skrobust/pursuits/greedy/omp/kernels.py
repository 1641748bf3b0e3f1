"""Batch orthogonal matching pursuit on the CPU: blocks of signals, their products with all atoms, then atom by atom.

The triangular factor of the selected atoms is read from the basis rows of `steps`. One back-substitution at the end
gives the coefficients, and the squared residual is ||x||^2 - sum_k pivot_k projection_k^2.
"""

import numpy as np

from skrobust.kernels.memory import zeros, zeros_2d
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
"""Signals whose largest correlation is below this or above its inverse are scaled by it."""

SLACK, UNSURE = 4, 256
"""Squared residuals this close to `tol`, or this small initially, in rounding errors, are recomputed."""

NOT_FINITE, DEPENDENT, UNMET = 0, 1, 2
"""Columns of `tally`: signals with NaN or infinity, stopped by dependent atoms, stopped before `tol`."""

OBJECTIVE, IS_SHORT = 0, 1
"""Columns of `report`: half the squared norm of the residual, and whether the signal stopped before `tol`."""


@inlined
def _round_up(size, width):
    return -(-size // width) * width


@inlined
def _read_pivot(basis, at, stride, k, inverses, weights, w):
    """Squared norm of an atom's residual in the basis; writes its negated components in the basis to the weights."""
    pivot = basis.dtype.type(1)
    for p in range(k):
        product = read(basis, at)
        weight = -product * read(inverses, p)
        write(weights, w + p, weight)
        pivot += product * weight
        at += stride
    return pivot


@inlined
def _solve(weights, projections, solution, k, room):
    """Coefficients of the `k` selected atoms, by back-substitution."""
    for q in range(k - 1, -1, -1):
        value = read(projections, q)
        at = (k - 1) * room + q
        for p in range(k - 1, q, -1):
            value += read(weights, at) * read(solution, p)
            at -= room
        write(solution, q, value)


@kernel
def _squared_residual(x, shown, row, atoms, width, work, k, visible, v, unit):
    """Squared norm of a signal minus its approximation, computed directly where the recursion is inaccurate."""
    _, _, weights, projections, _, solution, chosen = work
    _solve(weights, projections, solution, k, chosen.size)
    squared = 0.0
    for f in range(x.shape[1]):
        if visible.size > 0 and not shown[row, f]:
            continue
        r = x[row, f]
        for p in range(k):
            j = np.int64(chosen[p]) - 1
            coefficient = solution[p] * unit
            if visible.size > 0:
                coefficient *= visible[v + j]
            r -= coefficient * atoms[f * width + j]
        squared += np.float64(r) * np.float64(r)
    return squared


@kernel
def workspace(like, width, most):
    """Zeroed buffers of one thread.

    The basis, with rows `width` plus one vector apart, because rows a power of two apart would share cache lines; the
    squared residuals of the atoms in it; the triangular factor (negated, rows `room` apart), projections, inverse
    pivots, solution; the selected atoms, counted from 1.
    """
    room = _round_up(most, lanes(like))
    return (
        aligned_zeros(most * (width + lanes(like)), like),
        aligned_zeros(width, like),
        aligned_zeros(most * room, like),
        aligned_zeros(room, like),
        aligned_zeros(room, like),
        aligned_zeros(room, like),
        aligned_zeros(room, like),
    )


@inlined
def _write_code(chosen, solution, k, unit, scales, visible, v, row, indices, values):
    """Write a code in the order of its atoms, and reset the buffer for the next."""
    for p in range(k):
        number = read(chosen, p)
        at = row + k
        for q in range(0, k, lanes(chosen)):  # entries after the last atom are zero
            at -= count_at_least(load(chosen, q), number)
        j = np.int64(number) - 1
        value = read(solution, p) * unit * read(scales, j)
        if visible.size > 0:
            value *= read(visible, v + j)
        write(indices, at, np.int32(j))
        write(values, at, value)
    for q in range(0, k, lanes(chosen)):
        store(chosen, q, broadcast(chosen.dtype.type(0)))


@kernel
def pursue_rows(
    correlations, n_rows, width, energies, by_gain, x, shown, atoms, visible, gram, column, scales, squared_tol,
    indices, values, counts, report, tally, work,
):  # fmt: skip
    """Pursue the signals whose correlations are the rows of `correlations`, which are overwritten.

    Empty `squared_tol`: no tolerance. Nonempty `column`: `gram` holds a single row, computed from `atoms`. Empty
    `visible`: no missing features. `x` without features: residuals come from the recursion only.
    """
    basis, left, weights, projections, inverses, solution, chosen = work
    scalar = correlations.dtype.type
    most, room, stride = indices.size // max(1, n_rows), chosen.size, width + lanes(correlations)
    noise = scalar(ROUNDINGS * resolution(correlations))
    has_tol, wants_energy = squared_tol.size > 0, squared_tol.size > 0 or report.size > 0
    for row in range(n_rows):
        start = row * width
        best, at = largest(correlations, start, width)
        top, j = first_largest(best, at)
        energy = energies[row]
        if not (top >= 0 and top < np.inf and energy < np.inf):
            tally[NOT_FINITE] += 1
            continue
        unit = scalar(1)
        if (top < SMALL or top * SMALL > 1) and top > 0:  # squares would exceed the range of float32
            unit = top
            for i in range(start, start + width):
                correlations[i] /= unit
            top = scalar(1)
        floor = top * noise
        trusted = energy
        if by_gain:
            for i in range(0, width, lanes(left)):
                store(left, i, broadcast(scalar(1)))
        k = 0
        unmet = has_tol
        while True:
            if has_tol:
                slack = SLACK * noise * trusted
                if x.shape[1] > 0 and abs(energy - squared_tol[row]) <= slack:
                    energy = _squared_residual(x, shown, row, atoms, width, work, k, visible, start, unit)
                    trusted = energy
                if energy <= squared_tol[row]:
                    unmet = False
                    break
            c = read(correlations, start + j)
            if k == most or not abs(c) > floor:
                break
            w = k * room
            pivot = _read_pivot(basis, j, stride, k, inverses, weights, w)
            if not pivot > noise:
                tally[DEPENDENT] += 1
                break
            inverse = scalar(1) / pivot
            c *= inverse
            write(projections, k, c)
            write(inverses, k, inverse)
            write(chosen, k, scalar(j + 1))
            if wants_energy:
                energy -= np.float64(c) ** 2 * pivot * np.float64(unit) ** 2
            k += 1
            if k == most:
                continue
            g = j * width
            if column.size > 0:
                gram_row(atoms, width, j, shown, row, visible, start, column, gram)
                g = 0
            if by_gain:
                best, at = next_by_gain(
                    correlations, start, width, gram, g, basis, stride, weights, w, k - 1, c, inverse, left, noise
                )  # fmt: skip
            else:
                best, at = next_by_correlation(
                    correlations, start, width, gram, g, basis, stride, weights, w, k - 1, c
                )  # fmt: skip
            j = first_largest(best, at)[1]
        counts[row] = k
        if wants_energy:
            if x.shape[1] > 0 and energy < UNSURE * noise * energies[row]:
                energy = _squared_residual(x, shown, row, atoms, width, work, k, visible, start, unit)
            is_short = unmet and energy > squared_tol[row] + noise * noise * energies[row]
            if is_short:
                tally[UNMET] += 1
            if report.size > 0:
                report[row, OBJECTIVE], report[row, IS_SHORT] = max(energy, 0.0) / 2, is_short
        _solve(weights, projections, solution, k, room)
        _write_code(chosen, solution, k, unit, scales, visible, start, row * most, indices, values)


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
    X, atoms, gram, scales, by_gain, squared_tol, indices, values, counts, report, tally, block, next_block
):
    """Code signals (n_signals, n_features) by the columns of `atoms` (n_features, width), block after block.

    Each thread calls this with the same arguments. If `gram` is empty, its rows are computed when needed. `indices`
    and `values` have a row per signal, `tally` one per block of signals; `squared_tol` and `report` may be empty.
    """
    n, d = X.shape
    width = atoms.shape[1]
    columns = atoms.reshape(-1)
    work = workspace(atoms, width, indices.shape[1])
    products = aligned_zeros(block * width, atoms)
    energies = zeros(block, np.float64)
    nothing, no_mask = zeros(0, atoms), zeros_2d(0, 0, np.bool_)
    column = zeros(d if gram.size == 0 else 0, atoms)
    rows = gram if gram.size > 0 else aligned_zeros(width, atoms)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        inner_products(X[lo:hi].reshape(-1), hi - lo, d, columns, width, products)
        if squared_tol.size > 0 or report.size > 0:
            squared_norms(X[lo:hi], hi - lo, energies)
        pursue_rows(
            products, hi - lo, width, energies, by_gain, X[lo:hi], no_mask, columns,
            nothing, rows, column, scales, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], work,
        )  # fmt: skip
        b = take_number(next_block)


@kernel
def pursue_masked(
    X, shown, atoms, squares, scales, by_gain, squared_tol, indices, values, counts, report, tally, block, next_block
):
    """The same from the unmasked features `shown` of each signal; `squares` are the squared entries of the atoms."""
    n, d = X.shape
    width = atoms.shape[1]
    columns = atoms.reshape(-1)
    work = workspace(atoms, width, indices.shape[1])
    products = aligned_zeros(block * width, atoms)
    visible = aligned_zeros(block * width, atoms)
    seen, weights = zeros_2d(block, d, atoms), zeros_2d(block, d, atoms)
    energies, column, row = zeros(block, np.float64), zeros(d, atoms), aligned_zeros(width, atoms)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        for i in range(hi - lo):
            for f in range(d):
                seen[i, f] = X[lo + i, f] if shown[lo + i, f] else 0
                weights[i, f] = 1 if shown[lo + i, f] else 0
        inner_products(seen.reshape(-1), hi - lo, d, columns, width, products)
        inner_products(weights.reshape(-1), hi - lo, d, squares.reshape(-1), width, visible)
        for i in range((hi - lo) * width):
            if visible[i] > 0:
                visible[i] = 1 / np.sqrt(visible[i])
            products[i] *= visible[i]
        squared_norms(seen, hi - lo, energies)
        pursue_rows(
            products, hi - lo, width, energies, by_gain, seen, shown[lo:hi], columns,
            visible, row, column, scales, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], work,
        )  # fmt: skip
        b = take_number(next_block)


@kernel
def pursue_correlations(
    correlations, squared_norms, width, gram, scales, by_gain, squared_tol,
    indices, values, counts, report, tally, block, next_block,
):  # fmt: skip
    """The same from correlations (n_signals, n_atoms) and squared norms, without the signals."""
    n, m = correlations.shape
    work = workspace(gram, width, indices.shape[1])
    products = aligned_zeros(block * width, gram)
    energies = zeros(block, np.float64)
    nothing, no_mask = zeros(0, gram), zeros_2d(0, 0, np.bool_)
    no_features = zeros_2d(block, 0, gram)
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        for i in range(hi - lo):
            for j in range(m):
                products[i * width + j] = correlations[lo + i, j] * scales[j]
            if squared_norms.size > 0:
                energies[i] = squared_norms[lo + i]
        pursue_rows(
            products, hi - lo, width, energies, by_gain, no_features, no_mask, nothing,
            nothing, gram, nothing, scales, squared_tol[lo:hi],
            indices[lo:hi].reshape(-1), values[lo:hi].reshape(-1), counts[lo:hi], report[lo:hi], tally[b], work,
        )  # fmt: skip
        b = take_number(next_block)

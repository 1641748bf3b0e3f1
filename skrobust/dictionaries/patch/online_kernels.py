"""Online learning in one kernel: a call codes several minibatches, updates the sums and learns the atoms.

A minibatch of a thousand signals takes half a millisecond; calls from Python per phase, with threads for each, would
double it. The phases are those of `kernels.phases`; each thread runs the whole kernel. Sums over signals are formed
atom by atom, in the order of the signals, so that they are identical for any number of threads.

`atoms` below is the tuple (rows, columns, inner, padded, optima): the atoms as rows; as columns padded to whole groups
of vectors; their Gram matrix, flat; as flat padded rows; and a workspace for four atoms.
"""

import numpy as np

from skrobust.kernels.memory import zeros, zeros_2d
from skrobust.kernels.phases import finish_piece, take_piece, wait_for_pieces
from skrobust.kernels.products import inner_products
from skrobust.kernels.rows import add_scaled, dot
from skrobust.kernels.vectors import (
    aligned_zeros,
    broadcast,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    load_first,
    read,
    store,
    write,
)
from skrobust.pursuits.greedy.omp.kernels import pursue_rows, squared_norms, workspace
from skrobust.pursuits.lasso.greedy_descent import descend_greedily

from .descent import descend_atoms

PHASES = 5
"""Phases per slice of a minibatch; one more precedes the first."""

_GRAM_ROWS, _ATOMS = 32, 16
"""Atoms that a thread processes at a time, for inner products and for sums."""

MAX_STEPS = 8
"""Maximum number of steps of greedy descent per feature and atom, hardly ever reached."""


@kernel
def _copy_to_layouts(rows, columns, padded):
    """Copy the atoms to their other two layouts."""
    m, d = rows.shape
    width = padded.size // m
    for first in range(0, m, 16):
        for f in range(d):
            for j in range(first, min(m, first + 16)):
                columns[f, j] = rows[j, f]
    for j in range(m):
        for f in range(d):
            padded[j * width + f] = rows[j, f]


@kernel
def _update_atoms(rows, columns, padded, optima, weights, targets, positive):
    """Replace each atom by its optimum for the sums."""
    m, d = rows.shape
    width = padded.size // m
    descend_atoms(weights, targets, padded, optima, m, True, positive, 1, 0.0)
    for j in range(m):
        for f in range(d):
            rows[j, f] = padded[j * width + f]
    _copy_to_layouts(rows, columns, padded)


@kernel
def _gram_piece(rows, columns, inner, piece):
    m, d = rows.shape
    wide = columns.shape[1]
    lo, hi = piece * _GRAM_ROWS, min(m, (piece + 1) * _GRAM_ROWS)
    inner_products(rows[lo:hi].reshape(-1), hi - lo, d, columns.reshape(-1), wide, inner[lo * wide : hi * wide])


@inlined
def _gather_signals(X, order, lo, hi, signals):
    d = X.shape[1]
    for i in range(lo, hi):
        row, at = order[i], (i - lo) * d
        for f in range(d):
            signals[at + f] = X[row, f]


@inlined
def _energy(signals, start, d, rows, indices, values, row, count):
    """Squared norm of a signal minus its approximation; the signal is overwritten by the difference."""
    for p in range(count):
        add_scaled(signals, start, -values[row, p], rows, np.int64(indices[row, p]) * d, d)
    return np.float64(dot(signals, start, signals, start, d))


@kernel
def _sort_codes(indices, values, counts, energies, penalty, n, ends, signals, entries):
    """Counting sort of the codes of `n` signals by atom; `ends` holds the end of each atom. Returns the objective."""
    max_atoms, cost = indices.shape[1], 0.0
    for j in range(ends.size):
        ends[j] = 0
    for i in range(n):
        size = 0.0
        for p in range(counts[i]):
            ends[indices[i, p] + 1] += 1
            size += abs(values[i, p])
        cost += 0.5 * energies[i] + penalty * size
    for j in range(1, ends.size):
        ends[j] += ends[j - 1]
    for i in range(n):
        for p in range(counts[i]):
            at = ends[indices[i, p]]
            ends[indices[i, p]] = at + 1
            signals[at] = i
            entries[at] = i * max_atoms + p
    return cost


@inlined
def _sum_signals(X, order, coefficients, signals, entries, begin, end, product):
    """Sum of the signals of one atom, weighted by its coefficients."""
    d, step = X.shape[1], lanes(X)
    flat, zero = X.reshape(-1), broadcast(X.dtype.type(0))
    for g in range(0, d, 4 * step):
        n0, n1, n2, n3 = d - g, d - g - step, d - g - 2 * step, d - g - 3 * step
        s0, s1, s2, s3 = zero, zero, zero, zero
        for at in range(begin, end):
            z = broadcast(read(coefficients, entries[at]))
            x = order[signals[at]] * d + g
            if n3 >= step:
                s0, s1 = fma(z, load(flat, x), s0), fma(z, load(flat, x + step), s1)
                s2, s3 = fma(z, load(flat, x + 2 * step), s2), fma(z, load(flat, x + 3 * step), s3)
            else:
                s0 = fma(z, load_first(flat, x, n0), s0)
                s1 = fma(z, load_first(flat, x + step, n1), s1)
                s2 = fma(z, load_first(flat, x + 2 * step, n2), s2)
                s3 = fma(z, load_first(flat, x + 3 * step, n3), s3)
        store(product, g, s0)
        store(product, g + step, s1)
        store(product, g + 2 * step, s2)
        store(product, g + 3 * step, s3)


@kernel
def _sum_piece(
    X, order, indices, values, counts, ends, signals, entries, gram, products, uses, decay, weights, targets, piece
):
    """Update the sums of some atoms: multiply the past by `decay`, add the minibatch."""
    d, m, max_atoms = X.shape[1], gram.shape[0], indices.shape[1]
    width = targets.size // m
    atoms, coefficients = indices.reshape(-1), values.reshape(-1)
    inner, product = zeros(m, X), zeros(width, X)
    for j in range(piece * _ATOMS, min(m, (piece + 1) * _ATOMS)):
        inner[:], used = 0, 0
        begin, end = ends[j - 1] if j > 0 else 0, ends[j]
        _sum_signals(X, order, coefficients, signals, entries, begin, end, product)
        for at in range(begin, end):
            i, z = np.int64(signals[at]), read(coefficients, entries[at])
            for p in range(i * max_atoms, i * max_atoms + counts[i]):
                k = np.int64(read(atoms, p))
                write(inner, k, read(inner, k) + z * read(coefficients, p))
            used += z != 0
        own = weights[j * m : (j + 1) * m]
        past = gram[j]
        for k in range(m):
            value = decay * past[k] + inner[k]
            past[k] = value
            own[k] = value
        for f in range(d):
            products[j, f] = decay * products[j, f] + product[f]
            targets[j * width + f] = products[j, f]
        uses[j] = decay * uses[j] + used


@kernel
def _begin_slice(atoms, is_new, phase, counters):
    """Before a slice: the layouts of the atoms at first, and their inner products if they are new."""
    rows, columns, inner, padded, _ = atoms
    if phase == 1:
        if take_piece(counters, 0) == 0:
            _copy_to_layouts(rows, columns, padded)
            finish_piece(counters, 0)
        wait_for_pieces(counters, 0, 1)
    if is_new:
        n_pieces = -(-rows.shape[0] // _GRAM_ROWS)
        piece = take_piece(counters, phase)
        while piece < n_pieces:
            _gram_piece(rows, columns, inner, piece)
            finish_piece(counters, phase)
            piece = take_piece(counters, phase)
        wait_for_pieces(counters, phase, n_pieces)


@kernel
def _end_slice(X, order, atoms, codes, energies, by_atom, sums, decay, is_last, penalty, positive, phase, counters):
    """Sums of a coded slice, and new atoms after the last one of a minibatch. Only one thread returns the objective."""
    rows, columns, _, padded, optima = atoms
    indices, values, counts = codes
    ends, signals, entries = by_atom
    gram, products, uses, weights, targets = sums
    cost = 0.0
    if take_piece(counters, phase) == 0:
        cost = _sort_codes(indices, values, counts, energies, penalty, order.size, ends, signals, entries)
        finish_piece(counters, phase)
    wait_for_pieces(counters, phase, 1)
    phase += 1
    n_pieces = -(-gram.shape[0] // _ATOMS)
    piece = take_piece(counters, phase)
    while piece < n_pieces:
        _sum_piece(
            X, order, indices, values, counts, ends, signals, entries, gram, products, uses, decay, weights, targets,
            piece,
        )  # fmt: skip
        finish_piece(counters, phase)
        piece = take_piece(counters, phase)
    wait_for_pieces(counters, phase, n_pieces)
    phase += 1
    if is_last:
        if take_piece(counters, phase) == 0:
            _update_atoms(rows, columns, padded, optima, weights, targets, positive)
            finish_piece(counters, phase)
        wait_for_pieces(counters, phase, 1)
    return cost


@kernel
def learn_greedy(
    X, order, schedule, atoms, codes, energies, by_atom, sums, positive, block, costs,
    by_gain, squared_tol, counters,
):  # fmt: skip
    """Learn from slices of minibatches, coded by OMP (`by_gain`: OLS). Every thread calls this.

    Parameters
    ----------
    X : ndarray of shape (n_signals, n_features)
    order : ndarray of int
        Indices of the signals in order.
    schedule : tuple
        For each slice: its end in `order`, the start of its minibatch, the weight of the past sums, and whether it is
        the last of its minibatch.
    atoms : tuple
        See above; the others are computed from the first.
    codes : tuple
        Workspace for indices and values (one row per signal of a slice) and their numbers.
    energies : ndarray
        Overwritten by the squared norms of the residuals of the last minibatch.
    by_atom : tuple
        Workspace for the codes by atom: ends (n_atoms + 1), signals and positions.
    sums : tuple
        gram, products and uses of the past, which are updated, and a workspace for the first two in the precision of
        X, flat and padded like the atoms.
    positive : bool
        Whether atoms are >= 0.
    block : int
        Signals that a thread processes at a time.
    costs : ndarray
        Overwritten by the sums of the objective over the signals of each slice.
    by_gain, squared_tol
        As in `pursue_signals`; `squared_tol` has a value for each signal of a slice, or none.
    counters : ndarray of int
        Counters of the phases.
    """
    slice_ends, batch_starts, decays, is_last = schedule
    rows, columns, inner = atoms[0], atoms[1], atoms[2]
    indices, values, counts = codes
    d, wide = columns.shape
    max_atoms = indices.shape[1]
    buffers = workspace(columns, wide, max_atoms)
    correlations, signals = aligned_zeros(block * wide, columns), zeros(block * d, X)
    empty, no_mask, no_report = zeros(0, X), zeros_2d(0, 0, np.bool_), zeros_2d(0, 2, np.float64)
    unit_norms, squares, tally = zeros(rows.shape[0], X), zeros(block, np.float64), zeros(3, np.int64)
    for j in range(unit_norms.size):
        unit_norms[j] = 1
    is_new, first = True, 0
    for s in range(slice_ends.size):
        phase, last = 1 + s * PHASES, slice_ends[s]
        _begin_slice(atoms, is_new, phase, counters)
        n_pieces = -(-(last - first) // block)
        piece = take_piece(counters, phase + 1)
        while piece < n_pieces:
            lo = first + piece * block
            hi = min(last, lo + block)
            first_row, last_row, n = lo - first, hi - first, hi - lo
            _gather_signals(X, order, lo, hi, signals)
            inner_products(signals, n, d, columns.reshape(-1), wide, correlations)
            block_of_x = signals[: n * d].reshape(n, d)
            squared_norms(block_of_x, n, squares)
            for i in range(first_row, last_row):
                counts[i] = 0
            pursue_rows(
                correlations, n, wide, squares, by_gain, 0.0, block_of_x, no_mask, columns.reshape(-1),
                empty, inner, empty, unit_norms, squared_tol[:n],
                indices[first_row:last_row].reshape(-1), values[first_row:last_row].reshape(-1),
                counts[first_row:last_row], no_report, tally, buffers,
            )  # fmt: skip
            for i in range(n):
                energies[lo - batch_starts[s] + i] = _energy(
                    signals, i * d, d, rows.reshape(-1), indices, values, first_row + i, counts[first_row + i]
                )
            finish_piece(counters, phase + 1)
            piece = take_piece(counters, phase + 1)
        wait_for_pieces(counters, phase + 1, n_pieces)
        cost = _end_slice(
            X, order[first:last], atoms, codes, energies[first - batch_starts[s] :], by_atom, sums, decays[s],
            is_last[s], 0.0, positive, phase + 2, counters,
        )  # fmt: skip
        if cost != 0:
            costs[s] = cost
        is_new, first = is_last[s], last


@kernel
def learn_l1(
    X, order, schedule, atoms, codes, energies, by_atom, sums, positive, block, costs,
    alpha, positive_code, tol, counters,
):  # fmt: skip
    """The same with l1 codes, by `descend_greedily`."""
    slice_ends, batch_starts, decays, is_last = schedule
    rows, columns, inner = atoms[0], atoms[1], atoms[2]
    indices, values, counts = codes
    d, wide = columns.shape
    max_steps = MAX_STEPS * (d + rows.shape[0])
    correlations, signals = aligned_zeros(block * wide, columns), zeros(block * d, X)
    z, touched, squares = aligned_zeros(wide, columns), zeros(wide, np.int64), zeros(block, np.float64)
    is_new, first = True, 0
    largest = np.finfo(np.float32).max if X.itemsize == 4 else np.finfo(np.float64).max
    for s in range(slice_ends.size):
        phase, last = 1 + s * PHASES, slice_ends[s]
        _begin_slice(atoms, is_new, phase, counters)
        n_pieces = -(-(last - first) // block)
        piece = take_piece(counters, phase + 1)
        while piece < n_pieces:
            lo = first + piece * block
            hi = min(last, lo + block)
            first_row, n = lo - first, hi - lo
            _gather_signals(X, order, lo, hi, signals)
            inner_products(signals, n, d, columns.reshape(-1), wide, correlations)
            squared_norms(signals[: n * d].reshape(n, d), n, squares)
            for i in range(n):
                row, count = first_row + i, 0
                if not squares[i] < largest:  # the correlations would not be finite either
                    counts[row], energies[lo - batch_starts[s] + i] = 0, np.inf
                    continue
                moved = descend_greedily(
                    correlations, i * wide, wide, inner, alpha, positive_code, tol, max_steps, z, touched
                )
                for p in range(moved):
                    j = touched[p]
                    if z[j] != 0:
                        indices[row, count], values[row, count] = j, z[j]
                        count += 1
                    z[j] = 0
                counts[row] = count
                energies[lo - batch_starts[s] + i] = _energy(
                    signals, i * d, d, rows.reshape(-1), indices, values, row, count
                )
            finish_piece(counters, phase + 1)
            piece = take_piece(counters, phase + 1)
        wait_for_pieces(counters, phase + 1, n_pieces)
        cost = _end_slice(
            X, order[first:last], atoms, codes, energies[first - batch_starts[s] :], by_atom, sums, decays[s],
            is_last[s], alpha, positive, phase + 2, counters,
        )  # fmt: skip
        if cost != 0:
            costs[s] = cost
        is_new, first = is_last[s], last

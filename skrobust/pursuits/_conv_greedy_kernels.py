"""Convolutional orthogonal matching pursuit on the CPU: one atom at a time, least squares by conjugate gradients."""

import numpy as np

from ._conv_candidates import kind_at, place_at, room_for_candidates, room_for_steps, write_code
from ._conv_kernels import correlate_row, lay_signal, row_buffer
from ._conv_support import inner_inside, solve_on_support
from ._conv_vectors import bits_above, lowest_bit
from ._vectors import absolute, aligned_zeros, broadcast, inlined, kernel, lanes, load, multiply, take_number

LEAST_SQUARES_STEPS = 60


@kernel
def _best_of_row(residual, columns, plan, rates, full, out, y):
    """Magnitude, cell and atom of the largest normalised correlation in a row where stripes have room."""
    width = lanes(residual)
    best = residual.dtype.type(0)
    best_cell, best_atom = -1, -1
    correlate_row(residual, y, columns, plan, out)
    cell = y * plan.code_width
    for x in range(plan.code_width):
        if not full[y, x]:
            for k in range(0, plan.padded_atoms, width):
                o = x * plan.padded_atoms + k
                values = absolute(multiply(load(out, o), load(rates, cell * plan.padded_atoms + k)))
                bits = bits_above(values, broadcast(best))
                while bits != 0:
                    lane = lowest_bit(bits)
                    bits &= bits - 1
                    value = abs(out[o + lane] * rates[cell * plan.padded_atoms + k + lane])
                    if value > best:
                        best, best_cell, best_atom = value, cell, k + lane
        cell += 1
    return best, best_cell, best_atom


@kernel
def _best_atom(residual, columns, plan, rates, full, out, stale, bests, cells, atoms):
    """Cell, atom and magnitude of the largest correlation of all; only stale rows are correlated anew."""
    top = 0
    for y in range(plan.code_height):
        if stale[y]:
            bests[y], cells[y], atoms[y] = _best_of_row(residual, columns, plan, rates, full, out, y)
            stale[y] = False
        if bests[y] > bests[top]:
            top = y
    return cells[top], atoms[top], bests[top]


@kernel
def _mark(stale, y, reach, wraps):
    """Mark the rows up to `reach` from y."""
    for other in range(y - reach, y + reach + 1):
        if wraps:
            stale[other % stale.size] = True
        elif 0 <= other < stale.size:
            stale[other] = True


@inlined
def _overlap(a, b, reach):
    """Whether atoms at two positions of an axis overlap; `reach` is that of `overlap_reach`."""
    distance = abs(a - b)
    return distance <= reach[0] or distance >= reach[1]


@kernel
def _take_cluster(candidates, n, plan, reach, taken, cluster, origin):
    """Copy the atoms that the last one overlaps, those that they overlap, and so on; return their number.

    The others are orthogonal to all of these: their least squares stay as they are.
    """
    where, places, atoms, kinds, _, _, values = candidates
    own_where, own_places, own_atoms, own_kinds, _, _, own_values = cluster
    taken[:n] = False
    taken[n - 1] = True
    origin[0] = n - 1
    size = 1
    i = 0
    while i < size:
        cell = where[origin[i]] // plan.padded_atoms
        y, x = cell // plan.code_width, cell % plan.code_width
        for j in range(n):
            if taken[j]:
                continue
            other = where[j] // plan.padded_atoms
            if not _overlap(y, other // plan.code_width, reach[0]):
                continue
            if _overlap(x, other % plan.code_width, reach[1]):
                taken[j] = True
                origin[size] = j
                size += 1
        i += 1
    for i in range(size):
        j = origin[i]
        own_where[i], own_places[i], own_atoms[i], own_kinds[i] = where[j], places[j], atoms[j], kinds[j]
        own_values[i] = values[j]
    return size


@inlined
def _next_overlapping(place, at, size, reach):
    """The first position from `place` on whose atoms overlap those at `at`; `size` if there is none.

    `reach` is that of `overlap_reach`.
    """
    near, far = reach
    if place > at - far and place < at - near:
        place = at - near
    if place > at + near and place < at + far:
        place = at + far
    return min(max(place, 0), size)


@kernel
def _fill_stripes(counts, full, y, x, reach, most):
    """Count an atom at (y, x) in the stripes that hold it; close the positions whose atoms would overfill one."""
    height, width = counts.shape
    cy = _next_overlapping(0, y, height, reach[0])
    while cy < height:
        cx = _next_overlapping(0, x, width, reach[1])
        while cx < width:
            counts[cy, cx] += 1
            if counts[cy, cx] == most:
                _close(full, cy, cx, reach)
            cx = _next_overlapping(cx + 1, x, width, reach[1])
        cy = _next_overlapping(cy + 1, y, height, reach[0])


@kernel
def _close(full, y, x, reach):
    """Close the positions of a stripe."""
    height, width = full.shape
    fy = _next_overlapping(0, y, height, reach[0])
    while fy < height:
        fx = _next_overlapping(0, x, width, reach[1])
        while fx < width:
            full[fy, fx] = True
            fx = _next_overlapping(fx + 1, x, width, reach[1])
        fy = _next_overlapping(fy + 1, y, height, reach[0])


@kernel
def _match(x, mask, codes, tables, plan, rates, most_atoms, stripe_most, reach, tol, report):
    vectors, columns, _ = tables
    has_mask = mask.size > 0
    counts = aligned_zeros(plan.rows * plan.pitch, vectors)
    lay_signal(mask if has_mask else np.ones(x.size, x.dtype), counts, plan)
    residual = aligned_zeros(plan.rows * plan.pitch, vectors)
    lay_signal(x, residual, plan)
    residual *= counts
    candidates = room_for_candidates(most_atoms, vectors)
    where, places, atoms, kinds, _, _, values = candidates
    work = room_for_steps(most_atoms, residual)
    free = np.zeros(plan.padded_atoms, vectors.dtype)
    stripes = np.zeros((plan.code_height, plan.code_width), np.int64)
    full = np.zeros((plan.code_height, plan.code_width), np.bool_)
    out = row_buffer(plan, vectors)
    cluster, taken = room_for_candidates(most_atoms, vectors), np.empty(most_atoms, np.bool_)
    origin = np.empty(most_atoms, np.int64)
    stale, bests = np.ones(plan.code_height, np.bool_), np.zeros(plan.code_height, vectors.dtype)
    cells, best_atoms = np.empty(plan.code_height, np.int64), np.empty(plan.code_height, np.int64)
    eps = np.finfo(np.float32).eps if vectors.itemsize == 4 else np.finfo(np.float64).eps
    first = vectors.dtype.type(0)
    n = 0
    squared = inner_inside(residual, residual, plan)
    while n < most_atoms and squared > tol * tol:
        cell, atom, best = _best_atom(residual, columns, plan, rates, full, out, stale, bests, cells, best_atoms)
        if n == 0:
            first = best
        if cell < 0 or not best > 16 * eps * first:
            break
        index = cell * plan.padded_atoms + atom
        again = False
        for i in range(n):
            again = again or where[i] == index
        if again:  # what is left of it is rounding
            break
        y, x_position = cell // plan.code_width, cell % plan.code_width
        where[n], atoms[n], kinds[n] = index, atom, kind_at(y, x_position, plan, has_mask)
        places[n], values[n] = place_at(y, x_position, plan), 0
        n += 1
        if stripe_most > 0:
            _fill_stripes(stripes, full, y, x_position, reach, stripe_most)
            _mark(stale, y, 2 * (reach[0][0] + 1), plan.wraps)
        size = _take_cluster(candidates, n, plan, reach, taken, cluster, origin)
        solve_on_support(residual, counts, vectors, plan, free, cluster, size, work, LEAST_SQUARES_STEPS, 64 * eps)
        for i in range(size):
            values[origin[i]] = cluster[6][i]
            _mark(stale, cluster[0][i] // plan.padded_atoms // plan.code_width, reach[0][0] + 1, plan.wraps)
        squared = inner_inside(residual, residual, plan)
    write_code(codes, plan, candidates, n)
    report[0], report[1] = squared, n


@kernel
def match_signals(X, masks, codes, tables, plan, rates, most_atoms, stripe_most, reach, tol, report, next_signal):
    """Codes of many signals, a thread a signal.

    Parameters
    ----------
    X, masks : ndarray
        As for `descend_signals`.
    rates : ndarray of shape (n or 1, n_positions * padded_atoms)
        Inverse norm of what counts of each shifted atom; zero where nothing does.
    stripe_most : int
        Atoms a stripe may hold; 0: any number.
    reach : tuple of (int, int)
        For each axis, how near and how far apart positions are whose atoms overlap: see `overlap_reach`.
    report : ndarray of shape (n, 2)
        Squared residual and atoms.
    """
    n = take_number(next_signal)
    while n < X.shape[0]:
        _match(
            X[n],
            masks[n],
            codes[n],
            tables,
            plan,
            rates[n % rates.shape[0]],
            most_atoms,
            stripe_most,
            reach,
            tol,
            report[n],
        )
        n = take_number(next_signal)

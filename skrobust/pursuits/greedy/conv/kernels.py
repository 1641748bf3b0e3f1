"""Convolutional orthogonal matching pursuit on the CPU: one atom at a time, least squares by conjugate gradients."""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    aligned_zeros,
    broadcast,
    inlined,
    kernel,
    lanes,
    load,
    multiply,
    take_number,
)
from skrobust.operators.conv.kernels import copy_into_buffer, correlate_row, row_buffer
from skrobust.operators.conv.vectors import bits_above, lowest_bit
from skrobust.pursuits.lasso.conv.support import inner_product_inside, solve_on_support
from skrobust.pursuits.lasso.conv.working_set import (
    border_class_at,
    buffer_offset,
    cg_workspace,
    new_working_set,
    write_code,
)

LEAST_SQUARES_STEPS = 60


@kernel
def _best_of_row(residual, columns, plan, inv_norms, full, out, y):
    """Magnitude, position and atom of the largest normalised correlation at the open positions of a row."""
    width = lanes(residual)
    best = residual.dtype.type(0)
    best_position, best_atom = -1, -1
    correlate_row(residual, y, columns, plan, out)
    position = y * plan.code_width
    for x in range(plan.code_width):
        if not full[y, x]:
            for k in range(0, plan.padded_atoms, width):
                o = x * plan.padded_atoms + k
                values = absolute(multiply(load(out, o), load(inv_norms, position * plan.padded_atoms + k)))
                bits = bits_above(values, broadcast(best))
                while bits != 0:
                    lane = lowest_bit(bits)
                    bits &= bits - 1
                    value = abs(out[o + lane] * inv_norms[position * plan.padded_atoms + k + lane])
                    if value > best:
                        best, best_position, best_atom = value, position, k + lane
        position += 1
    return best, best_position, best_atom


@kernel
def _best_atom(residual, columns, plan, inv_norms, full, out, stale, bests, positions, atoms):
    """Position, atom and magnitude of the largest correlation; recomputes stale rows only."""
    top = 0
    for y in range(plan.code_height):
        if stale[y]:
            bests[y], positions[y], atoms[y] = _best_of_row(residual, columns, plan, inv_norms, full, out, y)
            stale[y] = False
        if bests[y] > bests[top]:
            top = y
    return positions[top], atoms[top], bests[top]


@kernel
def _mark(stale, y, distance, wraps):
    """Mark the rows at most `distance` from y as stale."""
    for other in range(y - distance, y + distance + 1):
        if wraps:
            stale[other % stale.size] = True
        elif 0 <= other < stale.size:
            stale[other] = True


@inlined
def _overlap(a, b, overlap):
    """Whether atoms at two positions of an axis overlap; `overlap` is that of `overlap_distances`."""
    distance = abs(a - b)
    return distance <= overlap[0] or distance >= overlap[1]


@kernel
def _take_cluster(working_set, n, plan, overlap, taken, cluster, origin):
    """Copy the atoms connected to the last one by overlaps; return their number.

    All other atoms are orthogonal to these, so their coefficients do not change.
    """
    indices, offsets, atoms, border_class, _, _, values = working_set
    own_indices, own_offsets, own_atoms, own_border_class, _, _, own_values = cluster
    taken[:n] = False
    taken[n - 1] = True
    origin[0] = n - 1
    size = 1
    i = 0
    while i < size:
        position = indices[origin[i]] // plan.padded_atoms
        y, x = position // plan.code_width, position % plan.code_width
        for j in range(n):
            if taken[j]:
                continue
            other = indices[j] // plan.padded_atoms
            if not _overlap(y, other // plan.code_width, overlap[0]):
                continue
            if _overlap(x, other % plan.code_width, overlap[1]):
                taken[j] = True
                origin[size] = j
                size += 1
        i += 1
    for i in range(size):
        j = origin[i]
        own_indices[i], own_offsets[i], own_atoms[i], own_border_class[i] = (
            indices[j],
            offsets[j],
            atoms[j],
            border_class[j],
        )
        own_values[i] = values[j]
    return size


@inlined
def _next_overlapping(start, at, size, overlap):
    """The first position from `start` on whose atoms overlap those at `at`; `size` if there is none.

    `overlap` is that of `overlap_distances`.
    """
    near, far = overlap
    if start > at - far and start < at - near:
        start = at - near
    if start > at + near and start < at + far:
        start = at + far
    return min(max(start, 0), size)


@kernel
def _fill_stripes(stripe_counts, full, y, x, overlap, max_per_stripe):
    """Count an atom at (y, x) in its stripes, and close positions at which an atom would exceed a limit."""
    height, width = stripe_counts.shape
    cy = _next_overlapping(0, y, height, overlap[0])
    while cy < height:
        cx = _next_overlapping(0, x, width, overlap[1])
        while cx < width:
            stripe_counts[cy, cx] += 1
            if stripe_counts[cy, cx] == max_per_stripe:
                _close(full, cy, cx, overlap)
            cx = _next_overlapping(cx + 1, x, width, overlap[1])
        cy = _next_overlapping(cy + 1, y, height, overlap[0])


@kernel
def _close(full, y, x, overlap):
    """Close the positions of a stripe."""
    height, width = full.shape
    fy = _next_overlapping(0, y, height, overlap[0])
    while fy < height:
        fx = _next_overlapping(0, x, width, overlap[1])
        while fx < width:
            full[fy, fx] = True
            fx = _next_overlapping(fx + 1, x, width, overlap[1])
        fy = _next_overlapping(fy + 1, y, height, overlap[0])


@kernel
def _match(x, mask, codes, tables, plan, inv_norms, max_atoms, max_per_stripe, overlap, tol, report):
    vectors, columns, _ = tables
    has_mask = mask.size > 0
    valid = aligned_zeros(plan.rows * plan.pitch, vectors)
    copy_into_buffer(mask if has_mask else np.ones(x.size, x.dtype), valid, plan)
    residual = aligned_zeros(plan.rows * plan.pitch, vectors)
    copy_into_buffer(x, residual, plan)
    residual *= valid
    working_set = new_working_set(max_atoms, vectors)
    indices, offsets, atoms, border_class, _, _, values = working_set
    workspace = cg_workspace(max_atoms, residual)
    free = np.zeros(plan.padded_atoms, vectors.dtype)
    stripe_counts = np.zeros((plan.code_height, plan.code_width), np.int64)
    full = np.zeros((plan.code_height, plan.code_width), np.bool_)
    out = row_buffer(plan, vectors)
    cluster, taken = new_working_set(max_atoms, vectors), np.empty(max_atoms, np.bool_)
    origin = np.empty(max_atoms, np.int64)
    stale, bests = np.ones(plan.code_height, np.bool_), np.zeros(plan.code_height, vectors.dtype)
    positions, best_atoms = np.empty(plan.code_height, np.int64), np.empty(plan.code_height, np.int64)
    eps = np.finfo(np.float32).eps if vectors.itemsize == 4 else np.finfo(np.float64).eps
    first = vectors.dtype.type(0)
    n = 0
    squared = inner_product_inside(residual, residual, plan)
    while n < max_atoms and squared > tol * tol:
        position, atom, best = _best_atom(
            residual, columns, plan, inv_norms, full, out, stale, bests, positions, best_atoms
        )
        if n == 0:
            first = best
        if position < 0 or not best > 16 * eps * first:
            break
        index = position * plan.padded_atoms + atom
        repeated = False
        for i in range(n):
            repeated = repeated or indices[i] == index
        if repeated:  # the rest is rounding error
            break
        y, x_position = position // plan.code_width, position % plan.code_width
        indices[n], atoms[n], border_class[n] = index, atom, border_class_at(y, x_position, plan, has_mask)
        offsets[n], values[n] = buffer_offset(y, x_position, plan), 0
        n += 1
        if max_per_stripe > 0:
            _fill_stripes(stripe_counts, full, y, x_position, overlap, max_per_stripe)
            _mark(stale, y, 2 * (overlap[0][0] + 1), plan.wraps)
        size = _take_cluster(working_set, n, plan, overlap, taken, cluster, origin)
        solve_on_support(residual, valid, vectors, plan, free, cluster, size, workspace, LEAST_SQUARES_STEPS, 64 * eps)
        for i in range(size):
            values[origin[i]] = cluster[6][i]
            _mark(stale, cluster[0][i] // plan.padded_atoms // plan.code_width, overlap[0][0] + 1, plan.wraps)
        squared = inner_product_inside(residual, residual, plan)
    write_code(codes, plan, working_set, n)
    report[0], report[1] = squared, n


@kernel
def match_signals(
    X, masks, codes, tables, plan, inv_norms, max_atoms, max_per_stripe, overlap, tol, report, next_signal
):
    """Codes of many signals, one thread per signal.

    Parameters
    ----------
    X, masks : ndarray
        As for `descend_signals`.
    inv_norms : ndarray of shape (n or 1, n_positions * padded_atoms)
        Inverse norm of the unmasked part of each shifted atom; zero if nothing is unmasked.
    max_per_stripe : int
        Maximum number of atoms of a stripe; 0: no limit.
    overlap : tuple of (int, int)
        For each axis, the distances of positions whose atoms overlap: see `overlap_distances`.
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
            inv_norms[n % inv_norms.shape[0]],
            max_atoms,
            max_per_stripe,
            overlap,
            tol,
            report[n],
        )
        n = take_number(next_signal)

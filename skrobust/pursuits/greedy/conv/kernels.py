"""Convolutional orthogonal matching pursuit on the CPU: one atom at a time, least squares by conjugate gradients."""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    broadcast,
    inlined,
    kernel,
    lanes,
    load,
    multiply,
    scalar_like,
    take_number,
)
from skrobust.kernels.workspace import fill, part, pointer, workspace
from skrobust.operators.conv.kernels import copy_into_buffer, correlate_row, row_size
from skrobust.operators.conv.vectors import bits_above, lowest_bit
from skrobust.pursuits.lasso.conv.support import SOLUTION, inner_product_inside, solve_on_support
from skrobust.pursuits.lasso.conv.team import Parts, Team, array_of, set_of
from skrobust.pursuits.lasso.conv.working_set import (
    border_class_at,
    buffer_offset,
    working_set_of,
    working_set_sizes,
    write_code,
)

LEAST_SQUARES_STEPS = 60
"""Maximum number of conjugate gradient steps after each selection."""


@kernel
def _best_of_row(residual, columns, plan, inv_norms, closed, correlations, y):
    """Magnitude, position and atom of the largest normalised correlation at the open positions of a row."""
    width = lanes(residual)
    best = scalar_like(0, residual)
    best_position, best_atom = -1, -1
    correlate_row(residual, y, columns, plan, correlations)
    position = y * plan.code_width
    for x in range(plan.code_width):
        if not closed[position]:
            for k in range(0, plan.padded_atoms, width):
                o = x * plan.padded_atoms + k
                values = absolute(multiply(load(correlations, o), load(inv_norms, position * plan.padded_atoms + k)))
                bits = bits_above(values, broadcast(best))
                while bits != 0:
                    lane = lowest_bit(bits)
                    bits &= bits - 1
                    value = abs(correlations[o + lane] * inv_norms[position * plan.padded_atoms + k + lane])
                    if value > best:
                        best, best_position, best_atom = value, position, k + lane
        position += 1
    return best, best_position, best_atom


@kernel
def _best_atom(residual, columns, plan, inv_norms, closed, correlations, is_stale, row_bests, positions, atoms):
    """Position, atom and magnitude of the largest correlation; recomputes stale rows only."""
    best_row = 0
    for y in range(plan.code_height):
        if is_stale[y]:
            row_bests[y], positions[y], atoms[y] = _best_of_row(
                residual, columns, plan, inv_norms, closed, correlations, y
            )
            is_stale[y] = 0
        if row_bests[y] > row_bests[best_row]:
            best_row = y
    return positions[best_row], atoms[best_row], row_bests[best_row]


@kernel
def _mark(is_stale, n_rows, y, distance, wraps):
    """Mark the rows within `distance` of y as stale."""
    for other in range(y - distance, y + distance + 1):
        if wraps:
            is_stale[other % n_rows] = 1
        elif 0 <= other < n_rows:
            is_stale[other] = 1


@inlined
def _overlap(a, b, overlap):
    """Whether atoms at two positions of an axis overlap; `overlap` is that of `overlap_distances`."""
    distance = abs(a - b)
    return distance <= overlap[0] or distance >= overlap[1]


@kernel
def _copy_cluster(working_set, n, plan, overlap, in_cluster, cluster, origin):
    """Copy the atoms connected to the last one by overlaps; return their number.

    All other atoms are orthogonal to these, so their coefficients do not change.
    """
    indices, offsets, atoms, border_class, _, _, values = working_set
    cluster_indices, cluster_offsets, cluster_atoms, cluster_border_class, _, _, cluster_values = cluster
    fill(in_cluster, n, 0)
    in_cluster[n - 1] = 1
    origin[0] = n - 1
    size = 1
    i = 0
    while i < size:
        position = indices[origin[i]] // plan.padded_atoms
        y, x = position // plan.code_width, position % plan.code_width
        for j in range(n):
            if in_cluster[j]:
                continue
            other = indices[j] // plan.padded_atoms
            if not _overlap(y, other // plan.code_width, overlap[0]):
                continue
            if _overlap(x, other % plan.code_width, overlap[1]):
                in_cluster[j] = 1
                origin[size] = j
                size += 1
        i += 1
    for i in range(size):
        j = origin[i]
        cluster_indices[i], cluster_offsets[i] = indices[j], offsets[j]
        cluster_atoms[i], cluster_border_class[i], cluster_values[i] = atoms[j], border_class[j], values[j]
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
def _fill_stripes(stripe_counts, closed, plan, y, x, overlap, max_per_stripe):
    """Count an atom at (y, x) in its stripes, and close the positions where another atom would exceed a limit."""
    height, width = plan.code_height, plan.code_width
    cy = _next_overlapping(0, y, height, overlap[0])
    while cy < height:
        cx = _next_overlapping(0, x, width, overlap[1])
        while cx < width:
            stripe_counts[cy * width + cx] += 1
            if stripe_counts[cy * width + cx] == max_per_stripe:
                _close(closed, plan, cy, cx, overlap)
            cx = _next_overlapping(cx + 1, x, width, overlap[1])
        cy = _next_overlapping(cy + 1, y, height, overlap[0])


@kernel
def _close(closed, plan, y, x, overlap):
    """Close the positions of a stripe: no atom may be added there."""
    height, width = plan.code_height, plan.code_width
    fy = _next_overlapping(0, y, height, overlap[0])
    while fy < height:
        fx = _next_overlapping(0, x, width, overlap[1])
        while fx < width:
            closed[fy * width + fx] = 1
            fx = _next_overlapping(fx + 1, x, width, overlap[1])
        fy = _next_overlapping(fy + 1, y, height, overlap[0])


def matching_workspaces(plan, max_atoms, dtype):
    """Workspaces of one thread: floats and integers."""
    buffer, n_positions = plan.rows * plan.pitch, plan.code_height * plan.code_width
    integers, floats = working_set_sizes(max_atoms)
    return (
        workspace(
            dtype, buffer, buffer, buffer, row_size(plan), plan.padded_atoms, plan.code_height, *floats, *floats,
            *[max_atoms] * 4
        ),
        workspace(
            np.int64, n_positions, n_positions, plan.code_height, plan.code_height, plan.code_height, max_atoms,
            max_atoms, 1, *integers, *integers
        ),
        np.zeros(1),
    )  # fmt: skip


@kernel
def _match(
    codes, tables, plan, inv_norms, max_atoms, max_per_stripe, overlap, tol, eps, has_mask, floats, integers, sums
):
    """Code of the signal in the buffer; returns its squared residual and number of atoms."""
    vectors, columns = tables[0], tables[1]
    valid, residual, correlations = part(floats, 0), part(floats, 1), part(floats, 3)
    no_penalties, row_bests, image = part(floats, 4), part(floats, 5), part(floats, 2)
    stripe_counts, closed, is_stale = part(integers, 0), part(integers, 1), part(integers, 2)
    positions, best_atoms = part(integers, 3), part(integers, 4)
    in_cluster, origin = part(integers, 5), part(integers, 6)
    sizes, working_set = part(integers, 7), working_set_of(integers, 8, floats, 6)
    parts, team = Parts(1, sizes, sizes, floats, integers, 9, 12), Team(0, 1, sizes, sums)
    cluster = set_of(parts, 0)
    indices, offsets, atoms, border_class, _, _, values = working_set
    n_positions = plan.code_height * plan.code_width
    fill(stripe_counts, n_positions, 0)
    fill(closed, n_positions, 0)
    fill(is_stale, plan.code_height, 1)
    fill(row_bests, plan.code_height, 0)
    first_best = scalar_like(0, vectors)
    n = 0
    squared = inner_product_inside(residual, residual, plan, parts, team)
    while n < max_atoms and squared > tol * tol:
        position, atom, best = _best_atom(
            residual, columns, plan, inv_norms, closed, correlations, is_stale, row_bests, positions, best_atoms
        )
        if n == 0:
            first_best = best
        if position < 0 or not best > 16 * eps * first_best:
            break
        index = position * plan.padded_atoms + atom
        is_repeated = False
        for i in range(n):
            is_repeated = is_repeated or indices[i] == index
        if is_repeated:  # the rest is rounding error
            break
        y, x_position = position // plan.code_width, position % plan.code_width
        indices[n], atoms[n], border_class[n] = index, atom, border_class_at(y, x_position, plan, has_mask)
        offsets[n], values[n] = buffer_offset(y, x_position, plan), 0
        n += 1
        if max_per_stripe > 0:
            _fill_stripes(stripe_counts, closed, plan, y, x_position, overlap, max_per_stripe)
            _mark(is_stale, plan.code_height, y, 2 * (overlap[0][0] + 1), plan.wraps)
        size = _copy_cluster(working_set, n, plan, overlap, in_cluster, cluster, origin)
        sizes[0] = size
        solve_on_support(
            residual, image, valid, vectors, plan, no_penalties, parts, LEAST_SQUARES_STEPS, 64 * eps, team
        )
        changes = array_of(parts, 0, SOLUTION)
        for i in range(size):
            values[origin[i]] += changes[i]
            _mark(
                is_stale,
                plan.code_height,
                cluster[0][i] // plan.padded_atoms // plan.code_width,
                overlap[0][0] + 1,
                plan.wraps,
            )
        squared = inner_product_inside(residual, residual, plan, parts, team)
    write_code(codes, plan, working_set, n)
    return squared, n


@kernel
def match_signals(
    X,
    masks,
    codes,
    tables,
    plan,
    inv_norms,
    max_atoms,
    max_per_stripe,
    overlap,
    tol,
    eps,
    workspaces,
    report,
    next_signal,
):
    """Codes of many signals, one thread per signal.

    Parameters
    ----------
    X, masks : ndarray
        As for `descend_signals`.
    codes : ndarray of shape (n, n_positions * atoms)
        Zero.
    inv_norms : ndarray of shape (n or 1, n_positions * padded_atoms)
        Inverse norm of the unmasked part of each shifted atom; zero if nothing is unmasked.
    max_per_stripe : int
        Maximum number of atoms of a stripe; 0: no limit.
    overlap : tuple of (int, int)
        For each axis, the distances of positions whose atoms overlap: see `overlap_distances`.
    eps : float
        Rounding error of the values.
    workspaces : tuple
        Those of this thread, by `matching_workspaces`.
    report : ndarray of shape (n, 2)
        Squared residual and atoms.
    """
    floats, integers, sums = workspaces[0], workspaces[1], pointer(workspaces[2], 0)
    vectors, columns, norms = tables
    tables = pointer(vectors, 0), pointer(columns, 0), pointer(norms, 0)
    valid, residual, size, n_values = part(floats, 0), part(floats, 1), plan.rows * plan.pitch, X.shape[1]
    has_mask = masks.shape[1] > 0
    fill(valid, size, 0)
    fill(residual, size, 1)
    if not has_mask:
        copy_into_buffer(residual, valid, plan)
    fill(part(floats, 4), plan.padded_atoms, 0)
    n = take_number(next_signal)
    while n < X.shape[0]:
        if has_mask:
            copy_into_buffer(pointer(masks, n * n_values), valid, plan)
        copy_into_buffer(pointer(X, n * n_values), residual, plan)
        for k in range(size):
            residual[k] *= valid[k]
        report[n, 0], report[n, 1] = _match(
            pointer(codes, n * codes.shape[1]), tables, plan,
            pointer(inv_norms, n % inv_norms.shape[0] * inv_norms.shape[1]), max_atoms, max_per_stripe, overlap, tol,
            eps, has_mask, floats, integers, sums,
        )  # fmt: skip
        n = take_number(next_signal)

"""Coordinate descent on one large signal in parallel: bands of rows first, then the strips between them.

Bands depend on the signal only, not on the number of threads, and so does the result.
"""

import numpy as np

from skrobust.kernels.phases import pause
from skrobust.kernels.vectors import inlined, kernel, scalar_like, take_number
from skrobust.kernels.workspace import copy, fill, part, pointer, workspace
from skrobust.operators.conv.kernels import row_size
from skrobust.operators.conv.plan import lanes_of
from skrobust.operators.conv.vectors import arrivals, arrive
from skrobust.pursuits.problem import LOCAL_SCALING_FROM

from .descent import (
    CONVERGED,
    DENSE,
    FACTOR,
    MOST_STAGES,
    STAGE_SWEEPS,
    STOPPED,
    margin_at,
    set_penalties,
    stage_count,
    sweep,
    sweeps_after,
)
from .dual import dual_value, largest_correlation, lower_scales, scale_pixels
from .support import add_atoms, l1_norm
from .working_set import (
    append_violating,
    drop_zeros,
    working_set_of,
    working_set_of_code,
    working_set_sizes,
    write_code,
)

STAGE, DONE, SCANS, N_SWEEPS, STATUS, GAP, OBJECTIVE, BOUND, LOCAL, ACTIVE = range(10)
"""Indices into the state, which one thread writes and all read."""

STATE_SIZE = 10

RUNNING = -1

ROWS = 64
"""Minimum number of rows of positions in a band."""


def band_parts(geometry):
    """First row of positions of each part and the row after its last, (2 n_bands, 2); None for a single band.

    Each band has two parts: the rows whose atoms lie within the band, and those whose atoms extend into the next.
    """
    if len(geometry.grid) == 1:
        return None
    rows, tall = geometry.code_grid[0], -(-geometry.kernel_size[0] // geometry.stride[0])
    n_bands = rows // max(ROWS, 4 * tall)
    if n_bands < 2:
        return None
    starts = np.linspace(0, rows, n_bands + 1).astype(np.int64)
    splits = starts[1:] - tall + 1
    if not geometry.wraps:  # no strip after the last band
        splits[-1] = rows
    return np.stack([starts[:-1], splits, splits, starts[1:]], axis=1).reshape(-1, 2)


@kernel
def _wait_for_all(barrier, n_threads):
    """Barrier: wait for all threads."""
    goal = (arrive(barrier) // n_threads + 1) * n_threads
    looks = 0
    while arrivals(barrier) < goal:
        looks += 1
        pause(looks)


def band_workspaces(plan, n_parts, capacity, n_threads, dtype):
    """Workspaces shared by all threads: floats, integers, and one bit per coefficient.

    The first four floating-point arrays are the signal, its mask, the residual and a dual point.
    """
    buffer, n_positions = plan.rows * plan.pitch, plan.code_height * plan.code_width
    integers, floats = working_set_sizes(capacity)
    integer_values = workspace(np.int64, n_parts, 1, *[capacity] * n_threads, *integers * n_parts)
    integer_values.values[integer_values.starts[1]] = 0  # the barrier
    return (
        workspace(
            dtype, *[buffer] * 4, n_positions, plan.height * plan.width, plan.code_height * plan.width, n_parts,
            *[row_size(plan), plan.padded_atoms, plan.padded_atoms] * n_threads, *floats * n_parts
        ),
        integer_values,
        np.zeros(n_positions * (plan.padded_atoms // lanes_of(dtype)), np.uint16),
    )  # fmt: skip


@inlined
def _working_set(floats, integers, p, n_threads):
    """The working set of part `p` in the workspaces."""
    return working_set_of(integers, 2 + n_threads + 4 * p, floats, 8 + 3 * n_threads + 3 * p)


@kernel
def _largest_of(values, n):
    top = values[0]
    for i in range(1, n):
        top = max(top, values[i])
    return top


@kernel
def _update_gap(floats, plan, alpha, tol, max_iter, penalty, state, top):
    """Gap and objective at the final penalty; requests a second dual point where it may tighten the gap."""
    signal, residual, point = part(floats, 0), part(floats, 2), part(floats, 3)
    value, squares = dual_value(signal, residual, plan, alpha, top)
    state[BOUND] = max(state[BOUND], value)
    objective = 0.5 * squares + penalty
    gap = max(0.0, objective - state[BOUND])
    state[GAP], state[OBJECTIVE] = gap, objective
    state[LOCAL] = gap > tol * objective and (gap <= LOCAL_SCALING_FROM * tol * objective or state[DONE] >= max_iter)
    if state[LOCAL]:
        peaks, scales, row_scales = part(floats, 4), part(floats, 5), part(floats, 6)
        fill(scales, plan.height * plan.width, 1)
        fill(row_scales, plan.code_height * plan.width, 1)
        lower_scales(scales, row_scales, peaks, plan, alpha)
        scale_pixels(residual, scales, plan, point)


@kernel
def _update_state(alpha, tol, max_iter, max_active, sizes, n_parts, top, state):
    """Next state after the scans, whose largest correlation is `top`."""
    n, overflow = 0, False
    for b in range(n_parts):
        overflow = overflow or sizes[b] < 0
        n += sizes[b]
    stage = int(state[STAGE])
    if stage > MOST_STAGES:
        state[STAGE], state[N_SWEEPS] = stage_count(top, alpha), 0
        return
    if overflow or state[ACTIVE] > max_active:
        state[STATUS], state[GAP], state[OBJECTIVE] = DENSE, np.inf, np.inf
        return
    n_sweeps = STAGE_SWEEPS
    if stage == 0:
        if (tol > 0 and state[GAP] <= tol * state[OBJECTIVE]) or (n == 0 and margin_at(stage, int(state[SCANS])) == 1):
            state[STATUS] = CONVERGED
        elif state[DONE] >= max_iter:
            state[STATUS] = STOPPED
        if state[STATUS] != RUNNING:
            return
        n_sweeps = sweeps_after(int(state[SCANS]))
        state[SCANS] += 1
    state[N_SWEEPS] = min(n_sweeps, max(1, max_iter - state[DONE]))
    state[STAGE] = max(0, stage - 1)
    state[DONE] += state[N_SWEEPS]


@kernel
def descend_in_bands(
    codes, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol, max_iter, capacity, max_active,
    parts, workspaces, state, n_threads, next_thread,
):  # fmt: skip
    """Code of one signal; each thread processes its share of the bands.

    Parameters
    ----------
    codes : ndarray of shape (n_positions * atoms,)
        Overwritten; zero, or the starting point if `warm`.
    capacity, max_active : int
        Capacity of the working set of a part, and maximum number of nonzero coefficients.
    parts : ndarray of int of shape (n_parts, 2)
        First row of positions of each part and the row after its last: two parts per band.
    workspaces : tuple
        By `band_workspaces`, with the signal, masked values set to zero, and its mask.
    state : ndarray of float
        Zeros.
    """
    thread = take_number(next_thread)
    floats, integers, present = workspaces[0], workspaces[1], pointer(workspaces[2], 0)
    vectors, columns, norms = tables
    tables = pointer(vectors, 0), pointer(columns, 0), pointer(norms, 0)
    weights, inv_weights, codes = pointer(weights, 0), pointer(inv_weights, 0), pointer(codes, 0)
    signal, valid, residual, point = part(floats, 0), part(floats, 1), part(floats, 2), part(floats, 3)
    peaks, largest = part(floats, 4), part(floats, 7)
    own = 8 + 3 * thread
    correlations, penalties, limits = part(floats, own), part(floats, own + 1), part(floats, own + 2)
    sizes, barrier, candidates = part(integers, 0), part(integers, 1), part(integers, 2 + thread)
    vectors = tables[0]
    minus = scalar_like(-1, vectors)
    n_parts = parts.shape[0]
    for p in range(2 * thread, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            sizes[q] = 0
            if warm:
                rows, working_set = (parts[q, 0], parts[q, 1]), _working_set(floats, integers, q, n_threads)
                sizes[q] = working_set_of_code(
                    codes, candidates, capacity, present, rows, valid, tables, plan, has_mask, working_set
                )
                row = plan.code_width * plan.atoms
                fill(pointer(codes, rows[0] * row), (rows[1] - rows[0]) * row, 0)
    if thread == 0:
        copy(signal, residual, plan.rows * plan.pitch)
        state[STAGE], state[STATUS] = (0 if warm else MOST_STAGES + 1), RUNNING
    _wait_for_all(barrier, n_threads)
    while True:
        stage = int(state[STAGE])
        if thread == 0:
            active = 0
            for p in range(n_parts):
                active += sizes[p]
            state[ACTIVE] = active
            if stage == 0 and (warm or state[DONE] > 0):
                copy(signal, residual, plan.rows * plan.pitch)
                for p in range(n_parts):
                    working_set = _working_set(floats, integers, p, n_threads)
                    add_atoms(residual, valid, vectors, plan, working_set, sizes[p], working_set[6], minus)
        _wait_for_all(barrier, n_threads)
        penalty = np.inf if stage > MOST_STAGES else alpha * FACTOR**stage
        set_penalties(penalties, limits, weights, plan.padded_atoms, penalty, margin_at(stage, int(state[SCANS])))
        for p in range(2 * thread, n_parts, 2 * n_threads):
            for q in range(p, p + 2):
                rows, working_set = (parts[q, 0], parts[q, 1]), _working_set(floats, integers, q, n_threads)
                sizes[q], largest[q] = append_violating(
                    residual, valid, present, tables, plan, limits, inv_weights, positive, has_mask, rows, correlations,
                    peaks, candidates, capacity, working_set, sizes[q],
                )  # fmt: skip
        _wait_for_all(barrier, n_threads)
        if thread == 0:
            state[LOCAL] = 0
            if stage == 0:
                l1 = 0.0
                for p in range(n_parts):
                    l1 += l1_norm(penalties, _working_set(floats, integers, p, n_threads), sizes[p])
                _update_gap(floats, plan, alpha, tol, max_iter, l1, state, _largest_of(largest, n_parts))
        _wait_for_all(barrier, n_threads)
        if state[LOCAL]:
            for p in range(2 * thread, n_parts, 2 * n_threads):
                rows = parts[p, 0], parts[p + 1, 1]
                largest[p] = largest[p + 1] = largest_correlation(
                    point, tables[1], plan, inv_weights, positive, rows, correlations
                )
            _wait_for_all(barrier, n_threads)
        if thread == 0:
            top = _largest_of(largest, n_parts)
            if state[LOCAL]:
                state[BOUND] = max(state[BOUND], dual_value(signal, point, plan, alpha, top)[0])
                state[GAP] = max(0.0, state[OBJECTIVE] - state[BOUND])
            _update_state(alpha, tol, max_iter, max_active, sizes, n_parts, top, state)
        _wait_for_all(barrier, n_threads)
        if state[STATUS] != RUNNING:
            break
        for k in range(int(state[N_SWEEPS])):
            for straddling in range(2):
                for p in range(2 * thread + straddling, n_parts, 2 * n_threads):
                    working_set = _working_set(floats, integers, p, n_threads)
                    sweep(residual, valid, vectors, plan, penalties, positive, working_set, sizes[p], True)
                _wait_for_all(barrier, n_threads)
            if k == 0 or k == 2:
                for p in range(2 * thread, n_parts, 2 * n_threads):
                    for q in range(p, p + 2):
                        sizes[q] = drop_zeros(present, _working_set(floats, integers, q, n_threads), sizes[q])
        _wait_for_all(barrier, n_threads)
    for p in range(2 * thread, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            write_code(codes, plan, _working_set(floats, integers, q, n_threads), max(0, sizes[q]))

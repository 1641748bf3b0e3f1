"""Coordinate descent on one large signal in parallel: bands of rows first, then the strips between them.

Bands depend on the signal only, not on the number of threads, and so does the result.
"""

import numpy as np

from skrobust.kernels.phases import pause
from skrobust.kernels.vectors import kernel, take_number
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
    stage_count,
    sweep,
    sweeps_after,
)
from .dual import dual_value, largest_correlation, lower_scales, scale_pixels
from .support import add_atoms, l1_norm
from .working_set import append_violating, drop_zeros, working_set_of_code, write_code

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


@kernel
def _part(working_sets, p):
    indices, offsets, atoms, border_class, squared_norms, inv_squared_norms, values = working_sets
    return indices[p], offsets[p], atoms[p], border_class[p], squared_norms[p], inv_squared_norms[p], values[p]


@kernel
def _update_gap(signal, buffers, plan, peaks, penalties, alpha, tol, max_iter, working_sets, sizes, state, top):
    """Gap and objective at the final penalty; requests a second dual point where it may tighten the gap."""
    residual, point = buffers
    penalty = 0.0
    for p in range(sizes.size):
        penalty += l1_norm(penalties, _part(working_sets, p), sizes[p])
    value, squares = dual_value(signal, residual, plan, alpha, top)
    state[BOUND] = max(state[BOUND], value)
    objective = 0.5 * squares + penalty
    gap = max(0.0, objective - state[BOUND])
    state[GAP], state[OBJECTIVE] = gap, objective
    state[LOCAL] = gap > tol * objective and (gap <= LOCAL_SCALING_FROM * tol * objective or state[DONE] >= max_iter)
    if state[LOCAL]:
        scales = np.ones((plan.height, plan.width), residual.dtype)
        row_scales = np.ones((plan.code_height, plan.width), residual.dtype)
        lower_scales(scales, row_scales, peaks, plan, alpha)
        scale_pixels(residual, scales, plan, point)


@kernel
def _update_state(alpha, tol, max_iter, max_active, sizes, top, state):
    """Next state after the scans, whose largest correlation is `top`."""
    n, overflow = 0, False
    for b in range(sizes.size):
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
    signal, valid, residual, point, codes, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol,
    max_iter, parts, working_sets, candidates, present, peaks, max_active, correlations, sizes, largest, state, barrier,
    n_threads, next_thread,
):  # fmt: skip
    """Code of one signal; each thread processes its share of the bands.

    Parameters
    ----------
    signal, valid, residual, point : flat buffers
        The signal with masked values set to zero, its mask, and two work buffers, the last one zero.
    codes : ndarray of shape (n_positions, atoms)
        Overwritten; zero, or the starting point if `warm`.
    parts : ndarray of int of shape (n_parts, 2)
        First row of positions of each part and the row after its last: two parts per band.
    working_sets : tuple of ndarray
        Workspace for the working sets, one row per part.
    candidates : ndarray of int of shape (n_threads, ...)
        Workspace for the scans of each thread.
    present : ndarray of int
        Zeros, one bit per coefficient.
    peaks : ndarray of shape (n_positions,)
    max_active : int
        Maximum number of nonzero coefficients.
    correlations : ndarray of shape (n_threads, ...)
        Workspace for one row of correlations per thread.
    sizes, largest : ndarray of shape (n_parts,)
        Workspace for the size of the working set, and the largest correlation, of each part.
    state : ndarray of float
    barrier : ndarray of one int
        Zero.
    """
    thread = take_number(next_thread)
    vectors = tables[0]
    minus = vectors.dtype.type(-1)
    n_parts = sizes.size
    for p in range(2 * thread, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            sizes[q] = 0
            if warm:
                rows, own = (parts[q, 0], parts[q, 1]), _part(working_sets, q)
                sizes[q] = working_set_of_code(
                    codes, candidates[thread], present, rows, valid, tables, plan, has_mask, own
                )
                codes[rows[0] * plan.code_width : rows[1] * plan.code_width] = 0
    if thread == 0:
        residual[:] = signal
        state[:] = 0
        state[STAGE], state[STATUS] = (0 if warm else MOST_STAGES + 1), RUNNING
    _wait_for_all(barrier, n_threads)
    while True:
        stage = int(state[STAGE])
        if thread == 0:
            state[ACTIVE] = sizes.sum()
            if stage == 0 and (warm or state[DONE] > 0):
                residual[:] = signal
                for p in range(n_parts):
                    own = _part(working_sets, p)
                    add_atoms(residual, valid, vectors, plan, own, sizes[p], own[6], minus)
        _wait_for_all(barrier, n_threads)
        penalties = weights * vectors.dtype.type(np.inf if stage > MOST_STAGES else alpha * FACTOR**stage)
        limits = penalties * vectors.dtype.type(margin_at(stage, int(state[SCANS])))
        for p in range(2 * thread, n_parts, 2 * n_threads):
            for q in range(p, p + 2):
                sizes[q], largest[q] = append_violating(
                    residual, valid, present, tables, plan, limits, inv_weights, positive, has_mask,
                    (parts[q, 0], parts[q, 1]), correlations[thread], peaks, candidates[thread],
                    _part(working_sets, q), sizes[q],
                )  # fmt: skip
        _wait_for_all(barrier, n_threads)
        if thread == 0:
            state[LOCAL] = 0
            if stage == 0:
                buffers = residual, point
                _update_gap(
                    signal,
                    buffers,
                    plan,
                    peaks,
                    penalties,
                    alpha,
                    tol,
                    max_iter,
                    working_sets,
                    sizes,
                    state,
                    largest.max(),
                )
        _wait_for_all(barrier, n_threads)
        if state[LOCAL]:
            for p in range(2 * thread, n_parts, 2 * n_threads):
                rows = parts[p, 0], parts[p + 1, 1]
                largest[p] = largest[p + 1] = largest_correlation(
                    point, tables[1], plan, inv_weights, positive, rows, correlations[thread]
                )
            _wait_for_all(barrier, n_threads)
        if thread == 0:
            if state[LOCAL]:
                state[BOUND] = max(state[BOUND], dual_value(signal, point, plan, alpha, largest.max())[0])
                state[GAP] = max(0.0, state[OBJECTIVE] - state[BOUND])
            _update_state(alpha, tol, max_iter, max_active, sizes, largest.max(), state)
        _wait_for_all(barrier, n_threads)
        if state[STATUS] != RUNNING:
            break
        for k in range(int(state[N_SWEEPS])):
            for straddling in range(2):
                for p in range(2 * thread + straddling, n_parts, 2 * n_threads):
                    own = _part(working_sets, p)
                    sweep(residual, valid, vectors, plan, penalties, positive, own, sizes[p], True)
                _wait_for_all(barrier, n_threads)
            if k == 0 or k == 2:
                for p in range(2 * thread, n_parts, 2 * n_threads):
                    for q in range(p, p + 2):
                        sizes[q] = drop_zeros(present, _part(working_sets, q), sizes[q])
        _wait_for_all(barrier, n_threads)
    for p in range(2 * thread, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            write_code(codes, plan, _part(working_sets, q), max(0, sizes[q]))

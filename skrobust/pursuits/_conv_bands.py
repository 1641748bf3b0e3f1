"""Coordinate descent on one large signal: bands of rows side by side, then the strips where they meet.

Bands depend on the signal alone, not on the threads, and so does the result.
"""

import numpy as np

from ._conv_candidates import collect, drop_zeros
from ._conv_descent import (
    CONVERGED,
    DENSE,
    FACTOR,
    MOST_STAGES,
    STAGE_SWEEPS,
    STOPPED,
    stage_count,
    sweep,
    sweeps_after,
    visiting_step,
    weighted_l1,
)
from ._conv_dual import dual_value, largest_correlation, lower_scales, scale_pixels
from ._conv_fista import LOCAL_FROM
from ._conv_support import subtract_candidates, subtract_code
from ._conv_vectors import arrivals, arrive
from ._vectors import kernel, take_number

STAGE, DONE, SCANS, TURNS, ENDING, GAP, OBJECTIVE, BOUND, LOCAL, ACTIVE = range(10)
"""Places in the state that all threads read and one writes."""

STATE_SIZE = 10

GOING = -1

ROWS = 64
"""Rows of positions of a band, at least."""


def band_starts(geometry):
    """First row of positions of each band and the row behind the last; None for signals of a single band."""
    if len(geometry.grid) == 1:
        return None
    rows, tall = geometry.code_grid[0], -(-geometry.kernel_size[0] // geometry.stride[0])
    n_bands = rows // max(ROWS, 4 * tall)
    if n_bands < 2:
        return None
    return np.linspace(0, rows, n_bands + 1).astype(np.int64)


@kernel
def _meet(gate, n_threads):
    """Wait until all threads are here."""
    goal = (arrive(gate) // n_threads + 1) * n_threads
    while arrivals(gate) < goal:
        pass


@kernel
def _of_band(candidates, b):
    where, places, atoms, kinds, squares, inverses = candidates
    return where[b], places[b], atoms[b], kinds[b], squares[b], inverses[b]


@kernel
def _first_straddler(where, n, last_row, row_size):
    """Index of the first candidate in a row of positions behind `last_row`; candidates come in order of their rows."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if where[middle] // row_size <= last_row:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def _weigh(signal, buffers, plan, positive, alpha, tol, most, candidates, counts, state, top):
    """Gap and objective at the final penalty; a second dual point, to be looked at, where that may be worth it."""
    residual, point, z, vectors, penalties = buffers
    penalty = 0.0
    for b in range(counts.size):
        penalty += weighted_l1(z, penalties, _of_band(candidates, b), 0, counts[b])
    value, squares = dual_value(signal, residual, plan, alpha, top)
    state[BOUND] = max(state[BOUND], value)
    objective = 0.5 * squares + penalty
    gap = max(0.0, objective - state[BOUND])
    state[GAP], state[OBJECTIVE] = gap, objective
    state[LOCAL] = gap > tol * objective and (gap <= LOCAL_FROM * tol * objective or state[DONE] >= most)
    if state[LOCAL]:
        scales = np.ones((plan.height, plan.width), vectors.dtype)
        for b in range(counts.size):
            mine = _of_band(candidates, b)
            lower_scales(scales, residual, vectors, plan, penalties, positive, mine, counts[b])
        scale_pixels(residual, scales, plan, point)


@kernel
def _judge(alpha, tol, most, most_active, counts, top, state):
    """How to go on after the scans, which found `top`."""
    n, overflow = 0, False
    for b in range(counts.size):
        overflow = overflow or counts[b] < 0
        n += counts[b]
    stage = int(state[STAGE])
    if stage > MOST_STAGES:
        state[STAGE], state[TURNS] = stage_count(top, alpha), 0
        return
    if overflow or state[ACTIVE] > most_active:
        state[ENDING], state[GAP], state[OBJECTIVE] = DENSE, np.inf, np.inf
        return
    turns = STAGE_SWEEPS
    if stage == 0:
        if state[GAP] <= tol * state[OBJECTIVE] or n == 0:
            state[ENDING] = CONVERGED
        elif state[DONE] >= most:
            state[ENDING] = STOPPED
        if state[ENDING] != GOING:
            return
        turns = sweeps_after(int(state[SCANS]))
        state[SCANS] += 1
    state[TURNS] = min(turns, max(1, most - state[DONE]))
    state[STAGE] = max(0, stage - 1)
    state[DONE] += state[TURNS]


@kernel
def descend_in_bands(
    signal, shown, residual, point, z, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most, starts,
    candidates, most_active, outs, counts, tops, state, gate, n_threads, next_thread,
):  # fmt: skip
    """Code of one signal, into `z`; each thread takes its share of the bands.

    Parameters
    ----------
    signal, shown, residual, point : flat buffers
        The signal where it is shown, what is shown of it, and room; the last is zero.
    starts : ndarray of int
        Rows of positions at which bands begin, and the row behind the last.
    candidates : tuple of ndarray
        Room for those of each band, a row a band.
    most_active : int
        Coefficients other than zero that the code may have.
    outs : ndarray of shape (n_threads, ...)
        A row of correlations for each thread.
    counts, tops : ndarray of shape (n_bands,)
    state : ndarray of float
    gate : ndarray of one int
        Zero.
    """
    me = take_number(next_thread)
    vectors = tables[0]
    row_size = plan.code_width * plan.padded_atoms
    tall = -(-plan.kernel_height // plan.stride_down)
    if me == 0:
        residual[:] = signal
        state[:] = 0
        state[STAGE], state[ENDING] = (0 if warm else MOST_STAGES + 1), GOING
        if warm:
            subtract_code(residual, shown, z, vectors, plan)
        counts[:] = 0
    _meet(gate, n_threads)
    while True:
        stage = int(state[STAGE])
        if me == 0:
            state[ACTIVE] = counts.sum()
            if stage == 0 and state[DONE] > 0:
                residual[:] = signal
                for b in range(counts.size):
                    subtract_candidates(residual, shown, z, vectors, plan, _of_band(candidates, b), 0, counts[b])
        _meet(gate, n_threads)
        penalties = weights * vectors.dtype.type(np.inf if stage > MOST_STAGES else alpha * FACTOR**stage)
        for b in range(me, counts.size, n_threads):
            rows = starts[b], starts[b + 1]
            mine = _of_band(candidates, b)
            counts[b], tops[b] = collect(
                residual, shown, z, tables, plan, penalties, rates, positive, has_mask, rows, outs[me], mine, 0
            )
        _meet(gate, n_threads)
        if me == 0:
            state[LOCAL] = 0
            if stage == 0:
                buffers = residual, point, z, vectors, penalties
                _weigh(signal, buffers, plan, positive, alpha, tol, most, candidates, counts, state, tops.max())
        _meet(gate, n_threads)
        if state[LOCAL]:
            for b in range(me, counts.size, n_threads):
                rows = starts[b], starts[b + 1]
                tops[b] = largest_correlation(point, tables[1], plan, rates, positive, rows, outs[me])
            _meet(gate, n_threads)
        if me == 0:
            if state[LOCAL]:
                state[BOUND] = max(state[BOUND], dual_value(signal, point, plan, alpha, tops.max())[0])
                state[GAP] = max(0.0, state[OBJECTIVE] - state[BOUND])
            _judge(alpha, tol, most, most_active, counts, tops.max(), state)
        _meet(gate, n_threads)
        if state[ENDING] != GOING:
            return
        for turn in range(int(state[TURNS])):
            for inside in (True, False):
                for b in range(me, counts.size, n_threads):
                    mine = _of_band(candidates, b)
                    # The last band meets the first on a circle only.
                    alone = b == counts.size - 1 and not plan.wraps
                    last_row = starts[b + 1] - 1 if alone else starts[b + 1] - tall
                    split = _first_straddler(mine[0], counts[b], last_row, row_size)
                    first, behind = (0, split) if inside else (split, counts[b])
                    rows_of_part = (starts[b + 1] - starts[b] - tall) if inside else tall
                    step = visiting_step(behind - first, max(1, rows_of_part) * plan.code_width)
                    sweep(residual, shown, z, vectors, plan, penalties, positive, mine, first, behind, max(1, step))
                _meet(gate, n_threads)
            if turn == 0 or turn == 2:
                for b in range(me, counts.size, n_threads):
                    counts[b] = drop_zeros(z, _of_band(candidates, b), 0, counts[b])
        _meet(gate, n_threads)

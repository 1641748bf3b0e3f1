"""Coordinate descent on one large signal: bands of rows side by side, then the strips where they meet.

Bands depend on the signal alone, not on the threads, and so does the result.
"""

import numpy as np

from ._conv_candidates import collect, drop_zeros, enrol_code, write_code
from ._conv_descent import (
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
from ._conv_dual import dual_value, largest_correlation, lower_scales, scale_pixels
from ._conv_fista import LOCAL_FROM
from ._conv_support import add_candidates, l1_norm
from ._conv_vectors import arrivals, arrive
from ._phases import pause
from ._vectors import kernel, take_number

STAGE, DONE, SCANS, TURNS, ENDING, GAP, OBJECTIVE, BOUND, LOCAL, ACTIVE = range(10)
"""Places in the state that all threads read and one writes."""

STATE_SIZE = 10

GOING = -1

ROWS = 64
"""Rows of positions of a band, at least."""


def band_parts(geometry):
    """First row of positions of each part and the row behind its last, (2 n_bands, 2); None for a single band.

    Each band has two parts: the rows whose atoms lie within the band, and those whose atoms reach into the next.
    """
    if len(geometry.grid) == 1:
        return None
    rows, tall = geometry.code_grid[0], -(-geometry.kernel_size[0] // geometry.stride[0])
    n_bands = rows // max(ROWS, 4 * tall)
    if n_bands < 2:
        return None
    starts = np.linspace(0, rows, n_bands + 1).astype(np.int64)
    splits = starts[1:] - tall + 1
    if not geometry.wraps:  # behind the last band is none
        splits[-1] = rows
    return np.stack([starts[:-1], splits, splits, starts[1:]], axis=1).reshape(-1, 2)


@kernel
def _meet(gate, n_threads):
    """Wait until all threads are here."""
    goal = (arrive(gate) // n_threads + 1) * n_threads
    looks = 0
    while arrivals(gate) < goal:
        looks += 1
        pause(looks)


@kernel
def _of_part(candidates, p):
    where, places, atoms, kinds, squares, inverses, values = candidates
    return where[p], places[p], atoms[p], kinds[p], squares[p], inverses[p], values[p]


@kernel
def _weigh(signal, buffers, plan, peaks, penalties, alpha, tol, most, candidates, counts, state, top):
    """Gap and objective at the final penalty; a second dual point, to be looked at, where that may be worth it."""
    residual, point = buffers
    penalty = 0.0
    for p in range(counts.size):
        penalty += l1_norm(penalties, _of_part(candidates, p), counts[p])
    value, squares = dual_value(signal, residual, plan, alpha, top)
    state[BOUND] = max(state[BOUND], value)
    objective = 0.5 * squares + penalty
    gap = max(0.0, objective - state[BOUND])
    state[GAP], state[OBJECTIVE] = gap, objective
    state[LOCAL] = gap > tol * objective and (gap <= LOCAL_FROM * tol * objective or state[DONE] >= most)
    if state[LOCAL]:
        scales = np.ones((plan.height, plan.width), residual.dtype)
        across = np.ones((plan.code_height, plan.width), residual.dtype)
        lower_scales(scales, across, peaks, plan, alpha)
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
        if (tol > 0 and state[GAP] <= tol * state[OBJECTIVE]) or (n == 0 and margin_at(stage, int(state[SCANS])) == 1):
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
    signal, shown, residual, point, codes, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most,
    parts, candidates, founds, present, peaks, most_active, outs, counts, tops, state, gate, n_threads, next_thread,
):  # fmt: skip
    """Code of one signal; each thread takes its share of the bands.

    Parameters
    ----------
    signal, shown, residual, point : flat buffers
        The signal where it is shown, what is shown of it, and room; the last is zero.
    codes : ndarray of shape (n_positions, atoms)
        Written; zero, or, where `warm`, where to begin.
    parts : ndarray of int of shape (n_parts, 2)
        First row of positions of each part and the row behind its last: two parts a band.
    candidates : tuple of ndarray
        Room for those of each part, a row a part.
    founds : ndarray of int
        Room for the scans of each thread.
    present : ndarray of int
        Zeros, a bit for each coefficient.
    peaks : ndarray of shape (n_positions,)
    most_active : int
        Coefficients other than zero that the code may have.
    outs : ndarray of shape (n_threads, ...)
        A row of correlations for each thread.
    counts, tops : ndarray of shape (n_parts,)
    state : ndarray of float
    gate : ndarray of one int
        Zero.
    """
    me = take_number(next_thread)
    vectors = tables[0]
    minus = vectors.dtype.type(-1)
    n_parts = counts.size
    for p in range(2 * me, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            counts[q] = 0
            if warm:
                rows, mine = (parts[q, 0], parts[q, 1]), _of_part(candidates, q)
                counts[q] = enrol_code(codes, founds[me], present, rows, shown, tables, plan, has_mask, mine)
                codes[rows[0] * plan.code_width : rows[1] * plan.code_width] = 0
    if me == 0:
        residual[:] = signal
        state[:] = 0
        state[STAGE], state[ENDING] = (0 if warm else MOST_STAGES + 1), GOING
    _meet(gate, n_threads)
    while True:
        stage = int(state[STAGE])
        if me == 0:
            state[ACTIVE] = counts.sum()
            if stage == 0 and (warm or state[DONE] > 0):
                residual[:] = signal
                for p in range(n_parts):
                    mine = _of_part(candidates, p)
                    add_candidates(residual, shown, vectors, plan, mine, counts[p], mine[6], minus)
        _meet(gate, n_threads)
        penalties = weights * vectors.dtype.type(np.inf if stage > MOST_STAGES else alpha * FACTOR**stage)
        limits = penalties * vectors.dtype.type(margin_at(stage, int(state[SCANS])))
        for p in range(2 * me, n_parts, 2 * n_threads):
            for q in range(p, p + 2):
                counts[q], tops[q] = collect(
                    residual, shown, present, tables, plan, limits, rates, positive, has_mask,
                    (parts[q, 0], parts[q, 1]), outs[me], peaks, founds[me], _of_part(candidates, q), counts[q],
                )  # fmt: skip
        _meet(gate, n_threads)
        if me == 0:
            state[LOCAL] = 0
            if stage == 0:
                buffers = residual, point
                _weigh(signal, buffers, plan, peaks, penalties, alpha, tol, most, candidates, counts, state, tops.max())
        _meet(gate, n_threads)
        if state[LOCAL]:
            for p in range(2 * me, n_parts, 2 * n_threads):
                rows = parts[p, 0], parts[p + 1, 1]
                tops[p] = tops[p + 1] = largest_correlation(point, tables[1], plan, rates, positive, rows, outs[me])
            _meet(gate, n_threads)
        if me == 0:
            if state[LOCAL]:
                state[BOUND] = max(state[BOUND], dual_value(signal, point, plan, alpha, tops.max())[0])
                state[GAP] = max(0.0, state[OBJECTIVE] - state[BOUND])
            _judge(alpha, tol, most, most_active, counts, tops.max(), state)
        _meet(gate, n_threads)
        if state[ENDING] != GOING:
            break
        for turn in range(int(state[TURNS])):
            for straddling in range(2):
                for p in range(2 * me + straddling, n_parts, 2 * n_threads):
                    mine = _of_part(candidates, p)
                    sweep(residual, shown, vectors, plan, penalties, positive, mine, counts[p], True)
                _meet(gate, n_threads)
            if turn == 0 or turn == 2:
                for p in range(2 * me, n_parts, 2 * n_threads):
                    for q in range(p, p + 2):
                        counts[q] = drop_zeros(present, _of_part(candidates, q), counts[q])
        _meet(gate, n_threads)
    for p in range(2 * me, n_parts, 2 * n_threads):
        for q in range(p, p + 2):
            write_code(codes, plan, _of_part(candidates, q), max(0, counts[q]))

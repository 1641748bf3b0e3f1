"""Coordinate descent for the convolutional LASSO, on a working set and in the residual domain.

The residual is kept, not the correlations: a visit costs the few vectors of one atom, whatever the number of atoms,
where updating a table of correlations costs all of them over a box of positions. The penalty comes down in stages, so
that the working set grows from a few coefficients to the support.
"""

import math

import numpy as np

from ._conv_candidates import collect, drop_zeros, room_for_candidates, room_for_steps
from ._conv_dual import dual_value, largest_correlation, lower_scales, scale_pixels
from ._conv_fista import LOCAL_FROM
from ._conv_kernels import lay_signal, row_buffer
from ._conv_support import add_candidate, gradient, improve_on_support, subtract_candidates, subtract_code
from ._vectors import aligned_zeros, inlined, kernel, lanes, take_number

SPACING = 8
"""Positions between one visit and the next: closer, a visit waits for what the last one has written."""

FACTOR, MOST_STAGES = 1.5, 8
"""The penalty falls by this factor from stage to stage."""

STAGE_SWEEPS = 2
SWEEPS = (3, 8, 8, 4)
"""Sweeps between one scan and the next at the final penalty; the last number goes on."""

REFINED_FROM, CG_STEPS, CG_RTOL, MOST_TRIES = 3, 12, 0.03, 3
"""From that scan on, conjugate gradients on the support follow the sweeps; anew where a coefficient reaches zero."""

CONVERGED, STOPPED, DENSE = 0, 1, 2
"""How a descent ended: at its gap, at its last sweep, for too many coefficients."""


@inlined
def _shrink(value, penalty, positive):
    magnitude = abs(value) - penalty
    zero = value - value  # of its type
    if magnitude <= 0 or (positive and value < 0):
        return zero
    return magnitude if value > 0 else -magnitude


@kernel
def sweep(residual, counts, z, vectors, plan, penalties, positive, candidates, first, behind, step):
    """Minimise over each candidate in turn, every `step`-th first."""
    where, places, atoms, kinds, squares, inverses = candidates
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for start in range(first, first + step):
        for i in range(start, behind, step):
            at, a, old = places[i], atoms[i] * atom_size, z[where[i]]
            value = gradient(residual, at, vectors, a, plan) + old * squares[i]
            new = _shrink(value, penalties[atoms[i]], positive) * inverses[i]
            if new != old:
                z[where[i]] = new
                add_candidate(residual, at, vectors, a, counts, plan, kinds[i], old - new)


@inlined
def visiting_step(n_candidates, n_positions):
    """Candidates from one visit to the next."""
    return max(1, min(n_candidates, SPACING * n_candidates // n_positions))


@kernel
def weighted_l1(z, penalties, candidates, first, behind):
    """Penalty of a code whose coefficients other than zero are all among the candidates."""
    where, atoms = candidates[0], candidates[2]
    total = 0.0
    for i in range(first, behind):
        total += abs(np.float64(z[where[i]])) * np.float64(penalties[atoms[i]])
    return total


@inlined
def sweeps_after(scans):
    """Sweeps after a scan at the final penalty."""
    return SWEEPS[min(scans, len(SWEEPS) - 1)]


@kernel
def stage_count(top, alpha):
    """Stages before the final penalty."""
    if not top > FACTOR * alpha:
        return 0
    return min(MOST_STAGES, int(math.log(top / alpha) / math.log(FACTOR)))


@kernel
def _descend(signal, counts, z, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most, room):
    """Code of one signal, from and into `z`; returns gap, objective, sweeps and how it ended."""
    vectors = tables[0]
    residual = signal.copy()
    out = row_buffer(plan, vectors)
    capacity, most_active = room
    candidates = room_for_candidates(capacity, vectors)
    work = room_for_steps(most_active, residual)
    kept, point = np.empty_like(residual), aligned_zeros(residual.size, vectors)
    rows = 0, plan.code_height
    bound = 0.0  # of theta = 0
    n_positions = plan.code_height * plan.code_width
    done = scans = 0
    stage = 0 if warm else MOST_STAGES + 1
    n = 0
    if warm:
        subtract_code(residual, counts, z, vectors, plan)
    while True:
        if stage == 0 and done > 0:  # what has drifted off is put right before a gap is taken
            residual[:] = signal
            subtract_candidates(residual, counts, z, vectors, plan, candidates, 0, n)
        look = stage > MOST_STAGES  # at the largest correlation alone, which says how many stages there are
        penalties = weights * vectors.dtype.type(np.inf if look else alpha * FACTOR**stage)
        n, top = collect(
            residual, counts, z, tables, plan, penalties, rates, positive, has_mask, rows, out, candidates, 0
        )
        if look:
            stage = stage_count(top, alpha)
            continue
        if n < 0:  # the rest of the positions was not looked at: no gap
            return np.inf, np.inf, done, DENSE
        turns = STAGE_SWEEPS
        if stage == 0:
            value, squares = dual_value(signal, residual, plan, alpha, top)
            bound = max(bound, value)
            objective = 0.5 * squares + weighted_l1(z, penalties, candidates, 0, n)
            gap = max(0.0, objective - bound)
            if gap > tol * objective and n > 0 and (gap <= LOCAL_FROM * tol * objective or done >= most):
                scales = np.ones((plan.height, plan.width), vectors.dtype)
                lower_scales(scales, residual, vectors, plan, penalties, positive, candidates, n)
                scale_pixels(residual, scales, plan, point)
                top = largest_correlation(point, tables[1], plan, rates, positive, rows, out)
                bound = max(bound, dual_value(signal, point, plan, alpha, top)[0])
                gap = max(0.0, objective - bound)
            if gap <= tol * objective or n == 0:
                return gap, objective, done, CONVERGED
            if done >= most:
                return gap, objective, done, STOPPED
            turns = sweeps_after(scans)
            scans += 1
        turns = min(turns, max(1, most - done))
        for turn in range(turns):
            step = visiting_step(n, n_positions)
            sweep(residual, counts, z, vectors, plan, penalties, positive, candidates, 0, n, step)
            if turn == 0 or turn == 2:
                n = drop_zeros(z, candidates, 0, n)
        done += turns
        n = drop_zeros(z, candidates, 0, n)
        if n > most_active:
            return np.inf, np.inf, done, DENSE
        if scans >= REFINED_FROM:
            for _ in range(MOST_TRIES):
                touched = improve_on_support(
                    residual, counts, z, vectors, plan, penalties, candidates, n, work, kept, CG_STEPS, CG_RTOL
                )
                done += CG_STEPS
                if not touched:
                    break
                n = drop_zeros(z, candidates, 0, n)
        stage = max(0, stage - 1)


@kernel
def _descend_one(x, mask, codes, warm, tables, plan, weights, rates, alpha, positive, tol, most, room, report):
    """Code of one signal, from its arrays and back."""
    vectors = tables[0]
    has_mask = mask.size > 0
    counts = aligned_zeros(plan.rows * plan.pitch, vectors)
    lay_signal(mask if has_mask else np.ones(x.size, x.dtype), counts, plan)
    signal = aligned_zeros(plan.rows * plan.pitch, vectors)
    lay_signal(x, signal, plan)
    signal *= counts
    z = aligned_zeros(codes.shape[0] * plan.padded_atoms, vectors)
    if warm:
        for p in range(codes.shape[0]):
            for k in range(plan.atoms):
                z[p * plan.padded_atoms + k] = codes[p, k]
    gap, objective, sweeps, ending = _descend(
        signal, counts, z, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most, room
    )
    for p in range(codes.shape[0]):
        for k in range(plan.atoms):
            codes[p, k] = z[p * plan.padded_atoms + k]
    report[0], report[1], report[2], report[3] = gap, objective, sweeps, ending


@kernel
def descend_signals(
    X, masks, codes, warm, tables, plan, weights, rates, alpha, positive, tol, most, room, report, next_signal
):
    """Codes of many signals, a thread a signal.

    Parameters
    ----------
    X : ndarray of shape (n, height * width * channels)
    masks : ndarray of shape (n, height * width * channels) or (n, 0)
        1 where a value counts, 0 where it is missing.
    codes : ndarray of shape (n, n_positions, atoms)
        Written; read where `warm`.
    room : tuple of int
        Candidates of one signal for which there is room, and coefficients other than zero that it may have.
    report : ndarray of shape (n, 4)
        Gap, objective, sweeps and how it ended.
    """
    n = take_number(next_signal)
    while n < X.shape[0]:
        _descend_one(
            X[n],
            masks[n],
            codes[n],
            warm,
            tables,
            plan,
            weights,
            rates,
            alpha,
            positive,
            tol,
            most,
            room,
            report[n],
        )
        n = take_number(next_signal)

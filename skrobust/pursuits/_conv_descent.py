"""Coordinate descent for the convolutional LASSO, on a working set and in the residual domain.

The residual is kept, not the correlations: a visit costs the few vectors of one atom, whatever the number of atoms,
where updating a table of correlations costs all of them over a box of positions. The penalty comes down in stages, so
that the working set grows from a few coefficients to the support.
"""

import math

import numpy as np

from ._conv_candidates import (
    MASKED,
    PLAIN,
    collect,
    drop_zeros,
    enrol_code,
    room_for_candidates,
    room_for_steps,
    write_code,
)
from ._conv_dual import dual_value, largest_correlation, lower_scales, scale_pixels
from ._conv_fista import LOCAL_FROM
from ._conv_kernels import lay_signal, row_buffer
from ._conv_support import add_candidate, add_candidates, gradient, improve_on_support, l1_norm
from ._conv_vectors import minimise_over
from ._vectors import aligned_zeros, inlined, kernel, lanes, take_number

FACTOR, MOST_STAGES = 1.5, 40
"""The penalty falls by this factor from stage to stage."""

MARGINS = (1.4, 1.1, 1.0)
"""A scan at the final penalty appends what exceeds it by this factor; the last number goes on. In a stage, FACTOR.

Neighbours exceed the penalty together, and most of them no longer once some of them have come in.
"""

STAGE_SWEEPS = 3
SWEEPS = (3, 8, 8, 4)
"""Sweeps between one scan and the next at the final penalty; the last number goes on."""

REFINED_FROM, CG_STEPS, CG_RTOL, MOST_TRIES = 3, 8, 0.03, 6
"""From that scan on, conjugate gradients on the support follow the sweeps; anew where a coefficient reaches zero, as
often as there were scans: sweeps alone take long where atoms depend on each other.
"""

CONVERGED, STOPPED, DENSE = 0, 1, 2
"""How a descent ended: at its gap, at its last sweep, for too many coefficients."""


@kernel
def sweep(residual, counts, vectors, plan, penalties, positive, candidates, n, newest_first):
    """Minimise over each candidate in turn, from the last one found or from the first.

    Those found last come first for few sweeps; where atoms depend on each other, they would go on taking what others
    have, and no coefficient would become zero.
    """
    _, places, atoms, kinds, squares, inverses, values = candidates
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for turn in range(n):
        i = n - 1 - turn if newest_first else turn
        at, a, kind, old = places[i], atoms[i] * atom_size, kinds[i], values[i]
        high = penalties[atoms[i]]
        low = vectors.dtype.type(-np.inf) if positive else -high
        if plan.shape > 0 and kind == PLAIN:
            values[i] = minimise_over(
                residual, at, plan.pitch, vectors, a, None, plan.shape, old, squares[i], inverses[i], low, high
            )
        elif plan.shape > 0 and kind == MASKED:
            values[i] = minimise_over(
                residual, at, plan.pitch, vectors, a, counts, plan.shape, old, squares[i], inverses[i], low, high
            )
        else:
            value = gradient(residual, at, vectors, a, plan) + old * squares[i]
            new = (value - min(max(value, low), high)) * inverses[i]
            if new != old:
                values[i] = new
                add_candidate(residual, at, vectors, a, counts, plan, kind, old - new)


@inlined
def sweeps_after(scans):
    """Sweeps after a scan at the final penalty."""
    return SWEEPS[min(scans, len(SWEEPS) - 1)]


@inlined
def margin_at(stage, scans):
    """Factor by which a correlation must exceed its penalty to become a candidate."""
    return FACTOR if stage > 0 else MARGINS[min(scans, len(MARGINS) - 1)]


@kernel
def stage_count(top, alpha):
    """Stages before the final penalty."""
    if not top > FACTOR * alpha:
        return 0
    return int(min(float(MOST_STAGES), math.log(top / alpha) / math.log(FACTOR)))


@kernel
def _room_for_descent(plan, room, like):
    """What one thread needs: buffers like the residual, room for scans, the working set, steps on it, and scales."""
    size, (capacity, most_active) = plan.rows * plan.pitch, room
    n_positions = plan.code_height * plan.code_width
    present = np.zeros(n_positions * (plan.padded_atoms // lanes(like)), np.uint16)
    return (
        (aligned_zeros(size, like), aligned_zeros(size, like), aligned_zeros(size, like), aligned_zeros(size, like)),
        (row_buffer(plan, like), np.empty(n_positions, like.dtype), np.empty(capacity, np.int64), present),
        room_for_candidates(capacity, like),
        room_for_steps(most_active, aligned_zeros(size, like)),
        (np.empty((plan.height, plan.width), like.dtype), np.empty((plan.code_height, plan.width), like.dtype)),
    )


@kernel
def _descend(signal, counts, n, room, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most):
    """Code of one signal, in the working set; returns their number, gap, objective, sweeps and how it ended."""
    vectors = tables[0]
    buffers, (out, peaks, found, present), candidates, work, (scales, across) = room
    residual, kept = buffers[2], buffers[3]
    values, most_active = candidates[6], work[0].size
    one = vectors.dtype.type(1)
    rows = 0, plan.code_height
    bound = 0.0  # of theta = 0
    done = scans = 0
    stage = 0 if warm else MOST_STAGES + 1
    rebuild = warm
    while True:
        if rebuild:  # what has drifted off is put right before a gap is taken
            residual[:] = signal
            add_candidates(residual, counts, vectors, plan, candidates, n, values, -one)
        look = stage > MOST_STAGES  # at the largest correlation alone, which says how many stages there are
        penalties = weights * vectors.dtype.type(np.inf if look else alpha * FACTOR**stage)
        margin = margin_at(stage, scans)
        limits = penalties * vectors.dtype.type(margin)
        before = n
        n, top = collect(
            residual, counts, present, tables, plan, limits, rates, positive, has_mask, rows, out, peaks, found,
            candidates, n,
        )  # fmt: skip
        if look:
            stage = stage_count(top, alpha)
            continue
        if n < 0:  # the rest of the positions was not looked at: no gap
            return before, np.inf, np.inf, done, DENSE
        turns = STAGE_SWEEPS
        if stage == 0:
            value, squares = dual_value(signal, residual, plan, alpha, top)
            bound = max(bound, value)
            objective = 0.5 * squares + l1_norm(penalties, candidates, n)
            gap = max(0.0, objective - bound)
            if gap > tol * objective and n > 0 and (gap <= LOCAL_FROM * tol * objective or done >= most):
                scales[:] = across[:] = 1
                lower_scales(scales, across, peaks, plan, alpha)
                scale_pixels(residual, scales, plan, kept)
                top = largest_correlation(kept, tables[1], plan, rates, positive, rows, out)
                bound = max(bound, dual_value(signal, kept, plan, alpha, top)[0])
                gap = max(0.0, objective - bound)
            if (tol > 0 and gap <= tol * objective) or (n == 0 and margin == 1):
                return n, gap, objective, done, CONVERGED
            if done >= most:
                return n, gap, objective, done, STOPPED
            turns = sweeps_after(scans)
            scans += 1
        turns = min(turns, max(1, most - done))
        for turn in range(turns):
            sweep(residual, counts, vectors, plan, penalties, positive, candidates, n, scans <= REFINED_FROM)
            if turn == 0 or turn == 2:
                n = drop_zeros(present, candidates, n)
        done += turns
        n = drop_zeros(present, candidates, n)
        if n > most_active:
            return n, np.inf, np.inf, done, DENSE
        if scans >= REFINED_FROM:
            for _ in range(min(scans, MOST_TRIES)):
                touched = improve_on_support(
                    residual, counts, vectors, plan, penalties, candidates, n, work, kept, CG_STEPS, CG_RTOL
                )
                done += CG_STEPS
                if not touched:
                    break
                n = drop_zeros(present, candidates, n)
        stage = max(0, stage - 1)
        rebuild = stage == 0


@kernel
def _descend_one(x, mask, codes, warm, room, tables, plan, weights, rates, alpha, positive, tol, most, report):
    """Code of one signal, from its arrays and back."""
    (signal, counts, residual, _), (_, _, found, present), candidates, _, _ = room
    has_mask = mask.size > 0
    lay_signal(mask if has_mask else np.ones(x.size, x.dtype), counts, plan)
    lay_signal(x, signal, plan)
    signal *= counts
    residual[:] = signal
    present[:] = 0
    n = 0
    if warm:
        n = enrol_code(codes, found, present, (0, plan.code_height), counts, tables, plan, has_mask, candidates)
        if n < 0:
            report[0], report[1], report[2], report[3] = np.inf, np.inf, 0, DENSE
            return
        codes[:] = 0
    n, gap, objective, sweeps, ending = _descend(
        signal, counts, n, room, tables, plan, weights, rates, alpha, positive, has_mask, warm, tol, most
    )
    write_code(codes, plan, candidates, n)
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
        Written; zero, or, where `warm`, where to begin.
    room : tuple of int
        Candidates of one signal for which there is room, and coefficients other than zero that it may have.
    report : ndarray of shape (n, 4)
        Gap, objective, sweeps and how it ended.
    """
    own = _room_for_descent(plan, room, tables[0])
    n = take_number(next_signal)
    while n < X.shape[0]:
        _descend_one(
            X[n],
            masks[n],
            codes[n],
            warm,
            own,
            tables,
            plan,
            weights,
            rates,
            alpha,
            positive,
            tol,
            most,
            report[n],
        )
        n = take_number(next_signal)

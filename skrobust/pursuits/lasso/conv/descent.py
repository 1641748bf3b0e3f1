"""Coordinate descent for the convolutional LASSO, on a working set and in the residual domain.

The state is the residual, not a table of correlations. A visit of a coefficient costs a few vectors of one atom, while
updating such a table would cost all atoms over a box of positions. The penalty decreases in stages, so that the working
set grows from a few coefficients to the support.
"""

import math

import numpy as np

from skrobust.kernels.vectors import inlined, kernel, lanes, scalar_like, take_number
from skrobust.kernels.workspace import copy, fill, part, pointer, workspace
from skrobust.operators.conv.kernels import copy_into_buffer, row_size
from skrobust.operators.conv.plan import lanes_of
from skrobust.operators.conv.vectors import minimise_over
from skrobust.pursuits.problem import LOCAL_SCALING_FROM

from .dual import dual_value, largest_correlation, lower_scales, scale_pixels
from .support import add_atoms, add_masked_atom, correlate_atom, improve_on_support, l1_norm
from .working_set import (
    MASKED,
    PLAIN,
    append_violating,
    drop_zeros,
    working_set_of,
    working_set_of_code,
    working_set_sizes,
    write_code,
)

FACTOR, MOST_STAGES = 1.5, 40
"""Factor by which the penalty decreases from stage to stage."""

MARGINS = (1.4, 1.1, 1.0)
"""Entry threshold of each scan at the final penalty, as a multiple of the penalty. The last value repeats.

Neighbours exceed the penalty together; once some of them are active, most others no longer do. Stages use FACTOR.
"""

STAGE_SWEEPS = 3
SWEEPS = (3, 8, 8, 4)
"""Sweeps after each scan at the final penalty. The last value repeats."""

REFINED_FROM, CG_STEPS, CG_RTOL, MOST_TRIES = 3, 8, 0.03, 6
"""Scan from which on conjugate gradients on the support follow the sweeps, which are slow for correlated atoms.

They restart when a coefficient becomes zero, at most as often as there were scans.
"""

CONVERGED, STOPPED, DENSE = 0, 1, 2
"""Reasons for stopping: gap reached, maximum number of sweeps, too many coefficients."""


@kernel
def sweep(residual, valid, vectors, plan, penalties, positive, working_set, n, newest_first):
    """Minimise over each coefficient of the working set in turn, from the newest or from the oldest.

    Starting from the newest saves sweeps in early scans. Later, correlated atoms would keep exchanging weight, and
    none would reach zero.
    """
    _, offsets, atoms, border_class, squared_norms, inv_squared_norms, values = working_set
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for k in range(n):
        i = n - 1 - k if newest_first else k
        at, a, border, old = offsets[i], atoms[i] * atom_size, border_class[i], values[i]
        high = penalties[atoms[i]]
        low = scalar_like(-np.inf, vectors) if positive else -high
        if plan.shape > 0 and border == PLAIN:
            values[i] = minimise_over(
                residual,
                at,
                plan.pitch,
                vectors,
                a,
                None,
                plan.shape,
                old,
                squared_norms[i],
                inv_squared_norms[i],
                low,
                high,
            )
        elif plan.shape > 0 and border == MASKED:
            values[i] = minimise_over(
                residual,
                at,
                plan.pitch,
                vectors,
                a,
                valid,
                plan.shape,
                old,
                squared_norms[i],
                inv_squared_norms[i],
                low,
                high,
            )
        else:
            value = correlate_atom(residual, at, vectors, a, plan) + old * squared_norms[i]
            new = (value - min(max(value, low), high)) * inv_squared_norms[i]
            if new != old:
                values[i] = new
                add_masked_atom(residual, at, vectors, a, valid, plan, border, old - new)


@inlined
def sweeps_after(scans):
    """Sweeps after a scan at the final penalty."""
    return SWEEPS[min(scans, len(SWEEPS) - 1)]


@inlined
def margin_at(stage, scans):
    """Factor by which a correlation must exceed its penalty to enter the working set."""
    return FACTOR if stage > 0 else MARGINS[min(scans, len(MARGINS) - 1)]


@kernel
def set_penalties(penalties, limits, weights, n_atoms, penalty, margin):
    """Penalty of each atom, and the correlation from which it enters the working set."""
    for k in range(n_atoms):
        penalties[k] = weights[k] * scalar_like(penalty, penalties)
        limits[k] = penalties[k] * scalar_like(margin, limits)


@kernel
def stage_count(top, alpha):
    """Stages before the final penalty."""
    if not top > FACTOR * alpha:
        return 0
    return int(min(float(MOST_STAGES), math.log(top / alpha) / math.log(FACTOR)))


def descent_workspaces(plan, capacity, max_active, dtype):
    """Workspaces of one thread: floats, integers, and one bit per coefficient."""
    buffer, n_positions = plan.rows * plan.pitch, plan.code_height * plan.code_width
    integers, floats = working_set_sizes(capacity)
    return (
        workspace(
            dtype, *[buffer] * 5, row_size(plan), n_positions, plan.height * plan.width, plan.code_height * plan.width,
            plan.padded_atoms, plan.padded_atoms, *[max_active] * 3, *floats
        ),
        workspace(np.int64, capacity, *integers),
        np.empty(n_positions * (plan.padded_atoms // lanes_of(dtype)), np.uint16),
    )  # fmt: skip


@kernel
def _descend(
    n, floats, integers, present, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol, max_iter,
    capacity, max_active,
):  # fmt: skip
    """Code of one signal, in the working set; returns its size, gap, objective, sweeps and reason for stopping."""
    vectors = tables[0]
    signal, valid, residual, saved = part(floats, 0), part(floats, 1), part(floats, 2), part(floats, 3)
    out, peaks, scales, row_scales = part(floats, 5), part(floats, 6), part(floats, 7), part(floats, 8)
    penalties, limits = part(floats, 9), part(floats, 10)
    cg_arrays = part(floats, 11), part(floats, 12), part(floats, 13), part(floats, 4)
    candidates, working_set = part(integers, 0), working_set_of(integers, 1, floats, 14)
    values = working_set[6]
    one, size = scalar_like(1, vectors), plan.rows * plan.pitch
    rows = 0, plan.code_height
    bound = 0.0  # of theta = 0
    sweeps_done = scans = 0
    stage = 0 if warm else MOST_STAGES + 1
    rebuild = warm
    while True:
        if rebuild:  # recompute the residual before a gap, to remove accumulated rounding errors
            copy(signal, residual, size)
            add_atoms(residual, valid, vectors, plan, working_set, n, values, -one)
        first_scan = stage > MOST_STAGES  # only the largest correlation, which determines the number of stages
        margin = margin_at(stage, scans)
        penalty = np.inf if first_scan else alpha * FACTOR**stage
        set_penalties(penalties, limits, weights, plan.padded_atoms, penalty, margin)
        before = n
        n, top = append_violating(
            residual, valid, present, tables, plan, limits, inv_weights, positive, has_mask, rows, out, peaks,
            candidates, capacity, working_set, n,
        )  # fmt: skip
        if first_scan:
            stage = stage_count(top, alpha)
            continue
        if n < 0:  # the remaining positions were not scanned: no gap
            return before, np.inf, np.inf, sweeps_done, DENSE
        n_sweeps = STAGE_SWEEPS
        if stage == 0:
            value, squares = dual_value(signal, residual, plan, alpha, top)
            bound = max(bound, value)
            objective = 0.5 * squares + l1_norm(penalties, working_set, n)
            gap = max(0.0, objective - bound)
            if (
                gap > tol * objective
                and n > 0
                and (gap <= LOCAL_SCALING_FROM * tol * objective or sweeps_done >= max_iter)
            ):
                fill(scales, plan.height * plan.width, 1)
                fill(row_scales, plan.code_height * plan.width, 1)
                lower_scales(scales, row_scales, peaks, plan, alpha)
                scale_pixels(residual, scales, plan, saved)
                top = largest_correlation(saved, tables[1], plan, inv_weights, positive, rows, out)
                bound = max(bound, dual_value(signal, saved, plan, alpha, top)[0])
                gap = max(0.0, objective - bound)
            if (tol > 0 and gap <= tol * objective) or (n == 0 and margin == 1):
                return n, gap, objective, sweeps_done, CONVERGED
            if sweeps_done >= max_iter:
                return n, gap, objective, sweeps_done, STOPPED
            n_sweeps = sweeps_after(scans)
            scans += 1
        n_sweeps = min(n_sweeps, max(1, max_iter - sweeps_done))
        for k in range(n_sweeps):
            sweep(residual, valid, vectors, plan, penalties, positive, working_set, n, scans <= REFINED_FROM)
            if k == 0 or k == 2:
                n = drop_zeros(present, working_set, n)
        sweeps_done += n_sweeps
        n = drop_zeros(present, working_set, n)
        if n > max_active:
            return n, np.inf, np.inf, sweeps_done, DENSE
        if scans >= REFINED_FROM:
            for _ in range(min(scans, MOST_TRIES)):
                some_dropped = improve_on_support(
                    residual, valid, vectors, plan, penalties, working_set, n, cg_arrays, saved, CG_STEPS, CG_RTOL
                )
                sweeps_done += CG_STEPS
                if not some_dropped:
                    break
                n = drop_zeros(present, working_set, n)
        stage = max(0, stage - 1)
        rebuild = stage == 0


@kernel
def descend_signals(
    X, masks, codes, warm, tables, plan, weights, inv_weights, alpha, positive, tol, max_iter, capacity, max_active,
    workspaces, report, next_signal,
):  # fmt: skip
    """Codes of many signals, one thread per signal.

    Parameters
    ----------
    X : ndarray of shape (n, height * width * channels)
    masks : ndarray of shape (n, height * width * channels) or (n, 0)
        1 where a value is known, 0 where it is missing.
    codes : ndarray of shape (n, n_positions * atoms)
        Overwritten; zero, or the starting point if `warm`.
    capacity, max_active : int
        Capacity of the working set, and maximum number of nonzero coefficients.
    workspaces : tuple
        Those of this thread, by `descent_workspaces`.
    report : ndarray of shape (n, 4)
        Gap, objective, sweeps and reason for stopping.
    """
    floats, integers, present = workspaces[0], workspaces[1], pointer(workspaces[2], 0)
    vectors, columns, norms = tables
    tables = pointer(vectors, 0), pointer(columns, 0), pointer(norms, 0)
    weights, inv_weights = pointer(weights, 0), pointer(inv_weights, 0)
    size, n_values, n_codes = plan.rows * plan.pitch, X.shape[1], codes.shape[1]
    signal, valid, residual = part(floats, 0), part(floats, 1), part(floats, 2)
    candidates, working_set = part(integers, 0), working_set_of(integers, 1, floats, 14)
    has_mask = masks.shape[1] > 0
    fill(signal, size, 0)
    fill(valid, size, 0)
    if not has_mask:
        fill(residual, size, 1)
        copy_into_buffer(residual, valid, plan)
    i = take_number(next_signal)
    while i < X.shape[0]:
        if has_mask:
            copy_into_buffer(pointer(masks, i * n_values), valid, plan)
        copy_into_buffer(pointer(X, i * n_values), signal, plan)
        for k in range(size):
            signal[k] *= valid[k]
        copy(signal, residual, size)
        fill(present, workspaces[2].size, 0)
        n = 0
        code = pointer(codes, i * n_codes)
        if warm:
            n = working_set_of_code(
                code, candidates, capacity, present, (0, plan.code_height), valid, tables, plan, has_mask, working_set
            )
            if n >= 0:
                fill(code, n_codes, 0)
        gap, objective, sweeps, status = np.inf, np.inf, 0, DENSE
        if n >= 0:
            n, gap, objective, sweeps, status = _descend(
                n, floats, integers, present, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol,
                max_iter, capacity, max_active,
            )  # fmt: skip
            write_code(code, plan, working_set, n)
        report[i, 0], report[i, 1], report[i, 2], report[i, 3] = gap, objective, sweeps, status
        i = take_number(next_signal)

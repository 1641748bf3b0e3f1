"""Coordinate descent for the convolutional LASSO, on working sets and in the residual domain.

The state is the residual, not a table of correlations. A visit of a coefficient costs a few vectors of one atom, while
updating such a table would cost all atoms over a box of positions. The penalty decreases in stages, so that the working
set grows from a few coefficients to the support.
"""

import math

import numpy as np

from skrobust.kernels.vectors import inlined, kernel, lanes, scalar_like, take_number
from skrobust.kernels.workspace import fill, part, pointer, workspace
from skrobust.operators.conv.kernels import copy_into_buffer, row_size
from skrobust.operators.conv.plan import BLOCK, lanes_of
from skrobust.operators.conv.vectors import minimise_over

from .dual import dual_value, largest_correlation, lower_row_scales, lower_scales, scale_pixels
from .support import (
    VALUES,
    add_masked_atom,
    add_parts,
    copy_rows,
    correlate_atom,
    improve_on_support,
    inner_product_inside,
    l1_norm,
)
from .team import Parts, Team, rows_of, set_of, share_of, wait_for_all
from .working_set import (
    MASKED,
    PLAIN,
    append_violating,
    blocks_of_row,
    drop_zeros,
    mark_stale,
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

PROMISING = 3.0
"""Factors of pixels, which cost a scan, are tried if their last shrinkage promises a gap of this multiple of `tol`."""

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


def descent_workspaces(plan, n_parts, capacity, max_active, n_threads, dtype):
    """Workspaces of one signal, shared by the threads that solve it: floats, integers, sums, and a bit per coefficient.

    The first two floating-point arrays are the signal and its mask. `capacity` is that of the working set of a part.
    """
    buffer, n_positions = plan.rows * plan.pitch, plan.code_height * plan.code_width
    integers, floats = working_set_sizes(capacity)
    per_thread = [row_size(plan), plan.padded_atoms, plan.padded_atoms]
    per_part = [*floats, *[min(capacity, max_active)] * 4]
    return (
        workspace(
            dtype, *[buffer] * 5, n_positions, plan.height * plan.width, plan.code_height * plan.width, n_parts,
            *per_thread * n_threads, *per_part * n_parts
        ),
        workspace(
            np.int64, n_parts, plan.code_height * -(-plan.code_width // BLOCK), *[capacity] * n_threads,
            *integers * n_parts
        ),
        np.zeros((n_parts + 1) // 2),
        np.empty(n_positions * (plan.padded_atoms // lanes_of(dtype)), np.uint16),
    )  # fmt: skip


SIGNAL, VALID, RESIDUAL, SAVED, IMAGE, PEAKS, SCALES, ROW_SCALES, LARGEST, OF_THREADS = range(10)
"""Floating-point arrays of the workspaces."""

SIZES, STALE, CANDIDATES = range(3)
"""Arrays of integers."""


@kernel
def _scan(
    floats, integers, present, tables, plan, limit, limits, inv_weights, positive, has_mask, capacity, parts, team
):
    """Append what exceeds its limit to all working sets; return the new number, or -1, and the largest correlation.

    -1 means that a part exceeds its capacity, and was not scanned to its end.
    """
    residual, valid = part(floats, RESIDUAL), part(floats, VALID)
    peaks, largest = part(floats, PEAKS), part(floats, LARGEST)
    out, candidates = part(floats, OF_THREADS + 3 * team.thread), part(integers, CANDIDATES + team.thread)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            before = parts.sizes[q]
            n, largest[q] = append_violating(
                residual, valid, present, tables, plan, limit, limits, inv_weights, positive, has_mask,
                rows_of(parts, q), out, peaks, part(integers, STALE), candidates, capacity, set_of(parts, q), before,
            )  # fmt: skip
            parts.sizes[q] = n if n >= 0 else -1 - before
    wait_for_all(team)
    n, top, overflows = 0, largest[0], False
    for q in range(parts.n):
        top = max(top, largest[q])
        overflows = overflows or parts.sizes[q] < 0
        n += parts.sizes[q]
    wait_for_all(team)
    if overflows:
        for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
            for q in range(p, min(p + 2, parts.n)):
                if parts.sizes[q] < 0:
                    parts.sizes[q] = -1 - parts.sizes[q]
        return -1, top
    return n, top


@kernel
def _mark_stale(integers, plan, n, parts, team):
    """Mark the blocks of positions whose correlations change with the `n` coefficients of the working sets."""
    stale, blocks = part(integers, STALE), blocks_of_row(plan)
    covered = (2 * plan.kernel_height - 1) * (2 * plan.kernel_width - 1) // (plan.stride_down * plan.stride_right)
    everywhere = n * covered > plan.code_height * plan.code_width
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            if everywhere:
                for i in range(parts.rows[2 * q] * blocks, parts.rows[2 * q + 1] * blocks):
                    stale[i] = 1
            else:
                mark_stale(stale, plan, set_of(parts, q), parts.sizes[q])


@kernel
def _bound_by_pixels(floats, plan, tables, inv_weights, alpha, positive, parts, team):
    """Bound of the residual with a factor for each pixel."""
    signal, residual, point = part(floats, SIGNAL), part(floats, RESIDUAL), part(floats, SAVED)
    peaks, scales, row_scales, largest = (
        part(floats, PEAKS),
        part(floats, SCALES),
        part(floats, ROW_SCALES),
        part(floats, LARGEST),
    )
    out = part(floats, OF_THREADS + 3 * team.thread)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            first, end = rows_of(parts, q)
            lower_row_scales(row_scales, peaks, first, end, plan, alpha)
    wait_for_all(team)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        first, end = share_of(plan.height, p // 2, parts)
        lower_scales(scales, row_scales, first, end, plan)
    wait_for_all(team)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        first, end = share_of(plan.rows, p // 2, parts)
        scale_pixels(residual, scales, first, end, plan, point)
    wait_for_all(team)
    products = inner_product_inside(point, signal, plan, parts, team)
    squares = inner_product_inside(point, point, plan, parts, team)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            largest[q] = largest_correlation(point, tables[1], plan, inv_weights, positive, rows_of(parts, q), out)
    wait_for_all(team)
    top = largest[0]
    for q in range(1, parts.n):
        top = max(top, largest[q])
    wait_for_all(team)
    return dual_value(products, squares, alpha, top)


@kernel
def _drop_zeros(present, parts, team):
    """Keep the nonzero coefficients of all working sets; return their number."""
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            parts.sizes[q] = drop_zeros(present, set_of(parts, q), parts.sizes[q])
    wait_for_all(team)
    n = 0
    for q in range(parts.n):
        n += parts.sizes[q]
    wait_for_all(team)
    return n


@kernel
def _descend(
    floats, integers, present, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol, max_iter,
    capacity, max_active, parts, team,
):  # fmt: skip
    """Code of one signal, in the working sets; returns gap, objective, sweeps and reason for stopping.

    Every thread returns the same, as each takes all decisions itself, from the same sums.
    """
    vectors = tables[0]
    signal, valid, residual, saved = (
        part(floats, SIGNAL),
        part(floats, VALID),
        part(floats, RESIDUAL),
        part(floats, SAVED),
    )
    image = part(floats, IMAGE)
    own = OF_THREADS + 3 * team.thread
    penalties, limits = part(floats, own + 1), part(floats, own + 2)
    minus = scalar_like(-1, vectors)
    bound = 0.0  # of theta = 0
    shrinkage = 0.0  # gap by factors of pixels, relative to that by a single factor
    sweeps_done = scans = 0
    stage = 0 if warm else MOST_STAGES + 1
    copy_rows(signal, residual, plan, parts, team)
    rebuild = warm
    while True:
        if rebuild:  # recompute the residual before a gap, to remove accumulated rounding errors
            copy_rows(signal, residual, plan, parts, team)
            add_parts(residual, valid, vectors, plan, parts, VALUES, minus, team)
        first_scan = stage > MOST_STAGES  # only the largest correlation, which determines the number of stages
        margin = margin_at(stage, scans)
        penalty = np.inf if first_scan else alpha * FACTOR**stage
        set_penalties(penalties, limits, weights, plan.padded_atoms, penalty, margin)
        wait_for_all(team)
        n, top = _scan(
            floats, integers, present, tables, plan, penalty * margin, limits, inv_weights, positive, has_mask,
            capacity, parts, team,
        )  # fmt: skip
        if first_scan:
            stage = stage_count(top, alpha)
            continue
        if n < 0:  # the remaining positions were not scanned: no gap
            return np.inf, np.inf, sweeps_done, DENSE
        n_sweeps = STAGE_SWEEPS
        if stage == 0:
            products = inner_product_inside(residual, signal, plan, parts, team)
            squares = inner_product_inside(residual, residual, plan, parts, team)
            value = dual_value(products, squares, alpha, top)
            bound = max(bound, value)
            objective = 0.5 * squares + l1_norm(penalties, parts, team)
            gap = max(0.0, objective - bound)
            single_factor_gap = objective - value
            promising = shrinkage * single_factor_gap <= PROMISING * tol * objective
            if gap > tol * objective and n > 0 and (promising or sweeps_done >= max_iter):
                value = _bound_by_pixels(floats, plan, tables, inv_weights, alpha, positive, parts, team)
                shrinkage = (objective - value) / single_factor_gap
                bound = max(bound, value)
                gap = max(0.0, objective - bound)
            if (tol > 0 and gap <= tol * objective) or (n == 0 and margin == 1):
                return gap, objective, sweeps_done, CONVERGED
            if sweeps_done >= max_iter:
                return gap, objective, sweeps_done, STOPPED
            n_sweeps = sweeps_after(scans)
            scans += 1
        n_sweeps = min(n_sweeps, max(1, max_iter - sweeps_done))
        _mark_stale(integers, plan, n, parts, team)
        for k in range(n_sweeps):
            for straddling in range(2):
                for p in range(2 * team.thread + straddling, parts.n, 2 * team.n_threads):
                    sweep(
                        residual, valid, vectors, plan, penalties, positive, set_of(parts, p), parts.sizes[p],
                        scans <= REFINED_FROM,
                    )  # fmt: skip
                wait_for_all(team)
            if k == 0 or k == 2 or k == n_sweeps - 1:
                n = _drop_zeros(present, parts, team)
        sweeps_done += n_sweeps
        if n > max_active:
            return np.inf, np.inf, sweeps_done, DENSE
        if scans >= REFINED_FROM:
            for _ in range(min(scans, MOST_TRIES)):
                some_dropped = improve_on_support(
                    residual, image, saved, valid, vectors, plan, penalties, parts, CG_STEPS, CG_RTOL, team
                )
                sweeps_done += CG_STEPS
                if not some_dropped:
                    break
                n = _drop_zeros(present, parts, team)
        stage = max(0, stage - 1)
        rebuild = stage == 0


@kernel
def _descend_one(
    code, warm, tables, plan, weights, inv_weights, alpha, positive, has_mask, tol, max_iter, capacity, max_active,
    floats, integers, present, parts, team,
):  # fmt: skip
    """Code of the signal in the workspaces, by all threads; returns what `_descend` does."""
    row = plan.code_width * plan.atoms
    bits = plan.code_width * (plan.padded_atoms // lanes(tables[0]))
    stale, blocks = part(integers, STALE), blocks_of_row(plan)
    candidates = part(integers, CANDIDATES + team.thread)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            first, end = rows_of(parts, q)
            for i in range(first * bits, end * bits):
                present[i] = 0
            for i in range(first * blocks, end * blocks):
                stale[i] = 1
            parts.sizes[q] = 0
            if warm:
                parts.sizes[q] = working_set_of_code(
                    code, candidates, capacity, present, (first, end), part(floats, VALID), tables, plan, has_mask,
                    set_of(parts, q),
                )  # fmt: skip
    wait_for_all(team)
    for q in range(parts.n):
        if parts.sizes[q] < 0:
            return np.inf, np.inf, 0, DENSE
    report = _descend(
        floats, integers, present, tables, plan, weights, inv_weights, alpha, positive, has_mask, warm, tol, max_iter,
        capacity, max_active, parts, team,
    )  # fmt: skip
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            if warm:
                for i in range(parts.rows[2 * q] * row, parts.rows[2 * q + 1] * row):
                    code[i] = 0
            write_code(code, plan, set_of(parts, q), parts.sizes[q])
    return report


@kernel
def descend_signals(
    X, masks, codes, warm, tables, plan, weights, inv_weights, alpha, positive, tol, max_iter, capacity, max_active,
    rows, workspaces, report, n_threads, counters,
):  # fmt: skip
    """Codes of many signals: one thread per signal, or all threads on each signal in turn.

    Parameters
    ----------
    X : ndarray of shape (n, height * width * channels)
    masks : ndarray of shape (n, height * width * channels) or (n, 0)
        1 where a value is known, 0 where it is missing.
    codes : ndarray of shape (n, n_positions * atoms)
        Overwritten; zero, or the starting point if `warm`.
    capacity, max_active : int
        Capacity of the working set of a part, and maximum number of nonzero coefficients of a signal.
    rows : ndarray of int of shape (n_parts, 2)
        First row of positions of each part and the row after its last.
    workspaces : tuple
        By `descent_workspaces`, of this thread alone or of all.
    report : ndarray of shape (n, 4)
        Gap, objective, sweeps and reason for stopping.
    n_threads : int
        Threads that work together on every signal; 1: each takes signals of its own.
    counters : ndarray of int64 of shape (3,)
        Next signal, next number of a thread, and the barrier.
    """
    floats, integers, present = workspaces[0], workspaces[1], pointer(workspaces[3], 0)
    vectors, columns, norms = tables
    tables = pointer(vectors, 0), pointer(columns, 0), pointer(norms, 0)
    weights, inv_weights = pointer(weights, 0), pointer(inv_weights, 0)
    thread = take_number(pointer(counters, 1)) if n_threads > 1 else 0
    team = Team(thread, n_threads, pointer(counters, 2), pointer(workspaces[2], 0))
    parts = Parts(
        rows.shape[0], pointer(rows, 0), part(integers, SIZES), floats, integers, OF_THREADS + 3 * n_threads,
        CANDIDATES + n_threads,
    )  # fmt: skip
    size, n_values = plan.rows * plan.pitch, X.shape[1]
    signal, valid, residual = part(floats, SIGNAL), part(floats, VALID), part(floats, RESIDUAL)
    has_mask = masks.shape[1] > 0
    if thread == 0:
        fill(signal, size, 0)
        fill(valid, size, 0)
        if not has_mask:
            fill(residual, size, 1)
            copy_into_buffer(residual, valid, plan)
    i = take_number(counters) if n_threads == 1 else 0
    while i < X.shape[0]:
        if thread == 0:
            if has_mask:
                copy_into_buffer(pointer(masks, i * n_values), valid, plan)
            copy_into_buffer(pointer(X, i * n_values), signal, plan)
            for k in range(size):
                signal[k] *= valid[k]
        wait_for_all(team)
        gap, objective, sweeps, status = _descend_one(
            pointer(codes, i * codes.shape[1]), warm, tables, plan, weights, inv_weights, alpha, positive, has_mask,
            tol, max_iter, capacity, max_active, floats, integers, present, parts, team,
        )  # fmt: skip
        if thread == 0:
            report[i, 0], report[i, 1], report[i, 2], report[i, 3] = gap, objective, sweeps, status
        wait_for_all(team)
        i = take_number(counters) if n_threads == 1 else i + 1

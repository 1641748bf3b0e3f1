"""The linear systems of backward passes through convolutional codes, on the support alone."""

from math import prod

import numpy as np

from skrobust.signals import kernel_threads

from ._conv_candidates import kind_at, place_at, room_for_candidates, room_for_steps
from ._conv_kernels import lay_signal
from ._conv_operator import flat_rows
from ._conv_support import add_candidates, correlate_candidates, inner_inside
from ._threads import on_threads
from ._vectors import aligned_zeros, kernel, take_number


@kernel
def _solve_one(code, right, solution, mask, tables, plan, most, rtol):
    vectors = tables[0]
    n = 0
    for p in range(code.shape[0]):
        for k in range(plan.atoms):
            solution[p, k] = 0
            n += code[p, k] != 0
    candidates = room_for_candidates(n, vectors)
    where, places, atoms, kinds, values, left, _ = candidates
    shown = aligned_zeros(plan.rows * plan.pitch, vectors)
    has_mask = mask.size > 0
    lay_signal(mask if has_mask else np.ones(plan.height * plan.width * plan.channels, vectors.dtype), shown, plan)
    slopes, directions, _, image = room_for_steps(n, shown)
    i = 0
    squares = 0.0
    for p in range(code.shape[0]):
        y, x = p // plan.code_width, p % plan.code_width
        for k in range(plan.atoms):
            if code[p, k] != 0:
                where[i], atoms[i], kinds[i] = p * plan.atoms + k, k, kind_at(y, x, plan, has_mask)
                places[i] = place_at(y, x, plan)
                values[i], left[i] = 0, right[p, k]
                directions[i] = left[i]
                squares += np.float64(left[i]) * np.float64(left[i])
                i += 1
    goal = squares * rtol * rtol
    for _ in range(most):
        if squares <= goal:
            break
        image[:] = 0
        add_candidates(image, shown, vectors, plan, candidates, n, directions, vectors.dtype.type(1))
        curvature = inner_inside(image, image, plan)
        if not curvature > 0:
            break
        length = vectors.dtype.type(squares / curvature)
        later = 0.0
        correlate_candidates(image, vectors, plan, candidates, n, slopes)
        for i in range(n):
            values[i] += length * directions[i]
            left[i] -= length * slopes[i]
            later += np.float64(left[i]) * np.float64(left[i])
        ratio = vectors.dtype.type(later / squares)
        squares = later
        for i in range(n):
            directions[i] = left[i] + ratio * directions[i]
    for i in range(n):
        solution[where[i] // plan.atoms, where[i] % plan.atoms] = values[i]


@kernel
def _solve_signals(codes, rights, solutions, masks, tables, plan, most, rtol, next_signal):
    n = take_number(next_signal)
    while n < codes.shape[0]:
        _solve_one(codes[n], rights[n], solutions[n], masks[n], tables, plan, most, rtol)
        n = take_number(next_signal)


def solve_on_supports(operator, codes, right, *, most, rtol, mask=None, n_jobs=None):
    """Codes u with ``D_S^T M D_S u_S = right_S`` on the support S of each of `codes`, zero elsewhere.

    M is the mask.

    Parameters
    ----------
    operator : ConvolutionalOperator
    codes, right : ndarray of shape ``(n_samples, *code_shape)``
    most : int
        Conjugate gradient steps.
    rtol : float
        Norm of what is left, relative to `right`, at which to stop.
    mask : ndarray that broadcasts to the signals, or None, default=None
    n_jobs : int or None, default=None

    Returns
    -------
    ndarray of shape ``(n_samples, *code_shape)``
    """
    plan, tables, _, _ = operator.descent_tables(np.ones(codes.shape[-1]), codes.dtype)
    shape = len(codes), -1, codes.shape[-1]
    solutions = np.empty_like(codes)
    maps = [
        np.require(v, requirements=["C", "W"]).reshape(shape) for v in (codes, right.astype(codes.dtype, copy=False))
    ]
    if mask is None:
        masks = np.empty((len(codes), 0), dtype=codes.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, (len(codes), *operator.signal_shape)).astype(codes.dtype))
    settings = masks, tables, plan, most, float(rtol)
    with kernel_threads(n_jobs):
        how = {"n_pieces": len(codes), "work": most * np.count_nonzero(codes) * prod(operator.components.shape[1:])}
        on_threads(_solve_signals, *maps, solutions.reshape(shape), *settings, **how)
    return solutions

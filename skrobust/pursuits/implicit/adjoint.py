"""The linear systems of backward passes through convolutional codes, restricted to the support."""

from math import prod

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel, take_number
from skrobust.kernels.workspace import fill, part, pointer, workspace
from skrobust.operators.conv.kernels import copy_into_buffer
from skrobust.operators.conv.operator import flat_rows
from skrobust.pursuits.lasso.conv.support import RESIDUAL, SOLUTION, solve_normal_equations
from skrobust.pursuits.lasso.conv.team import Parts, Team, array_of, set_of
from skrobust.pursuits.lasso.conv.working_set import border_class_at, buffer_offset, working_set_sizes
from skrobust.signals import kernel_threads


def _workspaces(plan, max_active, dtype):
    """Workspaces of one thread: floats, integers, and a sum."""
    buffer = plan.rows * plan.pitch
    integers, floats = working_set_sizes(max_active)
    return (
        workspace(dtype, buffer, buffer, *floats, *[max_active] * 4),
        workspace(np.int64, 1, *integers),
        np.zeros(1),
    )


@kernel
def _solve_one(code, right, solution, tables, plan, max_iter, rtol, has_mask, floats, integers, sums):
    vectors = tables[0]
    valid, image, sizes = part(floats, 0), part(floats, 1), part(integers, 0)
    parts, team = Parts(1, sizes, sizes, floats, integers, 2, 1), Team(0, 1, sizes, sums)
    indices, offsets, atoms, border_class, _, _, _ = set_of(parts, 0)
    residuals = array_of(parts, 0, RESIDUAL)
    n = 0
    for p in range(plan.code_height * plan.code_width):
        y, x = p // plan.code_width, p % plan.code_width
        for k in range(plan.atoms):
            index = p * plan.atoms + k
            solution[index] = 0
            if code[index] != 0:
                indices[n], atoms[n], border_class[n] = index, k, border_class_at(y, x, plan, has_mask)
                offsets[n], residuals[n] = buffer_offset(y, x, plan), right[index]
                n += 1
    sizes[0] = n
    solve_normal_equations(image, valid, vectors, plan, parts, max_iter, rtol, team)
    values = array_of(parts, 0, SOLUTION)
    for i in range(n):
        solution[indices[i]] = values[i]


@kernel
def _solve_signals(codes, rights, solutions, masks, tables, plan, max_iter, rtol, workspaces, next_signal):
    floats, integers, sums = workspaces[0], workspaces[1], pointer(workspaces[2], 0)
    vectors, columns, norms = tables
    tables = pointer(vectors, 0), pointer(columns, 0), pointer(norms, 0)
    valid, image, n_codes = part(floats, 0), part(floats, 1), codes.shape[1]
    has_mask = masks.shape[1] > 0
    fill(valid, plan.rows * plan.pitch, 0)
    if not has_mask:
        fill(image, plan.rows * plan.pitch, 1)
        copy_into_buffer(image, valid, plan)
    n = take_number(next_signal)
    while n < codes.shape[0]:
        if has_mask:
            copy_into_buffer(pointer(masks, n * masks.shape[1]), valid, plan)
        code, right, solution = (
            pointer(codes, n * n_codes),
            pointer(rights, n * n_codes),
            pointer(solutions, n * n_codes),
        )
        _solve_one(code, right, solution, tables, plan, max_iter, rtol, has_mask, floats, integers, sums)
        n = take_number(next_signal)


def solve_on_supports(operator, codes, right, *, max_iter, rtol, mask=None, n_jobs=None):
    """Codes u with ``D_S^T M D_S u_S = right_S`` on the support S of each of `codes`, zero elsewhere; M is the mask.

    Parameters
    ----------
    operator : ConvolutionalOperator
    codes, right : ndarray of shape ``(n_samples, *code_shape)``
    max_iter : int
        Maximum number of conjugate gradient steps.
    rtol : float
        Norm of the residual, relative to that of `right`, at which to stop.
    mask : ndarray that broadcasts to the signals, or None, default=None
    n_jobs : int or None, default=None

    Returns
    -------
    ndarray of shape ``(n_samples, *code_shape)``
    """
    plan, tables, _, _ = operator.descent_tables(np.ones(codes.shape[-1]), codes.dtype)
    solutions = np.empty_like(codes)
    rows = flat_rows(codes), flat_rows(right.astype(codes.dtype, copy=False)), solutions.reshape(len(codes), -1)
    if mask is None:
        masks = np.empty((len(codes), 0), dtype=codes.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, (len(codes), *operator.signal_shape)).astype(codes.dtype))
    n_active = np.count_nonzero(rows[0], axis=1)
    max_active = int(n_active.max(initial=0))

    def solve(next_signal):
        workspaces = _workspaces(plan, max_active, codes.dtype)
        _solve_signals(*rows, masks, tables, plan, max_iter, float(rtol), workspaces, next_signal)

    with kernel_threads(n_jobs):
        work = max_iter * int(n_active.sum()) * prod(operator.components.shape[1:])
        on_threads(solve, n_pieces=len(codes), work=work)
    return solutions

"""The linear systems of backward passes through convolutional codes, restricted to the support."""

from math import prod

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel, scalar_like, take_number
from skrobust.kernels.workspace import fill, part, pointer, workspace
from skrobust.operators.conv.kernels import copy_into_buffer
from skrobust.operators.conv.operator import flat_rows
from skrobust.pursuits.lasso.conv.support import add_atoms, correlate_atoms, inner_product_inside
from skrobust.pursuits.lasso.conv.working_set import (
    border_class_at,
    buffer_offset,
    working_set_of,
    working_set_sizes,
)
from skrobust.signals import kernel_threads


def _workspaces(plan, max_active, dtype):
    """Workspaces of one thread: floats and integers."""
    buffer = plan.rows * plan.pitch
    integers, floats = working_set_sizes(max_active)
    return workspace(dtype, buffer, buffer, max_active, max_active, *floats), workspace(np.int64, *integers)


@kernel
def _solve_one(code, right, solution, tables, plan, max_iter, rtol, has_mask, floats, integers):
    vectors = tables[0]
    valid, image, products, directions = part(floats, 0), part(floats, 1), part(floats, 2), part(floats, 3)
    working_set = working_set_of(integers, 0, floats, 4)
    indices, offsets, atoms, border_class, values, residuals, _ = working_set
    n = 0
    squared_norm = 0.0
    for p in range(plan.code_height * plan.code_width):
        y, x = p // plan.code_width, p % plan.code_width
        for k in range(plan.atoms):
            index = p * plan.atoms + k
            solution[index] = 0
            if code[index] != 0:
                indices[n], atoms[n], border_class[n] = index, k, border_class_at(y, x, plan, has_mask)
                offsets[n] = buffer_offset(y, x, plan)
                values[n], residuals[n] = 0, right[index]
                directions[n] = residuals[n]
                squared_norm += np.float64(residuals[n]) * np.float64(residuals[n])
                n += 1
    stop_at = squared_norm * rtol * rtol
    for _ in range(max_iter):
        if squared_norm <= stop_at:
            break
        fill(image, plan.rows * plan.pitch, 0)
        add_atoms(image, valid, vectors, plan, working_set, n, directions, scalar_like(1, vectors))
        curvature = inner_product_inside(image, image, plan)
        if not curvature > 0:
            break
        step = scalar_like(squared_norm / curvature, vectors)
        new_squared_norm = 0.0
        correlate_atoms(image, vectors, plan, working_set, n, products)
        for i in range(n):
            values[i] += step * directions[i]
            residuals[i] -= step * products[i]
            new_squared_norm += np.float64(residuals[i]) * np.float64(residuals[i])
        ratio = scalar_like(new_squared_norm / squared_norm, vectors)
        squared_norm = new_squared_norm
        for i in range(n):
            directions[i] = residuals[i] + ratio * directions[i]
    for i in range(n):
        solution[indices[i]] = values[i]


@kernel
def _solve_signals(codes, rights, solutions, masks, tables, plan, max_iter, rtol, workspaces, next_signal):
    floats, integers = workspaces
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
        _solve_one(code, right, solution, tables, plan, max_iter, rtol, has_mask, floats, integers)
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

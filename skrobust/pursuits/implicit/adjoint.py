"""The linear systems of backward passes through convolutional codes, restricted to the support."""

from math import prod

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import aligned_zeros, kernel, take_number
from skrobust.operators.conv.kernels import copy_into_buffer
from skrobust.operators.conv.operator import flat_rows
from skrobust.pursuits.lasso.conv.support import add_atoms, correlate_atoms, inner_product_inside
from skrobust.pursuits.lasso.conv.working_set import border_class_at, buffer_offset, cg_workspace, new_working_set
from skrobust.signals import kernel_threads


@kernel
def _solve_one(code, right, solution, mask, tables, plan, max_iter, rtol):
    vectors = tables[0]
    n = 0
    for p in range(code.shape[0]):
        for k in range(plan.atoms):
            solution[p, k] = 0
            n += code[p, k] != 0
    working_set = new_working_set(n, vectors)
    indices, offsets, atoms, border_class, values, residuals, _ = working_set
    valid = aligned_zeros(plan.rows * plan.pitch, vectors)
    has_mask = mask.size > 0
    copy_into_buffer(
        mask if has_mask else np.ones(plan.height * plan.width * plan.channels, vectors.dtype), valid, plan
    )
    products, directions, _, image = cg_workspace(n, valid)
    i = 0
    squared_norm = 0.0
    for p in range(code.shape[0]):
        y, x = p // plan.code_width, p % plan.code_width
        for k in range(plan.atoms):
            if code[p, k] != 0:
                indices[i], atoms[i], border_class[i] = p * plan.atoms + k, k, border_class_at(y, x, plan, has_mask)
                offsets[i] = buffer_offset(y, x, plan)
                values[i], residuals[i] = 0, right[p, k]
                directions[i] = residuals[i]
                squared_norm += np.float64(residuals[i]) * np.float64(residuals[i])
                i += 1
    stop_at = squared_norm * rtol * rtol
    for _ in range(max_iter):
        if squared_norm <= stop_at:
            break
        image[:] = 0
        add_atoms(image, valid, vectors, plan, working_set, n, directions, vectors.dtype.type(1))
        curvature = inner_product_inside(image, image, plan)
        if not curvature > 0:
            break
        step = vectors.dtype.type(squared_norm / curvature)
        new_squared_norm = 0.0
        correlate_atoms(image, vectors, plan, working_set, n, products)
        for i in range(n):
            values[i] += step * directions[i]
            residuals[i] -= step * products[i]
            new_squared_norm += np.float64(residuals[i]) * np.float64(residuals[i])
        ratio = vectors.dtype.type(new_squared_norm / squared_norm)
        squared_norm = new_squared_norm
        for i in range(n):
            directions[i] = residuals[i] + ratio * directions[i]
    for i in range(n):
        solution[indices[i] // plan.atoms, indices[i] % plan.atoms] = values[i]


@kernel
def _solve_signals(codes, rights, solutions, masks, tables, plan, max_iter, rtol, next_signal):
    n = take_number(next_signal)
    while n < codes.shape[0]:
        _solve_one(codes[n], rights[n], solutions[n], masks[n], tables, plan, max_iter, rtol)
        n = take_number(next_signal)


def solve_on_supports(operator, codes, right, *, max_iter, rtol, mask=None, n_jobs=None):
    """Codes u with ``D_S^T M D_S u_S = right_S`` on the support S of each of `codes`, zero elsewhere.

    M is the mask.

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
    shape = len(codes), -1, codes.shape[-1]
    solutions = np.empty_like(codes)
    maps = [
        np.require(v, requirements=["C", "W"]).reshape(shape) for v in (codes, right.astype(codes.dtype, copy=False))
    ]
    if mask is None:
        masks = np.empty((len(codes), 0), dtype=codes.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, (len(codes), *operator.signal_shape)).astype(codes.dtype))
    settings = masks, tables, plan, max_iter, float(rtol)
    with kernel_threads(n_jobs):
        threading = {
            "n_pieces": len(codes),
            "work": max_iter * np.count_nonzero(codes) * prod(operator.components.shape[1:]),
        }
        on_threads(_solve_signals, *maps, solutions.reshape(shape), *settings, **threading)
    return solutions

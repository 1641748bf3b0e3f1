"""The quadratic problem on a fixed support: conjugate gradients in the residual domain."""

import numpy as np

from skrobust.kernels.vectors import (
    add,
    broadcast,
    fma,
    kernel,
    lanes,
    load,
    load_first,
    multiply,
    scalar_like,
    store,
    total,
    zero_vector,
)
from skrobust.kernels.workspace import copy, fill
from skrobust.operators.conv.kernels import add_atom
from skrobust.operators.conv.vectors import add_multiple, inner_product

from .working_set import MASKED, PLAIN, WRAPPED

MOST_HALVINGS = 6
"""Number of step lengths tried before the step is cut at the first change of sign."""

ROUNDING = 1e-6
"""Relative increase of the objective that is attributed to rounding."""


@kernel
def correlate_atom(residual, at, vectors, a, plan):
    """Inner product of an atom of any shape with the residual."""
    width = lanes(residual)
    row = plan.row_vectors * width
    even = odd = zero_vector(residual)
    for _ in range(plan.kernel_height // 2):
        for q in range(0, row, width):
            even = fma(load(vectors, a + q), load(residual, at + q), even)
            odd = fma(load(vectors, a + row + q), load(residual, at + plan.pitch + q), odd)
        at += 2 * plan.pitch
        a += 2 * row
    if plan.kernel_height % 2:
        for q in range(0, row, width):
            even = fma(load(vectors, a + q), load(residual, at + q), even)
    return total(add(even, odd))


@kernel
def _add_masked(buffer, at, vectors, a, valid, plan, coefficient):
    """Add a multiple of the unmasked part of an atom."""
    width = lanes(buffer)
    c = broadcast(coefficient)
    for _ in range(plan.kernel_height):
        for q in range(0, plan.row_vectors * width, width):
            d = multiply(load(vectors, a + q), load(valid, at + q))
            store(buffer, at + q, fma(c, d, load(buffer, at + q)))
        at += plan.pitch
        a += plan.row_vectors * width


@kernel
def _add_wrapped(buffer, at, vectors, a, valid, plan, coefficient):
    """Add a multiple of an atom with circular padding: at its position, and in the margins that repeat it."""
    row, column = at // plan.pitch, at % plan.pitch // plan.channels
    for shift_y in range(-1, 2):
        if shift_y == 1 and row >= plan.top + plan.kernel_height - 1:
            continue
        if shift_y == -1 and row + plan.kernel_height <= plan.top + plan.height:
            continue
        for shift_x in range(-1, 2):
            if shift_x == 1 and column >= plan.left + plan.kernel_width - 1:
                continue
            if shift_x == -1 and column + plan.kernel_width <= plan.left + plan.width:
                continue
            copy = at + shift_y * plan.height * plan.pitch + shift_x * plan.width * plan.channels
            _add_masked(buffer, copy, vectors, a, valid, plan, coefficient)


@kernel
def add_masked_atom(buffer, at, vectors, a, valid, plan, border, coefficient):
    """Add a multiple of the unmasked part of the atom of a coefficient of this border class."""
    if border == PLAIN:
        add_atom(buffer, at, vectors, a, plan, coefficient)
    elif border == WRAPPED:
        _add_wrapped(buffer, at, vectors, a, valid, plan, coefficient)
    else:
        _add_masked(buffer, at, vectors, a, valid, plan, coefficient)


@kernel
def add_atoms(buffer, valid, vectors, plan, working_set, n, coefficients, factor):
    """Add all atoms of the working set, each times its coefficient and the factor."""
    offsets, atoms, border_class = working_set[1], working_set[2], working_set[3]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        at, a, border, coefficient = offsets[i], atoms[i] * atom_size, border_class[i], factor * coefficients[i]
        # Vector functions are inlined here, because passing arrays to a kernel costs more than they do.
        if plan.shape > 0 and border == PLAIN:
            add_multiple(buffer, at, plan.pitch, vectors, a, None, plan.shape, coefficient)
        elif plan.shape > 0 and border == MASKED:
            add_multiple(buffer, at, plan.pitch, vectors, a, valid, plan.shape, coefficient)
        elif coefficient != 0:
            add_masked_atom(buffer, at, vectors, a, valid, plan, border, coefficient)


@kernel
def inner_product_inside(a, b, plan):
    """Inner product of two buffers over the signal, without margins."""
    width = lanes(a)
    row = plan.width * plan.channels
    s = 0.0
    for y in range(plan.height):
        at = (y + plan.top) * plan.pitch + plan.left * plan.channels
        products = zero_vector(a)
        for q in range(0, row - width + 1, width):
            products = fma(load(a, at + q), load(b, at + q), products)
        left = row % width
        if left > 0:
            at += row - left
            products = fma(load_first(a, at, left), load_first(b, at, left), products)
        s += np.float64(total(products))
    return s


@kernel
def correlate_atoms(buffer, vectors, plan, working_set, n, correlations):
    """Inner products of the atoms of the working set with a buffer."""
    offsets, atoms = working_set[1], working_set[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        at, a = offsets[i], atoms[i] * atom_size
        if plan.shape > 0:
            correlations[i] = inner_product(buffer, at, plan.pitch, vectors, a, plan.shape)
        else:
            correlations[i] = correlate_atom(buffer, at, vectors, a, plan)


@kernel
def _negative_gradient(residual, origins, vectors, plan, penalties, working_set, n, negative_gradient):
    """Negative gradient of the objective with the signs of `origins`, and its squared norm."""
    atoms = working_set[2]
    correlate_atoms(residual, vectors, plan, working_set, n, negative_gradient)
    squared_norm = 0.0
    for i in range(n):
        slope = negative_gradient[i] - np.sign(origins[i]) * penalties[atoms[i]]
        negative_gradient[i] = slope
        squared_norm += np.float64(slope) * np.float64(slope)
    return squared_norm


@kernel
def solve_on_support(residual, valid, vectors, plan, penalties, working_set, n, workspace, max_iter, rtol):
    """Minimise over the first `n` coefficients of the working set, with the penalty linearised at their initial signs.

    Parameters
    ----------
    residual, valid : flat buffers
        The residual is updated, as are the values of the working set.
    penalties : ndarray of shape (padded_atoms,)
        Zero for least squares.
    working_set : tuple of arrays
    workspace : tuple of ndarray
        Negative gradient, directions and initial coefficients, at least `n` long, and a buffer like the residual.
    max_iter : int
        Maximum number of conjugate gradient steps.
    rtol : float
        Norm of the gradient, relative to the initial one, at which to stop.
    """
    values = working_set[6]
    negative_gradient, directions, origins, image = workspace
    size = plan.rows * plan.pitch
    copy(values, origins, n)
    squared_norm = _negative_gradient(residual, origins, vectors, plan, penalties, working_set, n, negative_gradient)
    stop_at = squared_norm * rtol * rtol
    copy(negative_gradient, directions, n)
    for _ in range(max_iter):
        if squared_norm <= stop_at:
            break
        fill(image, size, 0)
        add_atoms(image, valid, vectors, plan, working_set, n, directions, scalar_like(1, values))
        curvature = inner_product_inside(image, image, plan)
        if not curvature > 0:
            break
        step = scalar_like(squared_norm / curvature, values)
        for i in range(n):
            values[i] += step * directions[i]
        for i in range(size):
            residual[i] -= step * image[i]
        new_squared_norm = _negative_gradient(
            residual, origins, vectors, plan, penalties, working_set, n, negative_gradient
        )
        ratio = scalar_like(new_squared_norm / squared_norm, values)
        squared_norm = new_squared_norm
        for i in range(n):
            directions[i] = negative_gradient[i] + ratio * directions[i]


@kernel
def l1_norm(penalties, working_set, n):
    """Penalty of the working set."""
    atoms, values = working_set[2], working_set[6]
    s = 0.0
    for i in range(n):
        s += np.float64(penalties[atoms[i]]) * abs(np.float64(values[i]))
    return s


@kernel
def _objective(residual, plan, penalties, working_set, n):
    return 0.5 * inner_product_inside(residual, residual, plan) + l1_norm(penalties, working_set, n)


@kernel
def improve_on_support(residual, valid, vectors, plan, penalties, working_set, n, workspace, saved, max_iter, rtol):
    """As `solve_on_support`, for nonzero coefficients, without changes of sign.

    Coefficients that would change their sign become zero together. The step is halved until the objective decreases.
    If it never does, the step ends where the first coefficient becomes zero.

    Parameters
    ----------
    saved : buffer like the residual

    Returns
    -------
    bool
        Whether a coefficient has become zero.
    """
    values = working_set[6]
    targets, directions, origins, _ = workspace
    size = plan.rows * plan.pitch
    copy(residual, saved, size)
    before = _objective(residual, plan, penalties, working_set, n)
    solve_on_support(residual, valid, vectors, plan, penalties, working_set, n, workspace, max_iter, rtol)
    first, shortest = -1, scalar_like(1, values)
    for i in range(n):
        targets[i] = values[i]
        if targets[i] * origins[i] < 0:
            ratio = origins[i] / (origins[i] - targets[i])
            if first < 0 or ratio < shortest:
                first, shortest = i, ratio
    # Linearly dependent atoms allow steps of any length.
    if first < 0 and _objective(residual, plan, penalties, working_set, n) <= before * (1 + ROUNDING):
        return False
    step, half, zero = scalar_like(1, values), scalar_like(0.5, values), scalar_like(0, values)
    for k in range(MOST_HALVINGS + 1):
        copy(saved, residual, size)
        if k == MOST_HALVINGS:
            step = shortest
        for i in range(n):
            value = origins[i] + step * (targets[i] - origins[i])
            if value * origins[i] <= 0 or (k == MOST_HALVINGS and i == first):
                value = zero
            values[i] = value
            directions[i] = origins[i] - value
        add_atoms(residual, valid, vectors, plan, working_set, n, directions, scalar_like(1, values))
        if _objective(residual, plan, penalties, working_set, n) < before:
            return True
        step *= half
    copy(saved, residual, size)
    copy(origins, values, n)
    return False

"""The quadratic problem on a fixed support: conjugate gradients on the atoms of the working sets."""

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
from skrobust.kernels.workspace import copy
from skrobust.operators.conv.kernels import add_atom
from skrobust.operators.conv.vectors import add_multiple, inner_product

from .team import array_of, least_of, set_of, share_of, total_of, wait_for_all
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
def inner_product_of_rows(a, b, first, end, plan):
    """Inner product of two buffers over some rows of the signal, without margins."""
    width = lanes(a)
    row = plan.width * plan.channels
    s = 0.0
    for y in range(first, end):
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
def inner_product_inside(a, b, plan, parts, team):
    """Inner product of two buffers over the signal, without margins."""
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        first, end = share_of(plan.height, p // 2, parts)
        team.values[p // 2] = inner_product_of_rows(a, b, first, end, plan)
    return total_of(team, parts)


@kernel
def copy_rows(source, target, plan, parts, team):
    """Copy a buffer; the threads must wait for each other before they use rows of another."""
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        first, end = share_of(plan.rows, p // 2, parts)
        for i in range(first * plan.pitch, end * plan.pitch):
            target[i] = source[i]


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
def add_parts(buffer, valid, vectors, plan, parts, k, factor, team):
    """Add all atoms, each times the factor and its value in the k-th array of its part; wait before and after."""
    for straddling in range(2):
        wait_for_all(team)
        for p in range(2 * team.thread + straddling, parts.n, 2 * team.n_threads):
            add_atoms(buffer, valid, vectors, plan, set_of(parts, p), parts.sizes[p], array_of(parts, p, k), factor)
    wait_for_all(team)


RESIDUAL, DIRECTION, PRODUCT, SOLUTION = range(4)
"""Arrays of conjugate gradients in each part."""

VALUES = -1
"""The array before these: the values of the working set."""


@kernel
def solve_normal_equations(image, valid, vectors, plan, parts, max_iter, rtol, team):
    """Conjugate gradients for ``D_S^T M D_S u = b``, with the atoms D_S of the working sets and the mask M.

    b is given in the array RESIDUAL of each part, which is overwritten; u is written to SOLUTION. `image` is a buffer,
    overwritten. It stops after `max_iter` steps, or at a residual of `rtol` times b, in the Euclidean norm.
    """
    one = scalar_like(1, vectors)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        squared = 0.0
        for q in range(p, min(p + 2, parts.n)):
            residuals, directions = array_of(parts, q, RESIDUAL), array_of(parts, q, DIRECTION)
            solution = array_of(parts, q, SOLUTION)
            for i in range(parts.sizes[q]):
                squared += np.float64(residuals[i]) * np.float64(residuals[i])
                directions[i], solution[i] = residuals[i], 0
        team.values[p // 2] = squared
    squared_norm = total_of(team, parts)
    stop_at = squared_norm * rtol * rtol
    for _ in range(max_iter):
        if squared_norm <= stop_at:
            break
        for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
            first, end = share_of(plan.rows, p // 2, parts)
            for i in range(first * plan.pitch, end * plan.pitch):
                image[i] = 0
        add_parts(image, valid, vectors, plan, parts, DIRECTION, one, team)
        curvature = inner_product_inside(image, image, plan, parts, team)
        if not curvature > 0:
            break
        step = scalar_like(squared_norm / curvature, vectors)
        for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
            squared = 0.0
            for q in range(p, min(p + 2, parts.n)):
                residuals, directions = array_of(parts, q, RESIDUAL), array_of(parts, q, DIRECTION)
                products, solution = array_of(parts, q, PRODUCT), array_of(parts, q, SOLUTION)
                n = parts.sizes[q]
                correlate_atoms(image, vectors, plan, set_of(parts, q), n, products)
                for i in range(n):
                    solution[i] += step * directions[i]
                    residuals[i] -= step * products[i]
                    squared += np.float64(residuals[i]) * np.float64(residuals[i])
            team.values[p // 2] = squared
        new_squared_norm = total_of(team, parts)
        ratio = scalar_like(new_squared_norm / squared_norm, vectors)
        squared_norm = new_squared_norm
        for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
            for q in range(p, min(p + 2, parts.n)):
                residuals, directions = array_of(parts, q, RESIDUAL), array_of(parts, q, DIRECTION)
                for i in range(parts.sizes[q]):
                    directions[i] = residuals[i] + ratio * directions[i]


@kernel
def solve_on_support(residual, image, valid, vectors, plan, penalties, parts, max_iter, rtol, team):
    """Minimise over the working sets, with the penalty linearised at the signs of their values.

    The residual is updated; the change of the values is written to the array SOLUTION.

    Parameters
    ----------
    residual, image, valid : flat buffers
        `image` is overwritten.
    penalties : ndarray of shape (padded_atoms,)
        Zero for least squares.
    """
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            working_set, slopes = set_of(parts, q), array_of(parts, q, RESIDUAL)
            atoms, values = working_set[2], working_set[6]
            n = parts.sizes[q]
            correlate_atoms(residual, vectors, plan, working_set, n, slopes)
            for i in range(n):
                slopes[i] -= np.sign(values[i]) * penalties[atoms[i]]
    solve_normal_equations(image, valid, vectors, plan, parts, max_iter, rtol, team)
    add_parts(residual, valid, vectors, plan, parts, SOLUTION, scalar_like(-1, vectors), team)


@kernel
def l1_norm(penalties, parts, team):
    """Penalty of the working sets."""
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        s = 0.0
        for q in range(p, min(p + 2, parts.n)):
            working_set = set_of(parts, q)
            atoms, values = working_set[2], working_set[6]
            for i in range(parts.sizes[q]):
                s += np.float64(penalties[atoms[i]]) * abs(np.float64(values[i]))
        team.values[p // 2] = s
    return total_of(team, parts)


@kernel
def _objective(residual, plan, penalties, parts, team):
    return 0.5 * inner_product_inside(residual, residual, plan, parts, team) + l1_norm(penalties, parts, team)


@kernel
def improve_on_support(residual, image, saved, valid, vectors, plan, penalties, parts, max_iter, rtol, team):
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
    copy_rows(residual, saved, plan, parts, team)
    before = _objective(residual, plan, penalties, parts, team)
    solve_on_support(residual, image, valid, vectors, plan, penalties, parts, max_iter, rtol, team)
    origin, target = PRODUCT, SOLUTION
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        shortest = np.inf
        for q in range(p, min(p + 2, parts.n)):
            values, origins, targets = set_of(parts, q)[6], array_of(parts, q, origin), array_of(parts, q, target)
            copy(values, origins, parts.sizes[q])
            for i in range(parts.sizes[q]):
                targets[i] += origins[i]
                values[i] = targets[i]
                if targets[i] * origins[i] < 0:
                    shortest = min(shortest, np.float64(origins[i] / (origins[i] - targets[i])))
        team.values[p // 2] = shortest
    shortest = least_of(team, parts)
    # Linearly dependent atoms allow steps of any length.
    if np.isinf(shortest) and _objective(residual, plan, penalties, parts, team) <= before * (1 + ROUNDING):
        return False
    one, zero = scalar_like(1, vectors), scalar_like(0, vectors)
    step = 1.0
    for k in range(MOST_HALVINGS + 1):
        last = k == MOST_HALVINGS
        if last:
            step = min(shortest, 1.0)
        factor = scalar_like(step, vectors)
        copy_rows(saved, residual, plan, parts, team)
        for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
            for q in range(p, min(p + 2, parts.n)):
                values, origins, targets = set_of(parts, q)[6], array_of(parts, q, origin), array_of(parts, q, target)
                changes = array_of(parts, q, DIRECTION)
                for i in range(parts.sizes[q]):
                    value = origins[i] + factor * (targets[i] - origins[i])
                    if value * origins[i] <= 0 or (
                        last and np.float64(origins[i] / (origins[i] - targets[i])) == shortest
                    ):
                        value = zero
                    values[i] = value
                    changes[i] = origins[i] - value
        add_parts(residual, valid, vectors, plan, parts, DIRECTION, one, team)
        if _objective(residual, plan, penalties, parts, team) < before:
            return True
        step *= 0.5
    copy_rows(saved, residual, plan, parts, team)
    for p in range(2 * team.thread, parts.n, 2 * team.n_threads):
        for q in range(p, min(p + 2, parts.n)):
            copy(array_of(parts, q, origin), set_of(parts, q)[6], parts.sizes[q])
    wait_for_all(team)
    return False

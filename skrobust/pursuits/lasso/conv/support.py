"""The quadratic problem on a fixed support: conjugate gradients in the residual domain."""

import numpy as np

from skrobust.kernels.vectors import add, broadcast, fma, kernel, lanes, load, load_first, multiply, store, total
from skrobust.operators.conv.kernels import add_atom
from skrobust.operators.conv.vectors import add_multiple, inner_product

from .candidates import MASKED, MIRRORED, PLAIN

MOST_HALVINGS = 6
"""Number of step lengths tried before the step is cut at the first change of sign."""

ROUNDING = 1e-6
"""Relative increase of the objective that is attributed to rounding."""


@kernel
def gradient(residual, at, vectors, a, plan):
    """Inner product of an atom of any shape with the residual."""
    width = lanes(residual)
    row = plan.row_vectors * width
    even = odd = broadcast(residual.dtype.type(0))
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
def _add_counted(buffer, at, vectors, a, counts, plan, coefficient):
    """Add a multiple of the unmasked part of an atom."""
    width = lanes(buffer)
    c = broadcast(coefficient)
    for _ in range(plan.kernel_height):
        for q in range(0, plan.row_vectors * width, width):
            d = multiply(load(vectors, a + q), load(counts, at + q))
            store(buffer, at + q, fma(c, d, load(buffer, at + q)))
        at += plan.pitch
        a += plan.row_vectors * width


@kernel
def _add_mirrored(buffer, at, vectors, a, counts, plan, coefficient):
    """Add a multiple of an atom with circular padding: at its position, and in the margins that repeat it."""
    row, column = at // plan.pitch, at % plan.pitch // plan.channels
    for turn_y in range(-1, 2):
        if turn_y == 1 and row >= plan.top + plan.kernel_height - 1:
            continue
        if turn_y == -1 and row + plan.kernel_height <= plan.top + plan.height:
            continue
        for turn_x in range(-1, 2):
            if turn_x == 1 and column >= plan.left + plan.kernel_width - 1:
                continue
            if turn_x == -1 and column + plan.kernel_width <= plan.left + plan.width:
                continue
            there = at + turn_y * plan.height * plan.pitch + turn_x * plan.width * plan.channels
            _add_counted(buffer, there, vectors, a, counts, plan, coefficient)


@kernel
def add_candidate(buffer, at, vectors, a, counts, plan, kind, coefficient):
    """Add a multiple of the unmasked part of a candidate's atom."""
    if kind == PLAIN:
        add_atom(buffer, at, vectors, a, plan, coefficient)
    elif kind == MIRRORED:
        _add_mirrored(buffer, at, vectors, a, counts, plan, coefficient)
    else:
        _add_counted(buffer, at, vectors, a, counts, plan, coefficient)


@kernel
def add_candidates(buffer, counts, vectors, plan, candidates, n, coefficients, factor):
    """Add all atoms of the working set, each times its coefficient and the factor."""
    places, atoms, kinds = candidates[1], candidates[2], candidates[3]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        at, a, kind, coefficient = places[i], atoms[i] * atom_size, kinds[i], factor * coefficients[i]
        # Vector functions are inlined here, because passing arrays to a kernel costs more than they do.
        if plan.shape > 0 and kind == PLAIN:
            add_multiple(buffer, at, plan.pitch, vectors, a, None, plan.shape, coefficient)
        elif plan.shape > 0 and kind == MASKED:
            add_multiple(buffer, at, plan.pitch, vectors, a, counts, plan.shape, coefficient)
        elif coefficient != 0:
            add_candidate(buffer, at, vectors, a, counts, plan, kind, coefficient)


@kernel
def inner_inside(a, b, plan):
    """Inner product of two buffers over the signal, without margins."""
    width = lanes(a)
    row = plan.width * plan.channels
    s = 0.0
    for y in range(plan.height):
        at = (y + plan.top) * plan.pitch + plan.left * plan.channels
        part = broadcast(a.dtype.type(0))
        for q in range(0, row - width + 1, width):
            part = fma(load(a, at + q), load(b, at + q), part)
        left = row % width
        if left > 0:
            at += row - left
            part = fma(load_first(a, at, left), load_first(b, at, left), part)
        s += np.float64(total(part))
    return s


@kernel
def correlate_candidates(buffer, vectors, plan, candidates, n, correlations):
    """Inner products of the atoms of the working set with a buffer."""
    places, atoms = candidates[1], candidates[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        at, a = places[i], atoms[i] * atom_size
        if plan.shape > 0:
            correlations[i] = inner_product(buffer, at, plan.pitch, vectors, a, plan.shape)
        else:
            correlations[i] = gradient(buffer, at, vectors, a, plan)


@kernel
def _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes):
    """Negative gradient of the objective with the signs of `origins`, and its squared norm."""
    atoms = candidates[2]
    correlate_candidates(residual, vectors, plan, candidates, n, slopes)
    squares = 0.0
    for i in range(n):
        slope = slopes[i] - np.sign(origins[i]) * penalties[atoms[i]]
        slopes[i] = slope
        squares += np.float64(slope) * np.float64(slope)
    return squares


@kernel
def solve_on_support(residual, counts, vectors, plan, penalties, candidates, n, work, most, rtol):
    """Minimise over the first `n` candidates, with the penalty linearised at their initial signs.

    Parameters
    ----------
    residual, counts : flat buffers
        The residual is updated, as are the values of the candidates.
    penalties : ndarray of shape (padded_atoms,)
        Zero for least squares.
    candidates : tuple of arrays
    work : tuple of ndarray
        Slopes, directions and initial coefficients, at least `n` long, and a buffer like the residual.
    most : int
        Maximum number of conjugate gradient steps.
    rtol : float
        Norm of the slopes, relative to the initial one, at which to stop.
    """
    values = candidates[6]
    slopes, directions, origins, image = work
    kind = values.dtype.type
    origins[:n] = values[:n]
    squares = _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes)
    goal = squares * rtol * rtol
    directions[:n] = slopes[:n]
    for _ in range(most):
        if squares <= goal:
            break
        image[:] = 0
        add_candidates(image, counts, vectors, plan, candidates, n, directions, kind(1))
        curvature = inner_inside(image, image, plan)
        if not curvature > 0:
            break
        length = kind(squares / curvature)
        for i in range(n):
            values[i] += length * directions[i]
        for i in range(image.size):
            residual[i] -= length * image[i]
        later = _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes)
        ratio = kind(later / squares)
        squares = later
        for i in range(n):
            directions[i] = slopes[i] + ratio * directions[i]


@kernel
def l1_norm(penalties, candidates, n):
    """Penalty of the working set."""
    atoms, values = candidates[2], candidates[6]
    s = 0.0
    for i in range(n):
        s += np.float64(penalties[atoms[i]]) * abs(np.float64(values[i]))
    return s


@kernel
def _objective(residual, plan, penalties, candidates, n):
    return 0.5 * inner_inside(residual, residual, plan) + l1_norm(penalties, candidates, n)


@kernel
def improve_on_support(residual, counts, vectors, plan, penalties, candidates, n, work, kept, most, rtol):
    """As `solve_on_support`, for nonzero candidates, without changes of sign.

    Coefficients that would change their sign become zero together. The step is halved until the objective decreases.
    If it never does, the step ends where the first coefficient becomes zero.

    Parameters
    ----------
    kept : buffer like the residual

    Returns
    -------
    bool
        Whether a coefficient has become zero.
    """
    values = candidates[6]
    aims, directions, origins, _ = work
    kept[:] = residual
    before = _objective(residual, plan, penalties, candidates, n)
    solve_on_support(residual, counts, vectors, plan, penalties, candidates, n, work, most, rtol)
    kind = values.dtype.type
    first, shortest = -1, kind(1)
    for i in range(n):
        aims[i] = values[i]
        if aims[i] * origins[i] < 0:
            ratio = origins[i] / (origins[i] - aims[i])
            if first < 0 or ratio < shortest:
                first, shortest = i, ratio
    # Linearly dependent atoms allow steps of any length.
    if first < 0 and _objective(residual, plan, penalties, candidates, n) <= before * (1 + ROUNDING):
        return False
    length, half, zero = kind(1), kind(0.5), kind(0)
    for turn in range(MOST_HALVINGS + 1):
        residual[:] = kept
        if turn == MOST_HALVINGS:
            length = shortest
        for i in range(n):
            value = origins[i] + length * (aims[i] - origins[i])
            if value * origins[i] <= 0 or (turn == MOST_HALVINGS and i == first):
                value = zero
            values[i] = value
            directions[i] = origins[i] - value
        add_candidates(residual, counts, vectors, plan, candidates, n, directions, kind(1))
        if _objective(residual, plan, penalties, candidates, n) < before:
            return True
        length *= half
    residual[:] = kept
    values[:n] = origins[:n]
    return False

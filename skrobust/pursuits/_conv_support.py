"""The quadratic problem on a fixed support: conjugate gradients in the residual domain."""

import numpy as np

from ._conv_candidates import MASKED, MIRRORED, PLAIN
from ._conv_kernels import add_atom
from ._vectors import add, broadcast, fma, inlined, kernel, lanes, load, multiply, store, total

MOST_HALVINGS = 6
"""Lengths of a step that are tried before the first change of sign ends it."""

ROUNDING = 1e-6
"""Share of the objective by which rounding may raise it."""


@inlined
def gradient(residual, at, vectors, a, plan):
    """Inner product of an atom with the residual."""
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


@inlined
def _add_counted(buffer, at, vectors, a, counts, plan, coefficient):
    """Add a multiple of what counts of an atom."""
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
    """Add a multiple of an atom on a circle: where it lies, and wherever the buffer repeats that."""
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


@inlined
def add_candidate(buffer, at, vectors, a, counts, plan, kind, coefficient):
    """Add a multiple of the atom of a candidate, wherever it counts."""
    if kind == PLAIN:
        add_atom(buffer, at, vectors, a, plan, coefficient)
    elif kind == MIRRORED:
        _add_mirrored(buffer, at, vectors, a, counts, plan, coefficient)
    else:
        _add_counted(buffer, at, vectors, a, counts, plan, coefficient)


@kernel
def subtract_code(residual, counts, z, vectors, plan):
    """Residual of a code, from a buffer that holds the signal."""
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    kind = MIRRORED if plan.wraps else MASKED
    i = 0
    for y in range(plan.code_height):
        at = (plan.first_row + y * plan.stride_down) * plan.pitch + plan.first_column * plan.channels
        for _ in range(plan.code_width):
            for k in range(plan.padded_atoms):
                if z[i] != 0:
                    add_candidate(residual, at, vectors, k * atom_size, counts, plan, kind, -z[i])
                i += 1
            at += plan.stride_right * plan.channels


@kernel
def subtract_candidates(residual, counts, z, vectors, plan, candidates, first, behind):
    """As `subtract_code`, where all coefficients that differ from zero are among the candidates."""
    where, places, atoms, kinds = candidates[0], candidates[1], candidates[2], candidates[3]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(first, behind):
        value = z[where[i]]
        if value != 0:
            add_candidate(residual, places[i], vectors, atoms[i] * atom_size, counts, plan, kinds[i], -value)


@kernel
def inner_inside(a, b, plan):
    """Inner product of two buffers over the signal alone."""
    row = plan.width * plan.channels
    s = 0.0
    for y in range(plan.height):
        at = (y + plan.top) * plan.pitch + plan.left * plan.channels
        part = a.dtype.type(0)
        for i in range(at, at + row):
            part += a[i] * b[i]
        s += np.float64(part)
    return s


@kernel
def _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes):
    """Descent directions of the objective at coefficients of the signs of `origins`, and their squared norm."""
    places, atoms = candidates[1], candidates[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    squares = 0.0
    for i in range(n):
        slope = gradient(residual, places[i], vectors, atoms[i] * atom_size, plan)
        if origins[i] > 0:
            slope -= penalties[atoms[i]]
        elif origins[i] < 0:
            slope += penalties[atoms[i]]
        slopes[i] = slope
        squares += np.float64(slope) * np.float64(slope)
    return squares


@kernel
def solve_on_support(residual, counts, z, vectors, plan, penalties, candidates, n, work, most, rtol):
    """Minimise over the first `n` candidates, the penalty linear with the signs that they begin with.

    Parameters
    ----------
    residual, counts, z : flat buffers
        The first and last are updated.
    penalties : ndarray of shape (padded_atoms,)
        Zero for least squares.
    candidates : tuple of arrays
    work : tuple of ndarray
        Slopes, directions and where the coefficients began, at least `n` long, and a buffer like the residual.
    most : int
        Conjugate gradient steps.
    rtol : float
        Norm of the slopes, relative to what it was, at which to stop.
    """
    where, places, atoms, kinds = candidates[0], candidates[1], candidates[2], candidates[3]
    slopes, directions, origins, image = work
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        origins[i] = z[where[i]]
    squares = _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes)
    goal = squares * rtol * rtol
    for i in range(n):
        directions[i] = slopes[i]
    for _ in range(most):
        if squares <= goal:
            break
        image[:] = 0
        for i in range(n):
            at, a = places[i], atoms[i] * atom_size
            add_candidate(image, at, vectors, a, counts, plan, kinds[i], directions[i])
        curvature = inner_inside(image, image, plan)
        if not curvature > 0:
            break
        length = z.dtype.type(squares / curvature)
        for i in range(n):
            z[where[i]] += length * directions[i]
        for i in range(image.size):
            residual[i] -= length * image[i]
        later = _slopes(residual, origins, vectors, plan, penalties, candidates, n, slopes)
        ratio = z.dtype.type(later / squares)
        squares = later
        for i in range(n):
            directions[i] = slopes[i] + ratio * directions[i]


@kernel
def _objective(residual, z, plan, penalties, candidates, n):
    where, atoms = candidates[0], candidates[2]
    value = 0.5 * inner_inside(residual, residual, plan)
    for i in range(n):
        value += np.float64(penalties[atoms[i]]) * abs(np.float64(z[where[i]]))
    return value


@kernel
def improve_on_support(residual, counts, z, vectors, plan, penalties, candidates, n, work, kept, most, rtol):
    """As `solve_on_support`, for candidates none of which is zero, without a change of sign.

    Coefficients that would change their sign become zero, all at once; the way is halved until the objective falls. If
    it does not, the way ends where the first of them is zero.

    Parameters
    ----------
    kept : buffer like the residual

    Returns
    -------
    bool
        Whether a coefficient has become zero.
    """
    where, places, atoms, kinds = candidates[0], candidates[1], candidates[2], candidates[3]
    aims, _, origins, _ = work
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    kept[:] = residual
    before = _objective(residual, z, plan, penalties, candidates, n)
    solve_on_support(residual, counts, z, vectors, plan, penalties, candidates, n, work, most, rtol)
    first, shortest = -1, z.dtype.type(1)
    for i in range(n):
        aims[i] = z[where[i]]
        if aims[i] * origins[i] < 0:
            ratio = origins[i] / (origins[i] - aims[i])
            if first < 0 or ratio < shortest:
                first, shortest = i, ratio
    # Of atoms that depend on each other, steps may be of any length.
    if first < 0 and _objective(residual, z, plan, penalties, candidates, n) <= before * (1 + ROUNDING):
        return False
    length = z.dtype.type(1)
    half, zero = z.dtype.type(0.5), z.dtype.type(0)
    for turn in range(MOST_HALVINGS + 1):
        residual[:] = kept
        if turn == MOST_HALVINGS:
            length = shortest
        for i in range(n):
            value = origins[i] + length * (aims[i] - origins[i])
            if value * origins[i] <= 0 or (turn == MOST_HALVINGS and i == first):
                value = zero
            z[where[i]] = value
            if value != origins[i]:
                at, a = places[i], atoms[i] * atom_size
                add_candidate(residual, at, vectors, a, counts, plan, kinds[i], origins[i] - value)
        if _objective(residual, z, plan, penalties, candidates, n) < before:
            return True
        length *= half
    residual[:] = kept
    for i in range(n):
        z[where[i]] = origins[i]
    return False

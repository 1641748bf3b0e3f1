"""The working set of convolutional coordinate descent: which coefficients may differ from zero.

A candidate is a coefficient that is not zero, or whose correlation with the residual exceeds its penalty. The dense
correlations are never stored: each row of them is tested as it leaves the registers.
"""

import numpy as np

from ._conv_kernels import correlate_row
from ._conv_vectors import bits_above, bits_nonzero, lowest_bit
from ._vectors import absolute, broadcast, fma, inlined, kernel, lanes, largest, load, maximum, multiply, total

PLAIN, MASKED, MIRRORED = 0, 1, 2
"""Kinds of candidate: the atom lies inside and nothing of it is masked; some is; it wraps around."""


@kernel
def room_for_candidates(capacity, like):
    """Arrays of the working set.

    Index of the coefficient, place of its atom in the buffer, its atom, its kind, squared norm of what counts of the
    atom, and the inverse of that.
    """
    return (
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int8),
        np.empty(capacity, like.dtype),
        np.empty(capacity, like.dtype),
    )


@kernel
def room_for_steps(most, residual):
    """Arrays of conjugate gradients: three a coefficient, and a buffer like the residual."""
    kind = residual.dtype
    return np.empty(most, kind), np.empty(most, kind), np.empty(most, kind), np.empty_like(residual)


@inlined
def kind_at(y, x, plan, has_mask):
    """Kind of the candidates at position (y, x)."""
    start_y, start_x = y * plan.stride_down, x * plan.stride_right
    if plan.wraps:
        inside = start_y >= plan.kernel_height - 1 and start_x >= plan.kernel_width - 1
    else:
        start_y -= plan.top
        start_x -= plan.left
        inside = start_y >= 0 and start_x >= 0
    inside = inside and start_y + plan.kernel_height <= plan.height and start_x + plan.kernel_width <= plan.width
    if inside:
        return MASKED if has_mask else PLAIN
    return MIRRORED if plan.wraps else MASKED


@kernel
def weighted_norm(vectors, a, counts, at, plan):
    """Squared norm of the part of an atom that counts."""
    width = lanes(vectors)
    s = broadcast(vectors.dtype.type(0))
    for _ in range(plan.kernel_height):
        for q in range(0, plan.row_vectors * width, width):
            d = load(vectors, a + q)
            s = fma(multiply(d, load(counts, at + q)), d, s)
        at += plan.pitch
        a += plan.row_vectors * width
    return total(s)


@kernel
def collect(residual, counts, z, tables, plan, penalties, rates, positive, has_mask, rows, out, candidates, first):
    """Append the candidates of some rows of positions to the working set.

    Parameters
    ----------
    residual, counts, z : flat buffers
        z has `padded_atoms` entries a position.
    tables : tuple
        Atoms as vectors, as columns, and their squared norms.
    penalties, rates : ndarray of shape (padded_atoms,)
        Penalty of each atom, and the inverse of its weight; infinite and zero behind the last.
    positive, has_mask : bool
    rows : tuple of int
        First row of positions, and the one behind the last.
    out : buffer of one row of correlations
    candidates : tuple of arrays
    first : int
        Index of the first to be written.

    Returns
    -------
    behind : int
        Index behind the last candidate, or -1 where there is no room.
    top : float
        Largest correlation times rate.
    """
    vectors, columns, norms = tables
    where, places, atoms, kinds, squares, inverses = candidates
    width = lanes(vectors)
    atom_size = plan.kernel_height * plan.row_vectors * width
    highest = broadcast(vectors.dtype.type(0))
    n = first
    for y in range(rows[0], rows[1]):
        correlate_row(residual, y, columns, plan, out)
        at = (plan.first_row + y * plan.stride_down) * plan.pitch + plan.first_column * plan.channels
        i = y * plan.code_width * plan.padded_atoms
        o = 0
        for x in range(plan.code_width):
            for k in range(0, plan.padded_atoms, width):
                correlations = load(out, o + k)
                if not positive:
                    correlations = absolute(correlations)
                highest = maximum(highest, multiply(correlations, load(rates, k)))
                bits = bits_above(correlations, load(penalties, k)) | bits_nonzero(load(z, i + k))
                while bits != 0:
                    if n == where.size:
                        return -1, largest(highest)
                    atom = k + lowest_bit(bits)
                    bits &= bits - 1
                    kind = kind_at(y, x, plan, has_mask)
                    square = norms[atom]
                    if kind == MASKED or has_mask:
                        square = weighted_norm(vectors, atom * atom_size, counts, at, plan)
                    if square > 0:
                        where[n], places[n], atoms[n], kinds[n] = i + atom, at, atom, kind
                        squares[n], inverses[n] = square, 1 / square
                        n += 1
            at += plan.stride_right * plan.channels
            i += plan.padded_atoms
            o += plan.padded_atoms
    return n, largest(highest)


@kernel
def drop_zeros(z, candidates, first, behind):
    """Keep the candidates that are not zero; return the index behind the last of them."""
    where, places, atoms, kinds, squares, inverses = candidates
    n = first
    for i in range(first, behind):
        if z[where[i]] != 0:
            where[n], places[n], atoms[n], kinds[n] = where[i], places[i], atoms[i], kinds[i]
            squares[n], inverses[n] = squares[i], inverses[i]
            n += 1
    return n

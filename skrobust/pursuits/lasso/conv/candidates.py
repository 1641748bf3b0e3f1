"""The working set of convolutional coordinate descent: which coefficients may differ from zero.

A candidate is a nonzero coefficient, or one whose correlation with the residual exceeds its penalty. Dense correlations
are never stored: each row is tested as soon as it is computed. Candidates are stored in the reverse order of visits.
"""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    broadcast,
    fma,
    inlined,
    kernel,
    lanes,
    largest,
    load,
    maximum,
    multiply,
    total,
)
from skrobust.operators.conv.kernels import correlate_row
from skrobust.operators.conv.vectors import bits_above, lowest_bit

PLAIN, MASKED, MIRRORED = 0, 1, 2
"""Border classes of candidates: atom inside and unmasked; partly outside or masked; wrapping around."""


@kernel
def room_for_candidates(capacity, like):
    """Arrays of the working set.

    Index of the coefficient, position of its atom in the buffer, its atom, its border class, squared norm of the
    unmasked part of the atom, the inverse of that norm, and the coefficient.
    """
    return (
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int64),
        np.empty(capacity, np.int8),
        np.empty(capacity, like.dtype),
        np.empty(capacity, like.dtype),
        np.empty(capacity, like.dtype),
    )


@kernel
def room_for_steps(most, residual):
    """Arrays of conjugate gradients: three values per coefficient, and a buffer like the residual."""
    kind = residual.dtype
    return np.empty(most, kind), np.empty(most, kind), np.empty(most, kind), np.empty_like(residual)


@inlined
def kind_at(y, x, plan, has_mask):
    """Border class of the candidates at position (y, x)."""
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


@inlined
def place_at(y, x, plan):
    """Offset in the buffer of the atoms at position (y, x)."""
    row, column = plan.first_row + y * plan.stride_down, plan.first_column + x * plan.stride_right
    return row * plan.pitch + column * plan.channels


@kernel
def weighted_norm(vectors, a, counts, at, plan):
    """Squared norm of the unmasked part of an atom."""
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
def collect(
    residual, counts, present, tables, plan, limits, rates, positive, has_mask, rows, out, peaks, found, candidates,
    n,
):  # fmt: skip
    """Append new candidates of some rows of positions to the working set.

    Parameters
    ----------
    residual, counts : flat buffers
    present : ndarray of int
        One bit per coefficient: whether it is in the working set.
    tables : tuple
        Atoms as vectors, as columns, and their squared norms.
    limits, rates : ndarray of shape (padded_atoms,)
        Entry threshold of the correlations, and the inverse weight of the atoms; infinite and zero for padding.
    positive, has_mask : bool
    rows : tuple of int
        First row of positions, and the one after the last.
    out : buffer of one row of correlations
    peaks : ndarray of shape (n_positions,)
        Overwritten by the largest correlation times inverse weight at each position of these rows.
    found : ndarray of int
        Workspace.
    candidates : tuple of arrays
    n : int
        Number of candidates.

    Returns
    -------
    n : int
        New number of candidates, or -1 if it exceeds the capacity.
    top : float
        Largest correlation times inverse weight.
    """
    width = lanes(residual)
    highest = broadcast(residual.dtype.type(0))
    n_found = 0
    group = rows[0] * plan.code_width * (plan.padded_atoms // width)
    for y in range(rows[0], rows[1]):
        correlate_row(residual, y, tables[1], plan, out)
        o = 0
        for x in range(plan.code_width):
            peak = broadcast(residual.dtype.type(0))
            for k in range(0, plan.padded_atoms, width):
                correlations = load(out, o)
                if not positive:
                    correlations = absolute(correlations)
                peak = maximum(peak, multiply(correlations, load(rates, k)))
                bits = bits_above(correlations, load(limits, k)) & ~np.int64(present[group])
                if bits != 0:
                    if n + n_found + width > found.size:
                        return -1, largest(highest)
                    present[group] |= bits
                    while bits != 0:
                        found[n_found] = group * width + lowest_bit(bits)
                        n_found += 1
                        bits &= bits - 1
                o += width
                group += 1
            peaks[y * plan.code_width + x] = largest(peak)
            highest = maximum(highest, peak)
    n_positions = (rows[1] - rows[0]) * plan.code_width
    return enrol(found, n_found, counts, tables, plan, has_mask, n_positions, candidates, n), largest(highest)


@kernel
def enrol(found, n_found, counts, tables, plan, has_mask, n_positions, candidates, n):
    """Append zero coefficients to the working set, in the order of visits; return the new number of candidates.

    Candidates inside and unmasked come first, so that loops over candidates rarely change their code path.

    Parameters
    ----------
    found : ndarray of int
        The coefficients, ordered by position.
    n_positions : int
        Number of positions.
    """
    where, places, atoms, kinds, squares, inverses, values = candidates
    vectors, norms = tables[0], tables[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    step = max(1, min(n_found // 2, plan.apart * n_found // max(1, n_positions)))
    for plain in (True, False):
        for start in range(min(step, n_found)):
            for i in range(start, n_found, step):
                position, atom = found[i] // plan.padded_atoms, found[i] % plan.padded_atoms
                y, x = position // plan.code_width, position % plan.code_width
                kind = kind_at(y, x, plan, has_mask)
                if (kind == PLAIN) != plain:
                    continue
                at, square = place_at(y, x, plan), norms[atom]
                if kind == MASKED or has_mask:
                    square = weighted_norm(vectors, atom * atom_size, counts, at, plan)
                if square > 0:
                    where[n], places[n], atoms[n], kinds[n] = found[i], at, atom, kind
                    squares[n], inverses[n], values[n] = square, 1 / square, 0
                    n += 1
    return n


@kernel
def enrol_code(codes, found, present, rows, counts, tables, plan, has_mask, candidates):
    """Put the nonzero coefficients of some rows of a code into the working set; return their number, -1 if too many."""
    width = lanes(tables[0])
    n_found = 0
    first, behind = rows[0] * plan.code_width, rows[1] * plan.code_width
    for p in range(first, behind):
        for k in range(plan.atoms):
            if codes[p, k] != 0:
                if n_found == found.size:
                    return -1
                index = p * plan.padded_atoms + k
                present[index // width] |= 1 << index % width
                found[n_found] = index
                n_found += 1
    n = enrol(found, n_found, counts, tables, plan, has_mask, behind - first, candidates, 0)
    where, values = candidates[0], candidates[6]
    for i in range(n):
        values[i] = codes[where[i] // plan.padded_atoms, where[i] % plan.padded_atoms]
    return n


@kernel
def write_code(codes, plan, candidates, n):
    """Write the coefficients of the working set into a code that is zero."""
    where, values = candidates[0], candidates[6]
    for i in range(n):
        codes[where[i] // plan.padded_atoms, where[i] % plan.padded_atoms] = values[i]


@kernel
def drop_zeros(present, candidates, n):
    """Keep the nonzero candidates; return their number."""
    where, places, atoms, kinds, squares, inverses, values = candidates
    width = lanes(values)
    kept = 0
    for i in range(n):
        if values[i] != 0:
            where[kept], places[kept], atoms[kept], kinds[kept] = where[i], places[i], atoms[i], kinds[i]
            squares[kept], inverses[kept], values[kept] = squares[i], inverses[i], values[i]
            kept += 1
        else:
            present[where[i] // width] &= ~(1 << where[i] % width)
    return kept

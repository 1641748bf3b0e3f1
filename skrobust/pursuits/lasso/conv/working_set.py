"""The working set of convolutional coordinate descent: which coefficients may differ from zero.

It holds the nonzero coefficients, and those whose correlation with the residual exceeds their penalty. Dense
correlations are never stored: each row is tested as soon as it is computed. Coefficients are stored in the reverse
order of visits.
"""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    fma,
    inlined,
    kernel,
    lanes,
    largest,
    load,
    maximum,
    multiply,
    scalar_like,
    total,
    zero_vector,
)
from skrobust.kernels.workspace import part
from skrobust.operators.conv.kernels import correlate_block
from skrobust.operators.conv.plan import BLOCK
from skrobust.operators.conv.vectors import bits_above, lowest_bit

PLAIN, MASKED, WRAPPED = 0, 1, 2
"""Border classes of coefficients: atom inside and unmasked; partly outside or masked; wrapping around."""

ROUNDING = 1e-6
"""Relative difference of a correlation and its limit that is attributed to rounding."""


def working_set_sizes(capacity):
    """Sizes of the integer and of the floating-point arrays of a working set."""
    return [capacity] * 4, [capacity] * 3


@inlined
def working_set_of(integers, first, floats, first_float):
    """The working set in consecutive arrays of two workspaces.

    Index of the coefficient, offset of its atom in the buffer, its atom, its border class, squared norm of the unmasked
    part of the atom, the inverse of that, and the coefficient.
    """
    return (
        part(integers, first),
        part(integers, first + 1),
        part(integers, first + 2),
        part(integers, first + 3),
        part(floats, first_float),
        part(floats, first_float + 1),
        part(floats, first_float + 2),
    )


@inlined
def border_class_at(y, x, plan, has_mask):
    """Border class of the coefficients at position (y, x)."""
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
    return WRAPPED if plan.wraps else MASKED


@inlined
def buffer_offset(y, x, plan):
    """Offset in the buffer of the atoms at position (y, x)."""
    row, column = plan.first_row + y * plan.stride_down, plan.first_column + x * plan.stride_right
    return row * plan.pitch + column * plan.channels


@kernel
def masked_squared_norm(vectors, a, valid, at, plan):
    """Squared norm of the unmasked part of an atom."""
    width = lanes(vectors)
    s = zero_vector(vectors)
    for _ in range(plan.kernel_height):
        for q in range(0, plan.row_vectors * width, width):
            d = load(vectors, a + q)
            s = fma(multiply(d, load(valid, at + q)), d, s)
        at += plan.pitch
        a += plan.row_vectors * width
    return total(s)


@inlined
def blocks_of_row(plan):
    """Number of blocks of a row of positions."""
    return (plan.code_width + BLOCK - 1) // BLOCK


@kernel
def mark_stale(stale, plan, working_set, n):
    """Mark the blocks of positions whose correlations change with the coefficients of the working set."""
    indices, blocks = working_set[0], blocks_of_row(plan)
    down, right = (plan.kernel_height - 1) // plan.stride_down, (plan.kernel_width - 1) // plan.stride_right
    for i in range(n):
        position = indices[i] // plan.padded_atoms
        y, x = position // plan.code_width, position % plan.code_width
        for row in range(y - down, y + down + 1):
            if plan.wraps:
                row %= plan.code_height
            elif row < 0 or row >= plan.code_height:
                continue
            for column in range(x - right, x + right + 1):
                if plan.wraps:
                    column %= plan.code_width
                elif column < 0 or column >= plan.code_width:
                    continue
                stale[row * blocks + column // BLOCK] = 1


@kernel
def _peak_of_block(out, y, first, end, plan, inv_weights, positive, peaks):
    """Largest correlation times inverse weight of a block, and of each of its positions into `peaks`."""
    width = lanes(out)
    highest = zero_vector(out)
    o = 0
    for x in range(first, end):
        peak = zero_vector(out)
        for k in range(0, plan.padded_atoms, width):
            correlations = load(out, o)
            if not positive:
                correlations = absolute(correlations)
            peak = maximum(peak, multiply(correlations, load(inv_weights, k)))
            o += width
        peaks[y * plan.code_width + x] = largest(peak)
        highest = maximum(highest, peak)
    return largest(highest)


@kernel
def append_violating(
    residual, valid, present, tables, plan, limit, limits, inv_weights, positive, has_mask, rows, out, peaks, stale,
    candidates, capacity, working_set, n,
):  # fmt: skip
    """Append the coefficients of some rows of positions whose correlation exceeds its threshold to the working set.

    Parameters
    ----------
    residual, valid : flat buffers
    present : ndarray of int
        One bit per coefficient: whether it is in the working set.
    tables : tuple
        Atoms as vectors, as columns, and their squared norms.
    limit : float
        Entry threshold of a correlation times the inverse weight of its atom.
    limits, inv_weights : ndarray of shape (padded_atoms,)
        Entry threshold of the correlations, and the inverse weight of the atoms; infinite and zero for padding.
    positive, has_mask : bool
    rows : tuple of int
        First row of positions, and the one after the last.
    out : buffer of the correlations of one block
    peaks : ndarray of shape (n_positions,)
        Largest correlation times inverse weight at each position; updated in these rows.
    stale : ndarray of int
        Whether the peaks of each block of positions are out of date; cleared in these rows. Blocks that are not, and
        have no peak above the limit, are skipped.
    candidates : ndarray of int
        Workspace for the indices of the new coefficients.
    capacity : int
        Capacity of the working set.
    working_set : tuple of arrays
    n : int
        Size of the working set.

    Returns
    -------
    n : int
        New size, or -1 if it exceeds the capacity.
    top : float
        Largest correlation times inverse weight.
    """
    width = lanes(residual)
    top = scalar_like(0, residual)
    n_candidates = 0
    blocks, groups = blocks_of_row(plan), plan.padded_atoms // width
    almost = limit * (1 - ROUNDING)
    for y in range(rows[0], rows[1]):
        for block in range(blocks):
            first = block * BLOCK
            end = min(first + BLOCK, plan.code_width)
            if not stale[y * blocks + block]:
                peak = scalar_like(0, residual)
                for x in range(first, end):
                    peak = max(peak, peaks[y * plan.code_width + x])
                if not peak > almost:
                    top = max(top, peak)
                    continue
            stale[y * blocks + block] = 0
            correlate_block(residual, y, first, tables[1], plan, out, 0)
            peak = _peak_of_block(out, y, first, end, plan, inv_weights, positive, peaks)
            top = max(top, peak)
            if not peak > almost:
                continue
            o = 0
            for group in range((y * plan.code_width + first) * groups, (y * plan.code_width + end) * groups):
                correlations = load(out, o)
                if not positive:
                    correlations = absolute(correlations)
                bits = bits_above(correlations, load(limits, o % plan.padded_atoms)) & ~np.int64(present[group])
                if bits != 0:
                    if n + n_candidates + width > capacity:
                        return -1, top
                    present[group] |= bits
                    while bits != 0:
                        candidates[n_candidates] = group * width + lowest_bit(bits)
                        n_candidates += 1
                        bits &= bits - 1
                o += width
    n_positions = (rows[1] - rows[0]) * plan.code_width
    return append_candidates(candidates, n_candidates, valid, tables, plan, has_mask, n_positions, working_set, n), top


@kernel
def append_candidates(candidates, n_candidates, valid, tables, plan, has_mask, n_positions, working_set, n):
    """Append zero coefficients to the working set, in the order of visits; return its new size.

    Those inside and unmasked come first, so that loops over the working set rarely change their code path.

    Parameters
    ----------
    candidates : ndarray of int
        Indices of the coefficients, ordered by position.
    n_positions : int
        Number of positions.
    """
    indices, offsets, atoms, border_class, squared_norms, inv_squared_norms, values = working_set
    vectors, norms = tables[0], tables[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    step = max(1, min(n_candidates // 2, plan.apart * n_candidates // max(1, n_positions)))
    for plain in (True, False):
        for start in range(min(step, n_candidates)):
            for i in range(start, n_candidates, step):
                position, atom = candidates[i] // plan.padded_atoms, candidates[i] % plan.padded_atoms
                y, x = position // plan.code_width, position % plan.code_width
                border = border_class_at(y, x, plan, has_mask)
                if (border == PLAIN) != plain:
                    continue
                at, square = buffer_offset(y, x, plan), norms[atom]
                if border == MASKED or has_mask:
                    square = masked_squared_norm(vectors, atom * atom_size, valid, at, plan)
                if square > 0:
                    indices[n], offsets[n], atoms[n], border_class[n] = candidates[i], at, atom, border
                    squared_norms[n], inv_squared_norms[n], values[n] = square, 1 / square, 0
                    n += 1
    return n


@inlined
def code_index(index, plan):
    """Index in a flat code, without padding, of a coefficient."""
    return index // plan.padded_atoms * plan.atoms + index % plan.padded_atoms


@kernel
def working_set_of_code(codes, candidates, capacity, present, rows, valid, tables, plan, has_mask, working_set):
    """Put the nonzero coefficients of some rows of a code into the working set; return their number, -1 if too many."""
    width = lanes(tables[0])
    n_candidates = 0
    first, end = rows[0] * plan.code_width, rows[1] * plan.code_width
    for p in range(first, end):
        for k in range(plan.atoms):
            if codes[p * plan.atoms + k] != 0:
                if n_candidates == capacity:
                    return -1
                index = p * plan.padded_atoms + k
                present[index // width] |= 1 << index % width
                candidates[n_candidates] = index
                n_candidates += 1
    n = append_candidates(candidates, n_candidates, valid, tables, plan, has_mask, end - first, working_set, 0)
    indices, values = working_set[0], working_set[6]
    for i in range(n):
        values[i] = codes[code_index(indices[i], plan)]
    return n


@kernel
def write_code(codes, plan, working_set, n):
    """Write the coefficients of the working set into a code that is zero."""
    indices, values = working_set[0], working_set[6]
    for i in range(n):
        codes[code_index(indices[i], plan)] = values[i]


@kernel
def drop_zeros(present, working_set, n):
    """Keep the nonzero coefficients of the working set; return their number."""
    indices, offsets, atoms, border_class, squared_norms, inv_squared_norms, values = working_set
    width = lanes(values)
    kept = 0
    for i in range(n):
        if values[i] != 0:
            indices[kept], offsets[kept], atoms[kept], border_class[kept] = (
                indices[i],
                offsets[i],
                atoms[i],
                border_class[i],
            )
            squared_norms[kept], inv_squared_norms[kept], values[kept] = (
                squared_norms[i],
                inv_squared_norms[i],
                values[i],
            )
            kept += 1
        else:
            present[indices[i] // width] &= ~(1 << indices[i] % width)
    return kept

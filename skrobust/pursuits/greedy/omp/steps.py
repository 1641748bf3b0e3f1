"""One step of a greedy pursuit in the Gram domain: the passes over all atoms.

The state of a signal is its correlations with all atoms, not its residual. Selecting atom j adds a vector to an
orthogonal basis of the selected atoms; a row holds its inner products with all atoms (modified Gram-Schmidt):

    row_k = gram[j] - sum_p weight_kp row_p,    weight_kp = row_p[j] / pivot_p,    pivot_k = row_k[j],
    correlations -= (correlations[j] / pivot_k) row_k,

and the same pass finds the next atom. Atoms have unit norm here, and zero atoms pad their number to whole groups of
four vectors. All arrays are flat; weights are stored negated.
"""

from skrobust.kernels.vectors import (
    absolute,
    add,
    broadcast,
    divide,
    fma,
    fnma,
    inlined,
    lane_numbers,
    lanes,
    load,
    load_all,
    maximum,
    multiply,
    store,
    where_greater,
)


@inlined
def keep_larger(best, best_position, score, position):
    """Lane by lane, the larger score and its position; the first one if they tie."""
    return maximum(score, best), where_greater(score, best, position, best_position)


@inlined
def _keep_larger_ratio(best, base, best_position, score, scale, position):
    """The same for the ratios score / scale, without dividing; the largest ratio so far is best / base."""
    left, right = multiply(score, base), multiply(best, scale)
    return (
        where_greater(left, right, score, best),
        where_greater(left, right, scale, base),
        where_greater(left, right, position, best_position),
    )


@inlined
def largest_of_four(s0, s1, s2, s3, offsets):
    """Lane by lane, the largest of four scores and its position."""
    s0, a0 = keep_larger(s0, offsets[0], s1, offsets[1])
    s2, a2 = keep_larger(s2, offsets[2], s3, offsets[3])
    return keep_larger(s0, a0, s2, a2)


@inlined
def four_offsets(array):
    """Offsets of four consecutive vectors, and the distance to the next four."""
    step, scalar = lanes(array), array.dtype.type
    offsets = broadcast(scalar(0)), broadcast(scalar(step)), broadcast(scalar(2 * step)), broadcast(scalar(3 * step))
    return offsets, broadcast(scalar(4 * step))


@inlined
def largest(correlations, start, width):
    """Largest magnitude of a row of correlations and its first position; -1 if all are NaN."""
    step = lanes(correlations)
    offsets, group_size = four_offsets(correlations)
    position = lane_numbers(correlations)
    best, best_position = broadcast(correlations.dtype.type(-1)), offsets[0]
    for i in range(start, start + width, 4 * step):
        top, top_position = largest_of_four(
            absolute(load(correlations, i)),
            absolute(load(correlations, i + step)),
            absolute(load(correlations, i + 2 * step)),
            absolute(load(correlations, i + 3 * step)),
            offsets,
        )
        best, best_position = keep_larger(best, best_position, top, add(position, top_position))
        position = add(position, group_size)
    return best, best_position


@inlined
def _orthogonal_part(gram, g, basis, row, stride, weights, w, k):
    """Four vectors of a Gram row at `g`, minus their components in the first `k` basis rows, read from `row` on."""
    step = lanes(gram)
    t0, t1 = load(gram, g), load(gram, g + step)
    t2, t3 = load(gram, g + 2 * step), load(gram, g + 3 * step)
    for p in range(w, w + k):
        weight = load_all(weights, p)
        t0 = fma(weight, load(basis, row), t0)
        t1 = fma(weight, load(basis, row + step), t1)
        t2 = fma(weight, load(basis, row + 2 * step), t2)
        t3 = fma(weight, load(basis, row + 3 * step), t3)
        row += stride
    return t0, t1, t2, t3


@inlined
def _deflate(correlations, i, basis, row, t, c):
    """Store four vectors of a new basis row, and the correlations minus `c` times it; return the latter."""
    step = lanes(correlations)
    r0 = fnma(c, t[0], load(correlations, i))
    r1 = fnma(c, t[1], load(correlations, i + step))
    r2 = fnma(c, t[2], load(correlations, i + 2 * step))
    r3 = fnma(c, t[3], load(correlations, i + 3 * step))
    store(basis, row, t[0])
    store(basis, row + step, t[1])
    store(basis, row + 2 * step, t[2])
    store(basis, row + 3 * step, t[3])
    store(correlations, i, r0)
    store(correlations, i + step, r1)
    store(correlations, i + 2 * step, r2)
    store(correlations, i + 3 * step, r3)
    return r0, r1, r2, r3


@inlined
def next_by_correlation(correlations, start, width, gram, g, basis, stride, weights, w, k, c):
    """Write row `k` of the basis and update the correlations; return each lane's largest magnitude and its position."""
    step = lanes(correlations)
    offsets, group_size = four_offsets(correlations)
    c = broadcast(c)
    position = lane_numbers(correlations)
    best, best_position = broadcast(correlations.dtype.type(-1)), offsets[0]
    for i in range(0, width, 4 * step):
        t = _orthogonal_part(gram, g + i, basis, i, stride, weights, w, k)
        r0, r1, r2, r3 = _deflate(correlations, start + i, basis, k * stride + i, t, c)
        top, top_position = largest_of_four(absolute(r0), absolute(r1), absolute(r2), absolute(r3), offsets)
        best, best_position = keep_larger(best, best_position, top, add(position, top_position))
        position = add(position, group_size)
    return best, best_position


@inlined
def _gain(r, t, scale, atom_residuals, i, floor):
    """Decrease of the squared residual by each atom, as numerator and denominator.

    `atom_residuals` holds the squared norm of what the basis leaves of each atom, and is updated. Atoms with at most
    `floor` are excluded.
    """
    norms = maximum(fnma(multiply(t, scale), t, load(atom_residuals, i)), floor)
    store(atom_residuals, i, norms)
    return where_greater(norms, floor, multiply(r, r), broadcast(atom_residuals.dtype.type(0))), norms


@inlined
def next_by_gain(correlations, start, width, gram, g, basis, stride, weights, w, k, c, inverse, atom_residuals, floor):
    """As `next_by_correlation`, for the atom that leaves the smallest residual; `inverse` is 1 / pivot."""
    step = lanes(correlations)
    offsets, group_size = four_offsets(correlations)
    scale, c = broadcast(inverse), broadcast(c)
    lowest = broadcast(atom_residuals.dtype.type(floor))
    position = lane_numbers(correlations)
    scalar = correlations.dtype.type
    best, base, best_position = broadcast(scalar(-1)), broadcast(scalar(1)), offsets[0]
    for i in range(0, width, 4 * step):
        t = _orthogonal_part(gram, g + i, basis, i, stride, weights, w, k)
        r0, r1, r2, r3 = _deflate(correlations, start + i, basis, k * stride + i, t, c)
        s0, n0 = _gain(r0, t[0], scale, atom_residuals, i, lowest)
        s1, n1 = _gain(r1, t[1], scale, atom_residuals, i + step, lowest)
        s2, n2 = _gain(r2, t[2], scale, atom_residuals, i + 2 * step, lowest)
        s3, n3 = _gain(r3, t[3], scale, atom_residuals, i + 3 * step, lowest)
        s0, n0, a0 = _keep_larger_ratio(s0, n0, offsets[0], s1, n1, offsets[1])
        s2, n2, a2 = _keep_larger_ratio(s2, n2, offsets[2], s3, n3, offsets[3])
        s0, n0, a0 = _keep_larger_ratio(s0, n0, a0, s2, n2, a2)
        best, base, best_position = _keep_larger_ratio(best, base, best_position, s0, n0, add(position, a0))
        position = add(position, group_size)
    return divide(best, base), best_position


@inlined
def gram_row(atoms, width, j, mask, row, masked_inv_norms, start, column, target):
    """Inner products of atom `j` with all atoms, computed without a Gram matrix.

    With missing features: over the present ones, ``mask[row]``, with atoms scaled by ``masked_inv_norms[start:]``.
    """
    step, masked = lanes(atoms), masked_inv_norms.size > 0
    for f in range(column.size):
        column[f] = 0 if masked and not mask[row, f] else atoms[f * width + j]
        if masked:
            column[f] *= masked_inv_norms[start + j]
    for i in range(0, width, 4 * step):
        t0 = broadcast(atoms.dtype.type(0))
        t1, t2, t3 = t0, t0, t0
        at = i
        for f in range(column.size):
            weight = load_all(column, f)
            t0, t1 = fma(weight, load(atoms, at), t0), fma(weight, load(atoms, at + step), t1)
            t2 = fma(weight, load(atoms, at + 2 * step), t2)
            t3 = fma(weight, load(atoms, at + 3 * step), t3)
            at += width
        if masked:
            t0 = multiply(t0, load(masked_inv_norms, start + i))
            t1 = multiply(t1, load(masked_inv_norms, start + i + step))
            t2 = multiply(t2, load(masked_inv_norms, start + i + 2 * step))
            t3 = multiply(t3, load(masked_inv_norms, start + i + 3 * step))
        store(target, i, t0)
        store(target, i + step, t1)
        store(target, i + 2 * step, t2)
        store(target, i + 3 * step, t3)

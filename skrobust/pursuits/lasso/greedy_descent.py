"""The lasso to low accuracy, for learning: greedy coordinate descent.

Each step updates the coefficient with the largest change, in one pass over the correlations of all atoms that also
finds the next coefficient. Solutions are sparse, so few steps suffice. There is no certificate: descent stops when no
coefficient would change by more than a tolerance.
"""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    add,
    broadcast,
    first_largest,
    fnma,
    inlined,
    lane_numbers,
    lanes,
    load,
    maximum,
    minimum,
    read,
    store,
    write,
)
from skrobust.pursuits.greedy.omp.steps import four_offsets, keep_larger, largest_of_four


@inlined
def _distance(q, z, upper, lower, one):
    """Change of coefficients z whose atoms have the correlations q with the residual.

    The soft threshold of v = z + q is v - clip(v, lower, upper); minus z, that is q - clip(v, lower, upper).
    """
    return absolute(fnma(one, maximum(minimum(add(z, q), upper), lower), q))


@inlined
def _update_correlations(correlations, start, width, gram, g, change, z, upper, lower):
    """Subtract `change` times the Gram row at `g` from the correlations.

    Returns, lane by lane, the largest change that another step would make, and its atom.
    """
    step, scalar = lanes(correlations), correlations.dtype.type
    offsets, group_size = four_offsets(correlations)
    change, upper, lower, one = broadcast(change), broadcast(upper), broadcast(lower), broadcast(scalar(1))
    position = lane_numbers(correlations)
    best, best_position = broadcast(scalar(-1)), offsets[0]
    for i in range(0, width, 4 * step):
        q0 = fnma(change, load(gram, g + i), load(correlations, start + i))
        q1 = fnma(change, load(gram, g + i + step), load(correlations, start + i + step))
        q2 = fnma(change, load(gram, g + i + 2 * step), load(correlations, start + i + 2 * step))
        q3 = fnma(change, load(gram, g + i + 3 * step), load(correlations, start + i + 3 * step))
        store(correlations, start + i, q0)
        store(correlations, start + i + step, q1)
        store(correlations, start + i + 2 * step, q2)
        store(correlations, start + i + 3 * step, q3)
        top, top_position = largest_of_four(
            _distance(q0, load(z, i), upper, lower, one),
            _distance(q1, load(z, i + step), upper, lower, one),
            _distance(q2, load(z, i + 2 * step), upper, lower, one),
            _distance(q3, load(z, i + 3 * step), upper, lower, one),
            offsets,
        )
        best, best_position = keep_larger(best, best_position, top, add(position, top_position))
        position = add(position, group_size)
    return best, best_position


@inlined
def descend_greedily(correlations, start, width, gram, alpha, positive, tol, max_steps, z, touched):
    """Approximate code of one signal from its correlations, which are overwritten by those of its residual.

    `correlations` is flat: `width` from `start` on, with atoms of unit norm or zero; so is `gram`, in rows of `width`.
    `alpha` and `positive` are as in `basis_pursuit`. Descent stops when no coefficient would change by more than `tol`.
    `z`, zeros at first, is overwritten by the code, and `touched` by the atoms whose coefficients were changed. Returns
    the number of these atoms; some of their coefficients may be zero again.
    """
    scalar = correlations.dtype.type
    upper = scalar(alpha)
    lower = scalar(-np.inf) if positive else scalar(-alpha)
    count, j, change = 0, 0, scalar(0)
    for _ in range(max_steps):
        best, best_position = _update_correlations(correlations, start, width, gram, j * width, change, z, upper, lower)
        top, j = first_largest(best, best_position)
        if not top > tol:
            break
        q, old = read(correlations, start + j), read(z, j)
        change = q - max(min(old + q, upper), lower)
        is_known = False
        for i in range(count):
            is_known |= touched[i] == j
        if not is_known:
            touched[count] = j
            count += 1
        write(z, j, old + change)
    return count

"""Lower bounds on the least objective of the convolutional LASSO: what the duality gap is taken to.

Any theta with ``|D_k^T theta| <= alpha w_k`` at all positions bounds the minimum from below by
``<theta, x> - ||theta||^2 / 2``. The residual of a code is one once it is scaled. One factor for the whole signal pays
everywhere for the worst position; atoms being small, a factor a pixel need not: the least over the atoms that cover it
of penalty to correlation. What that leaves of violations, one factor removes.
"""

import numpy as np

from ._conv_kernels import correlate_row
from ._conv_support import gradient
from ._vectors import absolute, broadcast, kernel, lanes, largest, load, maximum, multiply


@kernel
def dual_value(signal, point, plan, alpha, top):
    """Bound of a dual point, scaled to be feasible and best, and the squared norm of the point.

    Parameters
    ----------
    top : float
        Largest correlation of the point with an atom, relative to the atom's weight.
    """
    row = plan.width * plan.channels
    squares = products = 0.0
    for y in range(plan.height):
        at = (y + plan.top) * plan.pitch + plan.left * plan.channels
        for i in range(at, at + row):
            value = np.float64(point[i])
            squares += value * value
            products += value * np.float64(signal[i])
    scale = products / squares if squares > 0 else 0.0
    if top > 0:
        scale = min(scale, alpha / np.float64(top))
    scale = max(scale, 0.0)
    return scale * products - 0.5 * scale * scale * squares, squares


@kernel
def lower_scales(scales, residual, vectors, plan, penalties, positive, candidates, n):
    """Lower the factor of each pixel to what the candidates whose atoms cover it admit.

    All atoms whose correlation exceeds their penalty are to be among the candidates.

    Parameters
    ----------
    scales : ndarray of shape (height, width)
        Ones, to begin with.
    """
    places, atoms = candidates[1], candidates[2]
    atom_size = plan.kernel_height * plan.row_vectors * lanes(vectors)
    for i in range(n):
        correlation = gradient(residual, places[i], vectors, atoms[i] * atom_size, plan)
        if not positive:
            correlation = abs(correlation)
        if correlation <= penalties[atoms[i]]:
            continue
        ratio = penalties[atoms[i]] / correlation
        top = places[i] // plan.pitch - plan.top
        left = places[i] % plan.pitch // plan.channels - plan.left
        for y in range(top, top + plan.kernel_height):
            if plan.wraps:
                y %= plan.height
            elif y < 0 or y >= plan.height:
                continue
            for x in range(left, left + plan.kernel_width):
                if plan.wraps:
                    x %= plan.width
                elif x < 0 or x >= plan.width:
                    continue
                scales[y, x] = min(scales[y, x], ratio)


@kernel
def scale_pixels(residual, scales, plan, point):
    """Residual times the factor of each pixel, into a buffer like it; on a circle in the margins, too."""
    for r in range(plan.rows):
        y = (r - plan.top) % plan.height
        for column in range(plan.pitch // plan.channels):
            scale = scales[y, (column - plan.left) % plan.width]
            at = r * plan.pitch + column * plan.channels
            for c in range(at, at + plan.channels):
                point[c] = scale * residual[c]


@kernel
def largest_correlation(point, columns, plan, rates, positive, rows, out):
    """Largest correlation of a buffer with the atoms in some rows of positions, times their rates.

    Parameters
    ----------
    rates : ndarray of shape (padded_atoms,)
        Inverse weights; zero behind the last.
    rows : tuple of int
    out : buffer of one row of correlations
    """
    width = lanes(point)
    highest = broadcast(point.dtype.type(0))
    for y in range(rows[0], rows[1]):
        correlate_row(point, y, columns, plan, out)
        for o in range(0, plan.code_width * plan.padded_atoms, width):
            correlations = load(out, o)
            if not positive:
                correlations = absolute(correlations)
            highest = maximum(highest, multiply(correlations, load(rates, o % plan.padded_atoms)))
    return largest(highest)

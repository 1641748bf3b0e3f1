"""Dual points of the convolutional LASSO: lower bounds on its minimum, for the duality gap.

Any theta with ``|D_k^T theta| <= alpha w_k`` at all positions bounds the minimum from below by
``<theta, x> - ||theta||^2 / 2``. A scaled residual is such a point. One common factor would be determined by the worst
position. As atoms are small, each pixel gets its own factor instead: the smallest ratio of penalty to correlation among
the atoms that cover it. One common factor then removes remaining violations.
"""

import numpy as np

from skrobust.kernels.vectors import (
    absolute,
    kernel,
    lanes,
    largest,
    load,
    maximum,
    multiply,
    scalar_like,
    zero_vector,
)
from skrobust.operators.conv.kernels import correlate_row


@kernel
def dual_value(products, squares, alpha, largest_ratio):
    """Bound of a dual point at its optimal feasible scale.

    Parameters
    ----------
    products, squares : float
        Inner products of the point with the signal and with itself.
    largest_ratio : float
        Largest correlation of the point with an atom, relative to the atom's weight.
    """
    scale = products / squares if squares > 0 else 0.0
    if largest_ratio > 0:
        scale = min(scale, alpha / np.float64(largest_ratio))
    scale = max(scale, 0.0)
    return scale * products - 0.5 * scale * scale * squares


@kernel
def lower_row_scales(row_scales, peaks, first, end, plan, alpha):
    """Factor of each pixel that some rows of positions allow, each on its own.

    Parameters
    ----------
    row_scales : ndarray of shape (code_height * width,)
        Overwritten in these rows.
    peaks : ndarray of shape (n_positions,)
        Largest correlation at each position, relative to the weights of the atoms.
    """
    shift = plan.first_column - plan.left
    for y in range(first, end):
        for column in range(plan.width):
            row_scales[y * plan.width + column] = 1
        for x in range(plan.code_width):
            peak = peaks[y * plan.code_width + x]
            if peak > alpha:
                admitted = scalar_like(alpha / peak, row_scales)
                left = x * plan.stride_right + shift
                for column in range(left, left + plan.kernel_width):
                    if plan.wraps:
                        column %= plan.width
                    if 0 <= column < plan.width:
                        row_scales[y * plan.width + column] = min(row_scales[y * plan.width + column], admitted)


@kernel
def lower_scales(scales, row_scales, first, end, plan):
    """Factor of each pixel in some rows of the signal: the smallest that the rows of positions covering it allow.

    Parameters
    ----------
    scales : ndarray of shape (height * width,)
        Overwritten in these rows.
    row_scales : ndarray of shape (code_height * width,)
        By `lower_row_scales`, for all rows of positions.
    """
    for i in range(first * plan.width, end * plan.width):
        scales[i] = 1
    for y in range(plan.code_height):
        top = y * plan.stride_down + plan.first_row - plan.top
        for row in range(top, top + plan.kernel_height):
            if plan.wraps:
                row %= plan.height
            if first <= row < end:
                for column in range(plan.width):
                    i = row * plan.width + column
                    scales[i] = min(scales[i], row_scales[y * plan.width + column])


@kernel
def scale_pixels(residual, scales, first, end, plan, point):
    """Residual times the factor of each pixel, into some rows of a second buffer, with their margins."""
    for r in range(first, end):
        y = (r - plan.top) % plan.height
        for column in range(plan.pitch // plan.channels):
            scale = scales[y * plan.width + (column - plan.left) % plan.width]
            at = r * plan.pitch + column * plan.channels
            for c in range(at, at + plan.channels):
                point[c] = scale * residual[c]


@kernel
def largest_correlation(point, columns, plan, inv_weights, positive, rows, out):
    """Largest correlation of a buffer with the atoms in some rows of positions, times their inverse weights.

    Parameters
    ----------
    inv_weights : ndarray of shape (padded_atoms,)
        Inverse weights; zero for padding.
    rows : tuple of int
    out : buffer of one row of correlations
    """
    width = lanes(point)
    highest = zero_vector(point)
    for y in range(rows[0], rows[1]):
        correlate_row(point, y, columns, plan, out)
        for o in range(0, plan.code_width * plan.padded_atoms, width):
            correlations = load(out, o)
            if not positive:
                correlations = absolute(correlations)
            highest = maximum(highest, multiply(correlations, load(inv_weights, o % plan.padded_atoms)))
    return largest(highest)

"""Bounds on rounding errors of floating-point sums."""

import numpy as np


def gamma(n_operations, dtype):
    """Bound on the error of a sum of products, relative to the sum of their magnitudes.

    ``n u / (1 - n u)`` with u the unit roundoff (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    3.1), for any order of operations, with or without fused multiply-adds. Operations are counted twice, which covers
    the rounding of the bound itself and of stored factors.
    """
    relative = 2 * n_operations * np.finfo(dtype).eps / 2
    if relative >= 0.5:
        raise ValueError(f"{n_operations} operations in {np.dtype(dtype).name} leave no correct digit.")
    return relative / (1 - relative)


def round_up(values):
    """The next larger floating-point numbers: upper bounds of exact values that were rounded once."""
    return np.nextafter(values, np.inf)


def smallest_above(a, b, *, strictly):
    """The smallest float64 that is >= the exact difference a - b, or > it.

    Examples
    --------
    >>> from skrobust.kernels.rounding import smallest_above
    >>> float(smallest_above(0.3, 0.1, strictly=False)), float(smallest_above(0.3, 0.1, strictly=True))
    (0.19999999999999998, 0.2)
    """
    difference, error = _exact_difference(a, b)
    too_small = error >= 0 if strictly else error > 0
    return np.where(too_small, round_up(difference), difference)


def exceeds(a, b, c):
    """Whether the exact sum a + b exceeds c, for float64 arrays.

    Examples
    --------
    >>> bool(exceeds(0.1, 0.2, 0.3)), bool(exceeds(0.125, 0.25, 0.375))
    (True, False)
    """
    total, error = _exact_difference(a, np.negative(b))
    return (total > c) | ((total == c) & (error > 0))


def _exact_difference(a, b):
    """Rounded difference and its error, which add up to a - b exactly (Knuth's TwoSum)."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference = a - b
    part = difference - a
    error = (a - (difference - part)) - (b + part)
    return difference, error

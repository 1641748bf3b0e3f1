"""Counts given as a number or a fraction."""

import math
from numbers import Integral


def count_of(share, total, *, least=1):
    """The count given by an int, or by a fraction in [0, 1] of `total`.

    A fraction is rounded down, but not below `least`. It is read as a decimal number: 0.29 of 100 is 29,
    although ``0.29 * 100`` is 28.999999999999996.

    Parameters
    ----------
    share : int or float
        An int is returned as it is.
    total : int
    least : int, default=1

    Returns
    -------
    int

    Examples
    --------
    >>> from skrobust.signals import count_of
    >>> count_of(0.29, 100), count_of(7, 100), count_of(0.001, 100)
    (29, 7, 1)
    """
    if isinstance(share, Integral):
        return int(share)
    return max(least, min(total, math.floor(float(share) * total * (1 + 1e-12))))

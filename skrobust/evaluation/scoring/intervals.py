"""Confidence intervals of accuracies, and of the difference of two accuracies on the same images."""

import math

import numpy as np
from scipy.special import ndtri


def wilson_interval(n_correct, n, confidence=0.95):
    r"""Wilson's score interval of a proportion.

    The set of p with :math:`|\hat p - p| \le z \sqrt{p (1 - p) / n}` (Wilson, 1927), which stays within [0, 1]
    and is not empty at proportions 0 and 1.

    Parameters
    ----------
    n_correct : int
    n : int
        At least 1.
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> from skrobust.evaluation import wilson_interval
    >>> low, high = wilson_interval(90, 100)
    >>> round(low, 4), round(high, 4)
    (0.8256, 0.9448)
    """
    if n < 1 or not 0 <= n_correct <= n:
        raise ValueError(f"wilson_interval needs 0 <= n_correct <= n and n >= 1, got n_correct={n_correct}, n={n}.")
    z = _quantile(confidence)
    p = n_correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # In exact arithmetic the ends stay within [0, 1]; rounding must not exceed it.
    low = 0.0 if n_correct == 0 else max(0.0, centre - half)
    high = 1.0 if n_correct == n else min(1.0, centre + half)
    return low, high


def paired_difference_interval(correct_a, correct_b, confidence=0.95):
    r"""Interval of accuracy(a) - accuracy(b) for two classifiers on the same images.

    Only images on which exactly one of the two is correct matter: with :math:`b` and :math:`c` of
    them among :math:`n`, Agresti and Min (2005) add half an image to each cell and take
    :math:`(b - c)/n \pm z \sqrt{(b + c) - (b - c)^2 / n} / n`.

    Parameters
    ----------
    correct_a, correct_b : array-like of bool of shape (n_samples,)
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    difference, low, high : float
        The observed difference and the ends of the interval.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.evaluation import paired_difference_interval
    >>> a = np.repeat([True, False], [80, 20])
    >>> b = np.repeat([True, False], [60, 40])
    >>> difference, low, high = paired_difference_interval(a, b)
    >>> round(difference, 3), bool(low > 0)
    (0.2, True)
    """
    correct_a, correct_b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if correct_a.shape != correct_b.shape or correct_a.ndim != 1 or correct_a.size == 0:
        raise ValueError(
            "paired_difference_interval needs two non-empty vectors of the same images, "
            f"got shapes {correct_a.shape} and {correct_b.shape}."
        )
    z = _quantile(confidence)
    only_a = int(np.sum(correct_a & ~correct_b))
    only_b = int(np.sum(correct_b & ~correct_a))
    n = correct_a.size
    difference = (only_a - only_b) / n
    a, b, m = only_a + 0.5, only_b + 0.5, n + 2
    half = z * math.sqrt(a + b - (a - b) ** 2 / m) / m
    centre = (a - b) / m
    return difference, max(-1.0, centre - half), min(1.0, centre + half)


def _quantile(confidence):
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}.")
    return float(ndtri(0.5 + confidence / 2))

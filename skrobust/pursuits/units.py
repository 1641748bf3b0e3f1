"""Pursuits in units near the size of the data, so that no square over- or underflows."""

import numpy as np

from skrobust.signals import groups_by_exponent, is_tensor, times_power

from .result import Result


def in_units(solve, X):
    """Solve in units of powers of two near the size of the signals, those of one size together.

    ``solve(X, exponent, rows)`` is the `Result` of the signals `rows`, given as ``X[rows] / 2**exponent``. All else
    that is in units of the signals (penalties, starting points) is to be divided likewise. Returns a `Result` in the
    units of X.
    """
    parts, order = [], []
    for exponent, rows in groups_by_exponent(X):
        found = solve(times_power(X[rows], -exponent), exponent, rows)
        parts.append(found._replace(
            codes=_times(found.codes, exponent),
            objective=_times(found.objective, 2 * exponent),
            gap=_times(found.gap, 2 * exponent),
        ))  # fmt: skip
        order.append(np.arange(len(X))[rows])
    if len(parts) == 1:
        return parts[0]
    back = np.argsort(np.concatenate(order))
    return Result(*(_together(values, back) for values in zip(*parts, strict=True)))


def _times(values, exponent):
    if isinstance(values, list):
        return [_times(value, exponent) for value in values]
    return values if values is None else times_power(values, exponent)


def _together(values, back):
    """Values of all parts in the order of the samples."""
    if values[0] is None:
        return None
    if isinstance(values[0], list):
        return [_together(value, back) for value in zip(*values, strict=True)]
    if is_tensor(values[0]):
        import torch

        return torch.cat(values)[torch.as_tensor(back, device=values[0].device)]
    return np.concatenate(values)[back]

"""Pursuits on scaled signals, so that squares neither overflow nor underflow."""

import numpy as np

from skrobust.signals import groups_by_exponent, is_tensor, times_power

from .result import Result


def in_units(solve, X):
    """Solve for signals divided by powers of two near their size, in groups with the same power.

    ``solve(X, exponent, rows)`` returns the `Result` of the signals `rows`, given as ``X[rows] / 2**exponent``, and has
    to divide whatever has the unit of the signals (penalties, starting points) likewise. Returns a `Result` in the
    unit of X.
    """
    parts, order = [], []
    for exponent, rows in groups_by_exponent(X):
        result = solve(times_power(X[rows], -exponent), exponent, rows)
        parts.append(result._replace(
            codes=_times(result.codes, exponent),
            objective=_times(result.objective, 2 * exponent),
            gap=_times(result.gap, 2 * exponent),
        ))  # fmt: skip
        order.append(np.arange(len(X))[rows])
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate(order))
    return Result(*(_in_order(values, order) for values in zip(*parts, strict=True)))


def _times(values, exponent):
    if isinstance(values, list):
        return [_times(value, exponent) for value in values]
    return values if values is None else times_power(values, exponent)


def _in_order(values, order):
    """Values of all parts in the order of the samples."""
    if values[0] is None:
        return None
    if isinstance(values[0], list):
        return [_in_order(value, order) for value in zip(*values, strict=True)]
    if is_tensor(values[0]):
        import torch

        return torch.cat(values)[torch.as_tensor(order, device=values[0].device)]
    return np.concatenate(values)[order]

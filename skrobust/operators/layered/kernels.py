"""Elementwise operations of layered pursuits on arrays, one pass each."""

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel, take_number
from skrobust.operators.conv.operator import flat_rows
from skrobust.signals import kernel_threads

_COST = 4
"""Cost of an array element in multiply-adds; memory access dominates its arithmetic."""


def shrink_and_extrapolate(point, previous, slopes, step, thresholds, momentum, positive, n_jobs=None):
    """Codes ``S(point + step slopes, thresholds)``, and their extrapolation ``codes + momentum (codes - before)``.

    `thresholds` is one number or one per atom. Without momentum `previous` is not used, and both results are the codes.
    """
    dtype, n_components = point.dtype.type, point.shape[-1]
    codes = np.empty(point.shape, dtype=dtype)
    extrapolated = np.empty(point.shape, dtype=dtype) if momentum else codes
    rows = [flat_rows(values) for values in (point, previous if momentum else point, slopes)]
    atom_thresholds = np.array(np.broadcast_to(thresholds, n_components), dtype=dtype)
    outputs = codes.reshape(len(codes), -1), extrapolated.reshape(len(codes), -1)
    with kernel_threads(n_jobs):
        options = {"n_pieces": len(point), "work": _COST * point.size}
        on_threads(_shrink, *rows, atom_thresholds, dtype(step), dtype(momentum), bool(positive), *outputs, **options)
    return codes, extrapolated


def extrapolate(old, new, momentum, n_jobs=None):
    """``new + momentum (new - old)`` with a momentum for each sample."""
    result = np.empty(new.shape, dtype=new.dtype)
    rows = flat_rows(old), flat_rows(new), np.ascontiguousarray(momentum), result.reshape(len(new), -1)
    with kernel_threads(n_jobs):
        on_threads(_extrapolate, *rows, n_pieces=len(new), work=_COST * new.size)
    return result


def half_squares_and_penalties(residuals, codes, penalty, n_jobs=None):
    """``1/2 ||residual||^2 + <penalty, |codes|>`` of each sample, in double precision."""
    values = np.empty(len(residuals))
    weights = np.array(np.broadcast_to(penalty, codes.shape[-1]), dtype=np.float64)
    with kernel_threads(n_jobs):
        options = {"n_pieces": len(residuals), "work": residuals.size + codes.size}
        on_threads(_objective, flat_rows(residuals), flat_rows(codes), weights, values, **options)
    return values


@kernel
def _shrink(point, previous, slopes, atom_thresholds, step, momentum, positive, codes, extrapolated, counters):
    n_components, zero = len(atom_thresholds), step - step
    while True:
        i = take_number(counters)
        if i >= len(point):
            return
        for begin in range(0, point.shape[1], n_components):
            for k in range(n_components):
                value = point[i, begin + k] + step * slopes[i, begin + k]
                shrunk = max(value - atom_thresholds[k], zero)
                if not positive:
                    shrunk += min(value + atom_thresholds[k], zero)
                codes[i, begin + k] = shrunk
            if momentum != 0:
                for at in range(begin, begin + n_components):
                    extrapolated[i, at] = codes[i, at] + momentum * (codes[i, at] - previous[i, at])


@kernel
def _extrapolate(old, new, momentum, result, counters):
    while True:
        i = take_number(counters)
        if i >= len(new):
            return
        for at in range(new.shape[1]):
            result[i, at] = new[i, at] + momentum[i] * (new[i, at] - old[i, at])


@kernel(fastmath={"reassoc", "contract", "nsz"})
def _objective(residuals, codes, weights, values, counters):
    n_components = len(weights)
    while True:
        i = take_number(counters)
        if i >= len(residuals):
            return
        squares, penalties = 0.0, 0.0
        for at in range(residuals.shape[1]):
            squares += np.float64(residuals[i, at]) * np.float64(residuals[i, at])
        for begin in range(0, codes.shape[1], n_components):
            for k in range(n_components):
                penalties += weights[k] * np.float64(abs(codes[i, begin + k]))
        values[i] = squares / 2 + penalties

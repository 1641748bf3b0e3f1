"""Powers of two that bring data near 1: solvers square them there, and results go back without rounding."""

import numpy as np

from ._tensors import is_tensor

_STEP = {4: 16, 8: 32}
"""Exponents are multiples of this, by bytes a value: samples of one size get one exponent, ordinary ones get 0.

Squares of values within a step of 1, and such squares times those of a rounding, are far from both ends of the range.
"""


def scale_exponents(X):
    """For each sample the exponent of a power of two that is near its largest magnitude.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, ...)``
        float32 or float64. Values that are not finite are left out of account.

    Returns
    -------
    ndarray of int of shape (n_samples,)
        0 for samples of ordinary size, and for zeros.
    """
    exponents = np.zeros(len(X), dtype=np.int64)
    if X.ndim == 0 or len(X) == 0 or int(np.prod(X.shape)) == 0:
        return exponents
    flat = X.detach().reshape(len(X), -1) if is_tensor(X) else X.reshape(len(X), -1)
    step = _STEP[flat.element_size() if is_tensor(flat) else flat.itemsize]
    if is_tensor(flat):
        rows = np.arange(len(X))
        tops = flat.abs().nan_to_num(nan=0.0, posinf=0.0).amax(1).double().cpu().numpy()
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            energies = np.einsum("ij,ij->i", flat, flat)
        largest = flat.dtype.type(2.0 ** (2 * step))
        rows = np.flatnonzero(~((energies > 1 / largest) & (energies < largest)))
        magnitudes = np.abs(flat[rows])
        tops = np.where(np.isfinite(magnitudes), magnitudes, 0).max(axis=1, initial=0)
    found = np.frexp(tops)[1]
    exponents[rows] = np.where(tops > 0, np.round(found / step) * step, 0)
    return exponents


def data_exponent(X):
    """One exponent for all samples, as of the largest among them."""
    exponents = scale_exponents(X)
    if not exponents.any():
        return 0
    return int(scale_exponents(X.reshape(1, -1))[0])


def times_power(values, exponents):
    """``values * 2**exponents``, rounded only where the result leaves the range of normal numbers.

    Parameters
    ----------
    values : ndarray, Tensor or float
    exponents : int, or ndarray of int of shape (n_samples,)
        For all values, or for each sample.
    """
    exponents = np.asarray(exponents)
    if not exponents.any():
        return values
    if not is_tensor(values):
        if exponents.ndim:
            exponents = exponents.reshape(-1, *[1] * (np.ndim(values) - 1))
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(values, exponents)
        return float(scaled) if isinstance(values, float) else scaled
    # The whole power may leave the range of the dtype where the result does not.
    half = exponents // 2
    for part in (half, exponents - half):
        factors = values.new_tensor(np.ldexp(1.0, part))
        values = values * (factors.reshape(-1, *[1] * (values.ndim - 1)) if exponents.ndim else factors)
    return values


def groups_by_exponent(X):
    """Pairs of an exponent and the samples that have it; a slice of all where there is one.

    For solvers that share a penalty or tolerance among the samples: each group is solved in its own unit.
    """
    exponents = scale_exponents(X)
    distinct = np.unique(exponents)
    if len(distinct) <= 1:
        return [(int(distinct[0]) if len(distinct) else 0, slice(None))]
    return [(int(exponent), np.flatnonzero(exponents == exponent)) for exponent in distinct]

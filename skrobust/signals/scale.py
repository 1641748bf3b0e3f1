"""Scaling by powers of two: solvers work on values near 1, and results are scaled back without rounding."""

import numpy as np

from .docstrings import documented_like
from .tensors import is_tensor

_STEP = {4: 16, 8: 32}
"""Exponents are multiples of this, by bytes per value; data of ordinary size gets exponent 0.

Chosen such that squares of scaled values, also times the squared unit roundoff, neither overflow nor underflow.
"""


def scale_exponents(X):
    """For each sample, the exponent of a power of two close to its largest magnitude.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, ...)``
        Of float32 or float64. Values that are not finite are ignored.

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
        largest = flat.abs().nan_to_num(nan=0.0, posinf=0.0).amax(1).double().cpu().numpy()
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            energies = np.einsum("ij,ij->i", flat, flat)
        limit = flat.dtype.type(2.0 ** (2 * step))
        rows = np.flatnonzero(~((energies > 1 / limit) & (energies < limit)))
        if not len(rows):
            return exponents
        magnitudes = np.abs(flat[rows])
        largest = np.where(np.isfinite(magnitudes), magnitudes, 0).max(axis=1, initial=0)
    exponents[rows] = np.where(largest > 0, np.round(np.frexp(largest)[1] / step) * step, 0)
    return exponents


@documented_like(scale_exponents)
def data_exponent(X):
    """One exponent for all samples, that of the largest.

    Returns
    -------
    int
    """
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
        One for all values, or one per sample.

    Returns
    -------
    ndarray, Tensor or float
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
    # The power itself may exceed the range of the dtype even if the result does not.
    half = exponents // 2
    for part in (half, exponents - half):
        factors = values.new_tensor(np.ldexp(1.0, part))
        values = values * (factors.reshape(-1, *[1] * (values.ndim - 1)) if exponents.ndim else factors)
    return values


@documented_like(scale_exponents)
def groups_by_exponent(X):
    """Pairs of an exponent and the samples that have it; a slice of all samples if there is only one exponent.

    For solvers with one penalty or tolerance for all samples: each group is solved in its own unit.

    Returns
    -------
    list of (int, slice or ndarray of int)
    """
    exponents = scale_exponents(X)
    if not exponents.any():
        return [(0, slice(None))]
    distinct = np.unique(exponents)
    if len(distinct) == 1:
        return [(int(distinct[0]), slice(None))]
    return [(int(exponent), np.flatnonzero(exponents == exponent)) for exponent in distinct]

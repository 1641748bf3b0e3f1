"""The pursuit that a `ConvSparseCoder` is told to use."""

import math
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skrobust.pursuits import convolutional_basis_pursuit, convolutional_omp, convolutional_thresholding


def check_device(device):
    """Refuse devices that torch does not know, or does not have here."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"device must be None or a device of torch that is there, got {device!r}: {error}") from error


def n_atoms_wanted(coder):
    """Atoms of each image, for matching pursuit."""
    count = coder.n_nonzero_coefs
    if count is None or (isinstance(count, Real) and not isinstance(count, Integral)):
        # 0.29 * 100 is 28.999…: the fraction that the user wrote is meant.
        count = max(1, math.floor((0.1 if count is None else count) * coder.n_features_in_ * (1 + 1e-12)))
    return int(count)


def pursue(coder, values):
    """Codes of arrays or tensors on the grid of a fitted coder, without a gradient."""
    operator, shared = coder._operator, {"n_jobs": coder.n_jobs}
    if coder.pursuit == "thresholding":
        return convolutional_thresholding(values, operator, coder.alpha, positive=coder.positive, **shared)
    if coder.pursuit == "omp":
        return convolutional_omp(values, operator, n_nonzero_coefs=n_atoms_wanted(coder), **shared)
    with warnings.catch_warnings():
        if values.dtype == np.float32:  # a gap below its rounding is not asked of float32
            warnings.simplefilter("ignore" if coder.tol < 1e-5 else "default", ConvergenceWarning)
        return convolutional_basis_pursuit(
            values,
            operator,
            coder.alpha,
            positive=coder.positive,
            tol=coder.tol,
            max_iter=coder.max_iter,
            **shared,
        ).codes

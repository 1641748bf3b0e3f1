"""What every iterative pursuit finds, and its warning."""

from typing import Any, NamedTuple

import numpy as np

from skrobust.signals import warn_not_converged


class Result(NamedTuple):
    """What an iterative pursuit found: its return value with ``return_result=True``.

    Attributes
    ----------
    codes : ndarray, sparse array or Tensor of shape ``(n_samples, *code_shape)``, or list of one for each layer
        What the pursuit returns by itself without ``return_result``.
    objective : ndarray of shape (n_samples,), or (n_samples, n_layers) for a cascade, or None
        For greedy pursuits half the squared norm of the residual. None where it is not computed.
    gap : ndarray of the same shape, or None
        Duality gap: the objective lies at most this much above its minimum, up to rounding. NaN for a penalty whose
        dual is not known, None for greedy pursuits and after a fixed number of steps.
    n_iter : ndarray of int of the same shape
        Sweeps or steps; for greedy pursuits selected atoms.
    converged : ndarray of bool of the same shape, or None
        Whether ``tol`` was reached: by the relative duality gap, by the steps for a penalty without known dual, by the
        norm of the residual for greedy pursuits. None without `tol`.
    """

    codes: Any
    objective: np.ndarray | None
    gap: np.ndarray | None
    n_iter: np.ndarray
    converged: np.ndarray | None


def warn_if_not_converged(result, tol, max_iter, *, stacklevel=3):
    """Tell how many samples did not reach `tol`.

    Warns
    -----
    ConvergenceWarning
    """
    missed = ~result.converged
    if not missed.any():
        return
    gaps, objectives = result.gap[missed], result.objective[missed]
    largest = (gaps / np.maximum(objectives, np.finfo(float).tiny)).max()
    short = f"a relative duality gap above tol={tol:g} (largest {largest:.1e})"
    if np.isnan(largest):  # a penalty whose dual is not known
        short = f"steps that change a coefficient by more than tol={tol:g} of the largest one"
    warn_not_converged(
        int(missed.reshape(len(missed), -1).any(axis=1).sum()),
        len(missed),
        f"ended at max_iter={max_iter}, or at their precision, with {short}. Raise max_iter, alpha or tol, or use "
        "float64.",
        stacklevel=stacklevel,
    )

"""The result of a pursuit, and the warning if it did not converge."""

from typing import Any, NamedTuple

import numpy as np

from skrobust.signals import warn_not_converged


class Result(NamedTuple):
    """The return value of a pursuit with ``return_result=True``.

    Attributes
    ----------
    codes : ndarray, sparse array or Tensor of shape ``(n_samples, *code_shape)``, or list of one for each layer
        The return value without ``return_result``.
    objective : ndarray of shape (n_samples,), or (n_samples, n_layers) for a cascade, or None
        For greedy pursuits half the squared norm of the residual. None where it is not computed.
    gap : ndarray of the same shape, or None
        Duality gap: the objective lies at most this much above its minimum, up to rounding. NaN for a penalty whose
        dual is not known, None for greedy pursuits and after a fixed number of steps.
    n_iter : ndarray of int of the same shape
        Number of sweeps or steps; for greedy pursuits, number of selected atoms.
    converged : ndarray of bool of the same shape, or None
        Whether ``tol`` was reached: by the relative duality gap; for a penalty without known dual, by the size of a
        step; for greedy pursuits, by the norm of the residual. None without `tol`.
    """

    codes: Any
    objective: np.ndarray | None
    gap: np.ndarray | None
    n_iter: np.ndarray
    converged: np.ndarray | None


def warn_if_not_converged(result, tol, max_iter, *, stacklevel=3):
    """Warn, with their number, of samples that did not reach `tol`.

    Warns
    -----
    ConvergenceWarning
    """
    is_short = ~result.converged
    if not is_short.any():
        return
    gaps, objectives = result.gap[is_short], result.objective[is_short]
    largest = (gaps / np.maximum(objectives, np.finfo(float).tiny)).max()
    reason = f"a relative duality gap above tol={tol:g} (largest {largest:.1e})"
    if np.isnan(largest):  # a penalty whose dual is not known
        reason = f"steps that change a coefficient by more than tol={tol:g} of the largest one"
    warn_not_converged(
        int(is_short.reshape(len(is_short), -1).any(axis=1).sum()),
        len(is_short),
        f"ended at max_iter={max_iter}, or at their precision, with {reason}. Raise max_iter, alpha or tol, or use "
        "float64.",
        stacklevel=stacklevel,
    )

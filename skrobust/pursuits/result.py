"""What every iterative pursuit returns, and its warning."""

from typing import Any, NamedTuple

import numpy as np

from skrobust.signals import tell_of_shortfall


class Result(NamedTuple):
    """What an iterative pursuit found.

    Attributes
    ----------
    codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``, or list of one for each layer
    objective : ndarray of shape (n_samples,), or (n_samples, n_layers) for a cascade, or None
        None where a fixed number of steps does not compute it.
    gap : ndarray of the same shape, or None
        Duality gap: the objective lies at most this much above its minimum, up to rounding. NaN for a penalty whose
        dual is not known, None after a fixed number of steps.
    n_iter : ndarray of int of the same shape
    converged : ndarray of bool of the same shape, or None
        Whether the relative duality gap reached ``tol`` (or, without a dual, whether the steps became that small).
    """

    codes: Any
    objective: np.ndarray | None
    gap: np.ndarray | None
    n_iter: np.ndarray
    converged: np.ndarray | None

    def relative_gap(self):
        """Largest gap relative to its objective."""
        return float((self.gap / np.maximum(self.objective, np.finfo(float).tiny)).max(initial=0))


def warn_if_not_converged(result, tol, max_iter, *, stacklevel=3):
    """Tell how many samples did not reach `tol`.

    Warns
    -----
    ConvergenceWarning
    """
    converged = result.converged.reshape(len(result.converged), -1).all(axis=1)
    largest = result.relative_gap()
    short = f"a relative duality gap above tol={tol:g} (largest {largest:.1e})"
    if np.isnan(largest):  # a penalty whose dual is not known
        short = f"steps that change a coefficient by more than tol={tol:g} of the largest one"
    tell_of_shortfall(
        int((~converged).sum()),
        len(converged),
        f"ended at max_iter={max_iter} with {short}. Raise max_iter, alpha or tol.",
        stacklevel=stacklevel,
    )

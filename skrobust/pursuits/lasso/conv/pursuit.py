"""Basis pursuit over convolutional dictionaries: input validation, choice of the solver, warnings."""

from numbers import Integral, Real

import numpy as np

from skrobust.pursuits.penalties import L1, resolve_penalty
from skrobust.pursuits.result import Result, warn_if_not_converged
from skrobust.pursuits.units import in_units
from skrobust.signals import batch_slices, is_tensor, times_power
from skrobust.signals.arrays import as_array, like

from .solvers import solve_arrays, solve_tensors


def convolutional_alpha_max(X, operator, *, penalty="l1", positive=False, weights=None, mask=None, n_jobs=None):
    """Smallest penalty at which the code of each signal is zero.

    For the l1 norm it is ``max_k |D_k^T x| / w_k``.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    penalty : str or Penalty, default="l1"
        As for `convolutional_basis_pursuit`.
    positive : bool, default=False
    weights : array-like of shape (n_components,) or None, default=None
    mask : array-like or None, default=None
    n_jobs : int or None, default=None

    Returns
    -------
    ndarray of shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import convolutional_alpha_max
    >>> operator = ConvolutionalOperator(np.ones((1, 2, 1)), (4, 1))
    >>> convolutional_alpha_max(np.array([[[1.0], [2.0], [0.0], [0.0]]]), operator)
    array([3.])
    """
    X, _ = checked_signals(X, operator, mask)
    penalty = _checked_penalty(penalty, positive, weights, operator)
    tops = np.empty(len(X))
    for batch in batch_slices(len(X), 2 * int(np.prod(operator.code_shape)) * _itemsize(X)):
        tops[batch] = as_array(penalty.alpha_max(operator.analyze(X[batch], n_jobs=n_jobs)))
    return tops


def convolutional_basis_pursuit(
    X,
    operator,
    alpha,
    *,
    penalty="l1",
    positive=False,
    weights=None,
    mask=None,
    init=None,
    solver="auto",
    tol=1e-3,
    max_iter=1000,
    n_jobs=None,
):
    """Sparse codes by the convolutional LASSO.

    Each signal's code minimises ::

        1/2 ||mask * (x - D z)||^2 + alpha sum_k w_k ||z_k||_1

    or, with another `penalty` g, ``1/2 ||mask * (x - D z)||^2 + alpha g(z)``. It stops at a relative duality gap,
    ``gap <= tol * objective``, which certifies that the objective is within `gap` of its minimum.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    alpha : float
        Weight of the penalty, > 0.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
        Coordinate descent supports "l1" with one weight per atom; other penalties use "fista".
    positive : bool, default=False
        Codes >= 0.
    weights : array-like of shape (n_components,) or None, default=None
        Relative penalties of the atoms, > 0, for "l1"; None: 1. Penalties that differ by position:
        ``penalty=L1(weights)``.
    mask : array-like of shape signal_shape, signal_shape[:-1] or either behind ``n_samples``, or None, default=None
        True (or 1) where a value is known, False (or 0) where it is missing. X may hold anything there, NaN included.
    init : array-like or Tensor of shape ``(n_samples, *code_shape)`` or None, default=None
        Starting point, such as the codes at a larger alpha.
    solver : {"auto", "descent", "fista", "admm"}, default="auto"
        "descent": coordinate descent on a working set, for sparse codes under "l1", on the CPU. "fista": accelerated
        proximal gradient with adaptive restart. "admm": alternating directions in the frequency domain, on the CPU, for
        dense codes at small penalties. "auto" starts with descent where it applies. It switches to
        fista if codes become dense (more than half as many nonzero coefficients as values, or as coefficients) and
        for operators with ``evaluation="fft"``. If alpha is below 0.03 `convolutional_alpha_max`, it switches to admm
        instead, also if descent ends far from `tol`; not with `init`. On other devices it uses fista.
    tol : float, default=1e-3
        Relative duality gap. 0: exactly `max_iter` sweeps or steps.
    max_iter : int, default=1000
        Maximum number of sweeps or steps.
    n_jobs : int or None, default=None
        Number of threads. The result does not depend on it.

    Returns
    -------
    Result
        Codes of shape ``(n_samples, *code_shape)``, objectives, duality gaps, sweeps and whether `tol` was reached.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    Warns
    -----
    ConvergenceWarning
        If a gap is not reached within `max_iter`.

    Notes
    -----
    The result for tensors has no gradient; see `implicit_pursuit` and `unrolled_pursuit`.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import convolutional_basis_pursuit
    >>> operator = ConvolutionalOperator(np.array([[[1.0], [2.0], [1.0]]]) / 6**0.5, (8, 1))
    >>> X = np.zeros((1, 8, 1))
    >>> X[0, 2:5, 0] = [1, 2, 1]
    >>> result = convolutional_basis_pursuit(X, operator, alpha=0.5)
    >>> result.codes[0, :, 0].round(3)
    array([0.   , 0.   , 0.   , 1.949, 0.   , 0.   , 0.   , 0.   ])
    >>> bool(result.gap[0] <= 1e-3 * result.objective[0])
    True
    """
    if not (isinstance(alpha, Real) and np.isfinite(alpha) and alpha > 0):
        raise ValueError(f"alpha must be a number > 0, got {alpha!r}.")
    if solver not in ("auto", "descent", "fista", "admm"):
        raise ValueError(f"solver must be 'auto', 'descent', 'fista' or 'admm', got {solver!r}.")
    if not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be a number >= 0, got {tol!r}.")
    if not (isinstance(max_iter, Integral) and max_iter >= 1):
        raise ValueError(f"max_iter must be an integer >= 1, got {max_iter!r}.")
    penalty = _checked_penalty(penalty, positive, weights, operator)
    by_atom = _weights_of_atoms(penalty, operator)
    if solver == "descent" and by_atom is None:
        raise ValueError(
            f"solver='descent' needs penalty='l1' with one weight per atom, got {penalty!r}: use solver='fista'."
        )
    X, known = checked_signals(X, operator, mask)
    init = None if init is None else _checked_init(init, (len(X), *operator.code_shape), X)
    if len(X) == 0:
        empty, no = np.empty(0), np.empty(0, dtype=bool)
        nothing = Result(like(np.zeros((0, *operator.code_shape)), X), empty, empty, empty.astype(np.int64), no)
        return nothing
    on_tensors = is_tensor(X) and (X.device.type != "cpu" or solver == "fista" or by_atom is None)
    if on_tensors and solver in ("descent", "admm"):
        raise ValueError(f"solver={solver!r} runs on the CPU only; use solver='fista' on other devices.")
    if is_tensor(operator.components) and not on_tensors:
        operator = operator.with_components(operator.components.detach().cpu().numpy())
    values, known, init = (
        v.detach() if is_tensor(v) and on_tensors else v.detach().numpy() if is_tensor(v) else v
        for v in (X, known, init)
    )

    def solve(values, exponent, rows):
        mask = known[rows] if known is not None and known.ndim == X.ndim and len(known) == len(X) else known
        begin = None if init is None else times_power(init[rows], -exponent)
        strength = times_power(float(alpha), -exponent)
        if on_tensors:
            return solve_tensors(values, operator, strength, penalty, mask, begin, tol, max_iter)
        return solve_arrays(
            values, operator, strength, penalty, by_atom, mask, begin, tol, max_iter, solver=solver, n_jobs=n_jobs
        )

    result = in_units(solve, values) if penalty.is_norm else solve(values, 0, slice(None))
    if is_tensor(X) and not on_tensors:
        result = result._replace(codes=X.new_tensor(result.codes))
    warn_if_not_converged(result, tol, max_iter)
    return result


def in_floats(X):
    """float32 arrays and tensors unchanged, others as float64."""
    if is_tensor(X):
        import torch

        return X if X.dtype in (torch.float32, torch.float64) else X.double()
    X = np.asarray(X)
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)


def checked_signals(X, operator, mask=None):
    """X as floats with masked values set to 0, and the mask as 0 and 1, or None; X must fit the operator."""
    X = in_floats(X)
    if tuple(X.shape[1:]) != tuple(operator.signal_shape):
        raise ValueError(
            f"X must have shape (n_samples, {', '.join(map(str, operator.signal_shape))}), got {tuple(X.shape)}."
        )
    counted = checked_mask(mask, X)
    if counted is not None:  # not a product: missing values may be NaN
        X = X.where(counted != 0, X.new_zeros(())) if is_tensor(X) else np.where(counted != 0, X, X.dtype.type(0))
    if not (bool(X.isfinite().all()) if is_tensor(X) else np.isfinite(X).all()):
        where = "" if mask is None else " at unmasked positions"
        raise ValueError(f"X contains NaN or infinity{where}. Mark missing values in mask.")
    return X, counted


def _checked_init(init, shape, X):
    """Starting point in the type of X: array or tensor."""
    if is_tensor(X):
        import torch

        init = torch.as_tensor(init).detach().to(X)
    else:
        init = init.detach().cpu().numpy() if is_tensor(init) else np.asarray(init)
    if tuple(init.shape) != shape:
        raise ValueError(f"init must have shape {shape}, got {tuple(init.shape)}.")
    if not (bool(init.isfinite().all()) if is_tensor(init) else np.isfinite(init).all()):
        raise ValueError("init contains NaN or infinity.")
    return init


def _itemsize(X):
    return X.element_size() if is_tensor(X) else X.itemsize


def _checked_penalty(penalty, positive, weights, operator):
    if weights is not None:
        n_components = operator.code_shape[-1]
        weights = np.asarray(weights, dtype=np.float64)
        if weights.shape != (n_components,) or not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError(f"weights must be {n_components} numbers > 0, one per atom, got {weights!r}.")
    return resolve_penalty(penalty, positive=positive, weights=weights)


def _weights_of_atoms(penalty, operator):
    """One weight per atom if coordinate descent supports this penalty, else None."""
    n_components = operator.code_shape[-1]
    if type(penalty) is not L1:
        return None
    if penalty.weights is None:
        return np.ones(n_components)
    weights = as_array(penalty.weights)
    return weights if weights.shape == (n_components,) else None


def checked_mask(mask, X):
    """Mask as 0 and 1 in the dtype of X, of a shape that broadcasts to it."""
    if mask is None:
        return None
    values = mask.detach().cpu().numpy() if is_tensor(mask) else np.asarray(mask)
    n_samples, *signal_shape = X.shape
    one, each = (*signal_shape[:-1], 1), (n_samples, *signal_shape[:-1], 1)
    if values.shape in (one[:-1], each[:-1]):
        values = values[..., None]
    if values.shape not in (one, tuple(signal_shape), each, tuple(X.shape)):
        raise ValueError(
            f"mask of shape {values.shape} matches neither one signal, {tuple(signal_shape)}, nor X, {tuple(X.shape)}; "
            "the channel axis may be omitted."
        )
    if not np.isin(values, (0, 1)).all():
        raise ValueError("mask must hold 0 (missing) and 1 (known), or False and True.")
    return like(values.astype(np.float64), X)

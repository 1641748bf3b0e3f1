"""Basis pursuit over convolutional dictionaries: the penalty is checked, a solver chosen, the gap reported."""

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from skrobust.signals import batch_slices, groups_by_exponent, is_tensor, tell_of_shortfall, times_power

from ._conv_operator import ConvolutionalOperator
from ._conv_solvers import solve_arrays, solve_tensors


class PursuitResult(NamedTuple):
    """What `convolutional_basis_pursuit` found.

    Attributes
    ----------
    codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``
    gap : ndarray of shape (n_samples,)
        Duality gap: the objective lies at most so much above its minimum, to within rounding.
    objective : ndarray of shape (n_samples,)
    n_iter : ndarray of int of shape (n_samples,)
        Sweeps over the working set, or proximal gradient steps.
    """

    codes: Any
    gap: np.ndarray
    objective: np.ndarray
    n_iter: np.ndarray


def convolutional_alpha_max(X, operator, *, positive=False, weights=None, mask=None, n_jobs=None):
    """Smallest penalty at which the code of each signal is zero.

    It is ``max_k |D_k^T x| / w_k``.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
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
    >>> from skrobust.pursuits import ConvolutionalOperator, convolutional_alpha_max
    >>> operator = ConvolutionalOperator(np.ones((1, 2, 1)), (4, 1))
    >>> convolutional_alpha_max(np.array([[[1.0], [2.0], [0.0], [0.0]]]), operator)
    array([3.])
    """
    X, _ = checked_signals(X, operator, mask)
    weights = _checked_weights(weights, operator)
    tops = np.empty(len(X))
    for batch in batch_slices(len(X), 2 * int(np.prod(operator.code_shape)) * _itemsize(X)):
        correlations = operator.analyze(X[batch]) if is_tensor(X) else operator.analyze(X[batch], n_jobs=n_jobs)
        scaled = correlations / _like(weights, X)
        flat = (scaled if positive else abs(scaled)).reshape(len(scaled), -1)
        tops[batch] = flat.amax(1).detach().cpu().numpy() if is_tensor(X) else flat.max(axis=1)
    return tops.clip(0)


def convolutional_basis_pursuit(
    X,
    operator,
    alpha,
    *,
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

    to a relative duality gap: ``gap <= tol * objective``, so the objective is certified to lie within that of its
    minimum.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    alpha : float
        Weight of the l1 norm, > 0.
    positive : bool, default=False
        Codes >= 0.
    weights : array-like of shape (n_components,) or None, default=None
        Relative penalties of the atoms, > 0; None: 1.
    mask : array-like of shape signal_shape, signal_shape[:-1] or either behind ``n_samples``, or None, default=None
        True (or 1) where a value is known, False (or 0) where it is missing, whatever X has there, NaN included.
    init : array-like or Tensor of shape ``(n_samples, *code_shape)`` or None, default=None
        Where to begin, such as the codes at a larger alpha.
    solver : {"auto", "descent", "fista", "admm"}, default="auto"
        "descent": coordinate descent on a working set, for sparse codes, on the CPU. "fista": accelerated proximal
        gradient with adaptive restart. "admm": alternating directions in the frequency domain, on the CPU, for dense
        codes at small penalties. "auto": descent; then, where codes become dense (more than half as many coefficients
        as there are values, or half of all) and for operators with ``evaluation="fft"``, fista, or admm where alpha is
        below 0.03 `convolutional_alpha_max`; admm there also where descent ends far from `tol`. On other devices
        fista.
    tol : float, default=1e-3
        Relative duality gap. 0: `max_iter` sweeps or steps, however small the gap.
    max_iter : int, default=1000
        Sweeps or steps.
    n_jobs : int or None, default=None
        Threads. The result does not depend on it.

    Returns
    -------
    PursuitResult
        ``codes``, ``gap``, ``objective`` and ``n_iter``.

    Raises
    ------
    ValueError
        If a parameter does not fit, naming it.

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
    >>> from skrobust.pursuits import ConvolutionalOperator, convolutional_basis_pursuit
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
    weights = _checked_weights(weights, operator)
    X, counted = checked_signals(X, operator, mask)
    init = None if init is None else _checked_init(init, (len(X), *operator.code_shape), X)
    if len(X) == 0:
        codes = np.zeros((0, *operator.code_shape), dtype=np.float64)
        return PursuitResult(_like(codes, X), np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    if is_tensor(X) and not (X.device.type == "cpu" and solver != "fista"):
        if solver in ("descent", "admm"):
            raise ValueError(f"solver={solver!r} runs on the CPU only; use solver='fista' for tensors elsewhere.")
        arrays = X.detach(), counted, init
        result = _in_units(solve_tensors, *arrays, float(alpha), operator, positive, weights, tol, max_iter)
    else:
        if is_tensor(operator.components):
            operator = ConvolutionalOperator(
                operator.components.detach().cpu().numpy(),
                operator.signal_shape,
                padding=operator.padding,
                stride=operator.stride,
                evaluation=operator.evaluation,
            )
        arrays = [v.detach().numpy() if is_tensor(v) else v for v in (X, counted, init)]
        result = _in_units(
            solve_arrays,
            *arrays,
            float(alpha),
            operator,
            positive,
            weights,
            tol,
            max_iter,
            solver=solver,
            n_jobs=n_jobs,
        )
        if is_tensor(X):
            result = result._replace(codes=X.new_tensor(result.codes))
    short = int((result.gap > tol * result.objective).sum())
    if short:
        worst = float((result.gap / np.maximum(result.objective, np.finfo(float).tiny)).max())
        tell_of_shortfall(
            short,
            len(X),
            f"ended at max_iter={max_iter} with a relative duality gap above tol={tol:g} (largest {worst:.1e}). "
            "Raise max_iter, alpha or tol.",
        )
    return result


def _in_units(solve, X, mask, init, alpha, *settings, **more):
    """Solve in units of powers of two near the size of the signals, those of one size together."""
    groups = groups_by_exponent(X)
    if len(groups) == 1:
        return _in_unit(solve, X, mask, init, alpha, groups[0][0], *settings, **more)
    codes = None
    gaps, objectives, counts = np.empty(len(X)), np.empty(len(X)), np.empty(len(X), dtype=np.int64)
    for exponent, rows in groups:
        part = None if mask is None else mask[rows] if mask.ndim == X.ndim else mask
        begin = None if init is None else init[rows]
        found = _in_unit(solve, X[rows], part, begin, alpha, exponent, *settings, **more)
        if codes is None:
            shape = len(X), *found.codes.shape[1:]
            codes = X.new_empty(shape) if is_tensor(X) else np.empty(shape, dtype=X.dtype)
        codes[rows], gaps[rows], objectives[rows], counts[rows] = found
    return PursuitResult(codes, gaps, objectives, counts)


def _in_unit(solve, X, mask, init, alpha, exponent, *settings, **more):
    X, init = (values if values is None else times_power(values, -exponent) for values in (X, init))
    codes, *sizes, counts = solve(X, mask, init, times_power(alpha, -exponent), *settings, **more)
    return PursuitResult(times_power(codes, exponent), *(times_power(values, 2 * exponent) for values in sizes), counts)


def in_floats(X):
    """Array or tensor as it is in float32, else in float64."""
    if is_tensor(X):
        import torch

        return X if X.dtype in (torch.float32, torch.float64) else X.double()
    X = np.asarray(X)
    return X if X.dtype in (np.float32, np.float64) else X.astype(np.float64)


def checked_signals(X, operator, mask=None):
    """X in floats, zero where it is masked, and the mask as 0 and 1; None stays None.

    Raises
    ------
    ValueError
        If X does not fit the operator, or is not finite where it counts.
    """
    X = in_floats(X)
    if tuple(X.shape[1:]) != tuple(operator.signal_shape):
        raise ValueError(
            f"X must have shape (n_samples, {', '.join(map(str, operator.signal_shape))}), got {tuple(X.shape)}."
        )
    counted = checked_mask(mask, X)
    if counted is not None:  # no product: NaN may stand for what is missing
        X = X.where(counted != 0, X.new_zeros(())) if is_tensor(X) else np.where(counted != 0, X, X.dtype.type(0))
    if not (bool(X.isfinite().all()) if is_tensor(X) else np.isfinite(X).all()):
        where = "" if mask is None else " where mask has it known"
        raise ValueError(f"X contains NaN or infinity{where}. Mark what is missing in mask.")
    return X, counted


def _checked_init(init, shape, X):
    """Where to begin, as X is: an array or a tensor."""
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


def _like(values, X):
    return X.new_tensor(values) if is_tensor(X) else np.asarray(values, dtype=X.dtype)


def _checked_weights(weights, operator):
    n_components = operator.code_shape[-1]
    if weights is None:
        return np.ones(n_components)
    weights = np.asarray(weights, dtype=np.float64)
    if weights.shape != (n_components,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"weights must be {n_components} numbers > 0, one for each atom, got {weights!r}.")
    return weights


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
            f"mask of shape {values.shape} fits neither one signal, {tuple(signal_shape)}, nor all, {tuple(X.shape)}; "
            "the channels may be left out."
        )
    if not np.isin(values, (0, 1)).all():
        raise ValueError("mask must hold 0 (missing) and 1 (known), or False and True.")
    return _like(values.astype(np.float64), X)

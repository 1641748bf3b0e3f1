"""Basis pursuit over convolutional dictionaries: the penalty is checked, a solver chosen, the gap reported."""

from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from skrobust.signals import batch_slices, is_tensor, kernel_threads, tell_of_shortfall

from ._conv_fista import Problem, fista
from ._conv_operator import ConvolutionalOperator, flat_rows
from ._threads import on_threads, threads_for

DENSE_SHARE = 0.5
"""Share of coefficients other than zero from which proximal gradient is faster than coordinate descent."""

MOST_CANDIDATES = 1 << 22
"""Candidates for which there is room in any case: what is not used of it costs nothing."""

CACHED_BYTES = 1 << 21
"""Codes that proximal gradient treats at a time: they stay in the cache."""


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
    solver : {"auto", "descent", "fista"}, default="auto"
        "descent": coordinate descent on a working set, for sparse codes, on the CPU. "fista": accelerated proximal
        gradient with adaptive restart. "auto": descent, and fista for the signals more than half of whose
        coefficients become nonzero, for operators with ``evaluation="fft"`` and on other devices.
    tol : float, default=1e-3
        Relative duality gap.
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
    if solver not in ("auto", "descent", "fista"):
        raise ValueError(f"solver must be 'auto', 'descent' or 'fista', got {solver!r}.")
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
        if solver == "descent":
            raise ValueError("solver='descent' runs on the CPU only; use solver='fista' for tensors elsewhere.")
        result = _on_tensors(X, operator, alpha, positive, weights, counted, init, tol, max_iter)
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
        result = _on_arrays(arrays[0], operator, alpha, positive, weights, *arrays[1:], solver, tol, max_iter, n_jobs)
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


def _on_arrays(X, operator, alpha, positive, weights, mask, init, solver, tol, max_iter, n_jobs):
    n_samples = len(X)
    if init is None:
        codes = np.zeros((n_samples, *operator.code_shape), dtype=X.dtype)
    else:
        codes = np.array(init, dtype=X.dtype, order="C")
        if positive:
            np.maximum(codes, 0, out=codes)
    gaps, objectives = np.full(n_samples, np.inf), np.empty(n_samples)
    counts = np.zeros(n_samples, dtype=np.int64)
    dense = np.arange(n_samples)
    # However large the atoms: sparse codes need few of their products.
    if solver == "descent" or (solver == "auto" and operator.evaluation != "fft"):
        share = 1.0 if solver == "descent" else DENSE_SHARE
        report = _descend(
            X, operator, alpha, positive, weights, mask, codes, init is not None, tol, max_iter, share, n_jobs
        )
        gaps, objectives, counts = report[:, 0].copy(), report[:, 1].copy(), report[:, 2].astype(np.int64)
        dense = np.flatnonzero(np.isinf(gaps))
    penalties = (alpha * weights).astype(X.dtype)
    if len(dense):
        each = max(1, CACHED_BYTES // codes[0].nbytes)
        threaded = _Threaded(operator, n_jobs)
        for first in range(0, len(dense), each):
            rows = dense[first : first + each]
            counted = None if mask is None else np.broadcast_to(mask, X.shape)[rows]
            problem = Problem(X[rows], threaded, penalties, counted, positive, operator.geometry)
            codes[rows], gaps[rows], objectives[rows], steps = fista(problem, codes[rows], tol=tol, max_iter=max_iter)
            counts[rows] += steps
    return PursuitResult(codes, gaps, objectives, counts)


def _descend(X, operator, alpha, positive, weights, mask, codes, warm, tol, max_iter, share, n_jobs):
    """Coordinate descent, into `codes`; gap, objective and sweeps of each signal, infinite where it is too dense."""
    from ._conv_bands import band_parts
    from ._conv_descent import descend_signals

    plan, tables, padded, rates = operator.descent_tables(weights, X.dtype)
    n_samples = len(X)
    flat = flat_rows(X)
    if mask is None:
        masks = np.empty((n_samples, 0), dtype=X.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, X.shape))
    report = np.empty((n_samples, 4))
    room = min(codes[0].size, max(MOST_CANDIDATES, int(share * codes[0].size))) + 64, int(share * codes[0].size) + 64
    maps = codes.reshape(n_samples, -1, codes.shape[-1])
    settings = warm, tables, plan, padded, rates, float(alpha), bool(positive), float(tol), int(max_iter)
    parts = band_parts(operator.geometry)
    with kernel_threads(n_jobs):
        if parts is None:
            # At least two scans of all correlations.
            how = {"n_pieces": n_samples, "work": 2 * operator.products(codes)}
            on_threads(descend_signals, flat, masks, maps, *settings, room, report, **how)
        else:
            for n in range(n_samples):
                report[n] = _descend_in_bands(flat[n], masks[n], maps[n], *settings, room, parts)
    return report


def _descend_in_bands(x, mask, code, warm, tables, plan, weights, rates, alpha, positive, tol, most, room, parts):
    """Gap, objective, sweeps and ending of one large signal, several threads on it."""
    from ._conv_bands import DONE, ENDING, GAP, OBJECTIVE, STATE_SIZE, descend_in_bands
    from ._conv_kernels import lay_signal
    from ._conv_plan import BLOCK, lanes_of

    n_parts, dtype = len(parts), x.dtype
    n_threads = threads_for(n_parts // 2)
    shown, signal = np.zeros((2, plan.rows * plan.pitch), dtype=dtype)
    lay_signal(np.ones_like(x) if mask.size == 0 else mask, shown, plan)
    lay_signal(x, signal, plan)
    signal *= shown
    most_rows = int(np.diff(parts, axis=1).max())
    of_part = min(4 * room[0] // n_parts, most_rows * plan.code_width * plan.atoms) + 64
    kinds = [np.int64, np.int64, np.int64, np.int8, dtype, dtype, dtype]
    state = np.zeros(STATE_SIZE)
    on_threads(
        descend_in_bands,
        signal,
        shown,
        np.empty_like(signal),
        np.zeros_like(signal),
        code,
        tables,
        plan,
        weights,
        rates,
        alpha,
        positive,
        mask.size > 0,
        warm,
        tol,
        most,
        parts,
        tuple(np.empty((n_parts, of_part), dtype=kind) for kind in kinds),
        np.empty((n_threads, of_part), dtype=np.int64),
        np.zeros(len(code) * (plan.padded_atoms // lanes_of(dtype)), dtype=np.uint16),
        np.empty(len(code), dtype=dtype),
        room[1],
        np.zeros((n_threads, (plan.code_width + BLOCK) * plan.padded_atoms), dtype=dtype),
        np.zeros(n_parts, dtype=np.int64),
        np.zeros(n_parts, dtype=dtype),
        state,
        np.zeros(1, dtype=np.int64),
        n_threads,
        n_pieces=n_parts // 2,
    )
    return state[GAP], state[OBJECTIVE], state[DONE], state[ENDING]


def _on_tensors(X, operator, alpha, positive, weights, mask, init, tol, max_iter):
    import torch

    with torch.no_grad():
        codes = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
        values = X.detach()
        each = len(X) if X.device.type != "cpu" else max(1, CACHED_BYTES // (codes[0].numel() * codes.element_size()))
        gaps, objectives = np.empty(len(X)), np.empty(len(X))
        counts = np.empty(len(X), dtype=np.int64)
        solved = []
        for first in range(0, len(X), each):
            rows = slice(first, first + each)
            counted = None if mask is None else mask.expand(X.shape)[rows]
            penalties = _like(alpha * weights, X)
            problem = Problem(values[rows], operator, penalties, counted, positive, operator.geometry)
            part, gaps[rows], objectives[rows], counts[rows] = fista(problem, codes[rows], tol=tol, max_iter=max_iter)
            solved.append(part)
        return PursuitResult(torch.cat(solved), gaps, objectives, counts)


class _Threaded:
    """An operator on arrays with a bound on its threads."""

    def __init__(self, operator, n_jobs):
        self.operator, self.n_jobs = operator, n_jobs
        self.lipschitz = operator.lipschitz

    def synthesize(self, codes):
        return self.operator.synthesize(codes, n_jobs=self.n_jobs)

    def analyze(self, X):
        return self.operator.analyze(X, n_jobs=self.n_jobs)


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

"""Greedy convolutional pursuits: orthogonal matching pursuit with a bound on each stripe, and thresholding."""

from numbers import Integral, Real

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.operators.conv.geometry import overlap_distances, stripe_counts
from skrobust.operators.conv.operator import ConvolutionalOperator, flat_rows
from skrobust.pursuits.lasso.conv.pursuit import checked_signals
from skrobust.pursuits.penalties.l1 import shrink
from skrobust.pursuits.result import Result
from skrobust.signals import (
    batch_slices,
    groups_by_exponent,
    is_tensor,
    kernel_threads,
    times_power,
    warn_not_converged,
)


def convolutional_thresholding(X, operator, threshold, *, positive=False, stripe_sparsity=None, n_jobs=None):
    """Soft thresholding of the correlations: ``S(D^T x)``, one layer of a convolutional network.

    With `stripe_sparsity`, atoms are kept in decreasing order of the excess of their correlation over the threshold,
    until the next one would exceed the limit of a stripe. All thresholds of a signal are raised by the excess of that
    atom.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    threshold : float, or array-like or Tensor of shape (n_components,)
        >= 0. A tensor (a trained parameter) is not checked.
    positive : bool, default=False
        Keep positive correlations only: a rectified linear unit of bias ``-threshold``.
    stripe_sparsity : int or None, default=None
        Maximum number of atoms in a stripe, as for `convolutional_omp`.
    n_jobs : int or None, default=None

    Returns
    -------
    ndarray or Tensor of shape ``(n_samples, *code_shape)``
        Differentiable for tensors.

    Raises
    ------
    ValueError
        If `threshold` or `stripe_sparsity` is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import convolutional_thresholding
    >>> operator = ConvolutionalOperator(np.ones((1, 1, 1)), (3, 1))
    >>> convolutional_thresholding(np.array([[[3.0], [-3.0], [1.0]]]), operator, 2.0).ravel()
    array([ 1., -1.,  0.])
    """
    _check_at_least_one("stripe_sparsity", stripe_sparsity)
    if not is_tensor(threshold):
        threshold = np.asarray(threshold, dtype=np.float64)
        if threshold.shape not in ((), operator.code_shape[-1:]) or not (threshold >= 0).all():
            raise ValueError(
                f"threshold must be a number >= 0, or {operator.code_shape[-1]} of them, one per atom, got "
                f"{threshold!r}."
            )
    if is_tensor(X):
        correlations = operator.analyze(X)
        threshold = threshold if is_tensor(threshold) else correlations.new_tensor(threshold)
    else:
        correlations = operator.analyze(X, n_jobs=n_jobs)
        threshold = np.asarray(threshold, dtype=correlations.dtype)
    if stripe_sparsity is None or len(X) == 0:
        return shrink(correlations, threshold, positive)
    excess = (correlations if positive else abs(correlations)) - threshold
    excess_of_next = _excess_of_next(excess, stripe_sparsity, operator.geometry)
    codes = shrink(correlations, threshold + excess_of_next, positive)
    return codes * (excess > excess_of_next)  # rounding of the sum may leave tiny values


def _excess_of_next(excess, stripe_sparsity, geometry):
    """Excess of the first correlation that would exceed the limit of a stripe; 0 if there is none."""
    array = (excess.detach().cpu().numpy() if is_tensor(excess) else excess).reshape(len(excess), -1)
    order = np.argsort(-array, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    # Bisection for the number of correlations that can be kept; the next one cannot.
    low, high = np.zeros(len(order), dtype=np.int64), (array > 0).sum(axis=1)
    while (low < high).any():
        n_kept = (low + high + 1) // 2
        n_atoms = (ranks < n_kept[:, None]).reshape(excess.shape).sum(axis=-1)
        fits = stripe_counts(n_atoms, geometry.kernel_size, geometry.stride, geometry.circle)
        fits = fits.reshape(len(n_atoms), -1).max(axis=1, initial=0) <= stripe_sparsity
        low, high = np.where(fits, n_kept, low), np.where(fits, high, n_kept - 1)
    rows, next_rank = np.arange(len(order)), np.minimum(low, order.shape[1] - 1)
    next_excess = excess.reshape(array.shape)[rows, order[rows, next_rank]].clip(0)
    next_excess[low > next_rank] = 0  # all are kept
    return next_excess.reshape(-1, *[1] * (excess.ndim - 1))


def _check_at_least_one(name, value):
    if value is not None and not (isinstance(value, Integral) and value >= 1):
        raise ValueError(f"{name} must be None or an integer >= 1, got {value!r}.")


def convolutional_omp(
    X,
    operator,
    *,
    n_nonzero_coefs=None,
    stripe_sparsity=None,
    tol=None,
    mask=None,
    return_result=False,
    n_jobs=None,
):
    """Convolutional orthogonal matching pursuit.

    Each step adds the shifted atom with the largest normalised correlation with the residual, and solves least
    squares on the support. With `stripe_sparsity` it is the pursuit of [1]_, whose guarantees use the local norm
    l0,inf: an atom is added only if no stripe exceeds `stripe_sparsity`, and the pursuit ends when none can be added.

    Parameters
    ----------
    X : ndarray of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
    n_nonzero_coefs : int or None, default=None
        Maximum number of atoms of a signal. None without the other two limits: a tenth of the values of a signal.
    stripe_sparsity : int or None, default=None
        Maximum number of atoms in a stripe: in all positions whose atoms overlap those at one position.
    tol : float or None, default=None
        Norm of the residual at which to stop.
    mask : array-like or None, default=None
        As for `convolutional_basis_pursuit`.
    return_result : bool, default=False
        Whether to return a `Result`: codes, half the squared norms of the residuals, numbers of atoms, and with `tol`
        whether it was reached.
    n_jobs : int or None, default=None

    Returns
    -------
    ndarray of shape ``(n_samples, *code_shape)``, or Result

    Raises
    ------
    ValueError
        If a parameter is invalid.

    Warns
    -----
    ConvergenceWarning
        If `tol` is not reached.

    References
    ----------
    .. [1] V. Papyan, J. Sulam, M. Elad, "Working locally thinking globally: theoretical guarantees for convolutional
       sparse coding", IEEE Trans. Signal Process. 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import convolutional_omp
    >>> operator = ConvolutionalOperator(np.array([[[1.0], [2.0]], [[2.0], [-1.0]]]), (6, 1))
    >>> codes = np.zeros((1, 6, 2))
    >>> codes[0, 1, 0], codes[0, 4, 1] = 3.0, -1.0
    >>> bool(np.allclose(convolutional_omp(operator.synthesize(codes), operator, n_nonzero_coefs=2), codes))
    True
    """
    if is_tensor(X):
        raise TypeError("convolutional_omp takes arrays; pass X.detach().cpu().numpy().")
    X, valid = checked_signals(X, operator, mask)
    _check_at_least_one("n_nonzero_coefs", n_nonzero_coefs)
    _check_at_least_one("stripe_sparsity", stripe_sparsity)
    if tol is not None and not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be None or a number >= 0, got {tol!r}.")
    n_values, n_codes = int(np.prod(operator.signal_shape)), int(np.prod(operator.code_shape))
    if n_nonzero_coefs is None:
        has_limit = stripe_sparsity is not None or tol is not None
        n_nonzero_coefs = n_values if has_limit else max(1, n_values // 10)
    codes = np.zeros((len(X), *operator.code_shape), dtype=X.dtype)
    residuals, n_atoms = np.empty(len(X)), np.empty(len(X), dtype=np.int64)
    for batch in batch_slices(len(X), 6 * n_codes * X.itemsize):
        values = X[batch]
        mask = None if valid is None else np.broadcast_to(valid, X.shape)[batch]
        for exponent, rows in groups_by_exponent(values):  # in units close to the size of the signals
            signals = times_power(values[rows], -exponent)
            batch_codes, report = (
                np.zeros((len(signals), *operator.code_shape), dtype=X.dtype),
                np.empty((len(signals), 2)),
            )
            _match_batch(
                signals,
                operator,
                min(n_nonzero_coefs, n_values, n_codes),
                stripe_sparsity or 0,
                times_power(float(tol or 0.0), -exponent),
                None if mask is None else mask[rows],
                batch_codes,
                report,
                n_jobs,
            )
            codes[batch][rows] = times_power(batch_codes, exponent)
            residuals[batch][rows] = times_power(np.sqrt(report[:, 0]), exponent)
            n_atoms[batch][rows] = report[:, 1]
    converged = None
    if tol is not None:
        converged = residuals <= tol * (1 + 1e-6)
        warn_not_converged(
            int((~converged).sum()),
            len(X),
            f"ended with a residual above tol={tol:g} (largest {residuals.max(initial=0):.3g}). Raise n_nonzero_coefs, "
            "stripe_sparsity or tol.",
        )
    return Result(codes, residuals**2 / 2, None, n_atoms, converged) if return_result else codes


def _match_batch(X, operator, max_atoms, max_per_stripe, tol, mask, codes, report, n_jobs):
    from .kernels import match_signals, matching_workspaces

    n_samples = len(X)
    plan, tables, _, _ = operator.descent_tables(np.ones(operator.code_shape[-1]), X.dtype)
    flat = flat_rows(X)
    masks = np.empty((n_samples, 0), X.dtype) if mask is None else flat_rows(mask)
    g = operator.geometry
    overlap = [
        overlap_distances(p, k, s, n if g.wraps else None)
        for p, k, s, n in zip(g.code_grid, g.kernel_size, g.stride, g.grid, strict=True)
    ]
    overlap = tuple(overlap if len(overlap) == 2 else [(0, 1), *overlap])
    inv_norms = _masked_inv_norms(operator, np.ones((1, *operator.signal_shape)) if mask is None else mask)
    padded = np.zeros((len(inv_norms), operator.geometry.n_positions, plan.padded_atoms), dtype=X.dtype)
    padded[:, :, : plan.atoms] = inv_norms.reshape(len(inv_norms), -1, plan.atoms)
    max_atoms, eps = int(max_atoms), float(np.finfo(X.dtype).eps)
    settings = flat, masks, codes.reshape(n_samples, -1), tables, plan, padded.reshape(len(inv_norms), -1), max_atoms

    def match(next_signal):
        workspaces = matching_workspaces(plan, max_atoms, X.dtype)
        match_signals(*settings, int(max_per_stripe), overlap, float(tol), eps, workspaces, report, next_signal)

    with kernel_threads(n_jobs):
        on_threads(match, n_pieces=n_samples, work=operator.products(codes))


def _masked_inv_norms(operator, mask):
    """Inverse norm of the unmasked part of each shifted atom; zero where almost nothing is unmasked."""
    squared = ConvolutionalOperator(
        np.asarray(operator.components, dtype=np.float64) ** 2,
        operator.signal_shape,
        padding=operator.padding,
        stride=operator.stride,
        evaluation="spatial",
    )
    squares = squared.analyze(np.asarray(mask, dtype=np.float64))
    is_visible = squares > 1e-12 * squares.max()
    return np.where(is_visible, 1 / np.sqrt(np.where(is_visible, squares, 1)), 0)

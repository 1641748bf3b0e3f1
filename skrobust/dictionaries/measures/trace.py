"""Reconstruction errors of the codes of each layer, iteration by iteration."""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from skrobust.pursuits import layered_thresholding
from skrobust.signals.arrays import sample_sums


class PursuitTrace(NamedTuple):
    """Relative reconstruction errors of a layered pursuit after numbers of iterations.

    Attributes
    ----------
    iterations : ndarray of int of shape (n_counts,)
    errors : ndarray of shape (n_counts, n_samples, n_layers)
        ``||t_j - B_j w_j|| / ||t_j||`` of each layer, with the target t_j of the layer: the codes below it plus those
        of skip connections.
    signal_errors : ndarray of shape (n_counts, n_samples)
        ``||x - B_1 ... B_l w_l|| / ||x||``, for the deepest codes.
    """

    iterations: np.ndarray
    errors: np.ndarray
    signal_errors: np.ndarray


def reconstruction_errors(X, layers, codes):
    """Relative reconstruction errors of the codes of all layers.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
    codes : list of ndarray or Tensor, ``(n_samples, *code_shape)`` each

    Returns
    -------
    errors : ndarray of shape (n_samples, n_layers)
        As in `PursuitTrace`. A layer with a zero target has error 0 if its synthesis is zero, else infinity.
    signal_errors : ndarray of shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import reconstruction_errors
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> identity = ConvolutionalOperator(np.eye(2)[:, None], (1, 2))
    >>> X = np.array([[[3.0, 4.0]]])
    >>> errors, of_signals = reconstruction_errors(X, LayeredDictionary([identity, identity]), [X, 0.5 * X])
    >>> errors.tolist(), of_signals.tolist()
    ([[0.0, 0.5]], [0.5])
    """
    if len(codes) != layers.n_layers:
        raise ValueError(f"codes has {len(codes)} entries for {layers.n_layers} layers.")
    residuals = layers.residuals(X, codes)
    targets = [layers.target(j, X, codes) for j in range(layers.n_layers)]
    errors = np.stack([_ratio(residual, target) for residual, target in zip(residuals, targets, strict=True)], axis=1)
    return errors, _ratio(X - layers.reconstruct(list(codes)), X)


def pursuit_trace(pursuit, X, layers, alpha, *, iterations=range(11), **parameters):
    """Reconstruction errors of a pursuit's codes after each of some numbers of iterations.

    Each entry is the result of the pursuit with that `max_iter`. The pursuit is run separately for each, so spaced
    numbers of iterations, such as (0, 1, 2, 5, 10, 20), save time.

    Parameters
    ----------
    pursuit : callable
        `layered_basis_pursuit`, `deep_pursuit`, `multilayer_pursuit`, or a function of their form; or
        `layered_thresholding`, which has no iterations: one entry, after 0, with alpha as thresholds.
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
    alpha : float or sequence
        As for the pursuit.
    iterations : iterable of int, default=range(11)
    **parameters
        Further parameters of the pursuit, except `tol`: traces use fixed numbers of iterations.

    Returns
    -------
    PursuitTrace

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import pursuit_trace
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> from skrobust.pursuits import layered_basis_pursuit
    >>> first = ConvolutionalOperator(np.ones((1, 1, 1)), (3, 1))
    >>> X = np.ones((1, 3, 1))
    >>> trace = pursuit_trace(layered_basis_pursuit, X, LayeredDictionary([first]), 0.1, iterations=(0, 5))
    >>> trace.errors.shape, trace.signal_errors[:, 0].round(6)
    ((2, 1, 1), array([0.1, 0.1]))
    """
    n_iterations = list(iterations)
    if not n_iterations or not all(isinstance(n, Integral) and n >= 0 for n in n_iterations):
        raise ValueError(f"iterations must be integers >= 0, at least one, got {n_iterations!r}.")

    def codes_after(n):
        return pursuit(X, layers, alpha, max_iter=n, **parameters)

    if pursuit is layered_thresholding:
        n_iterations = [0]

        def codes_after(n):
            return pursuit(X, layers, alpha, **parameters)

    return trace_of(codes_after, X, layers, n_iterations)


def trace_of(codes_after, X, layers, iterations):
    """Trace of the codes returned by a function of the number of iterations."""
    pairs = [reconstruction_errors(X, layers, codes_after(n)) for n in iterations]
    errors, signal_errors = (np.stack(parts) for parts in zip(*pairs, strict=True))
    return PursuitTrace(np.array(iterations), errors, signal_errors)


def _ratio(values, references):
    """Ratios of the norms of samples, in double precision; 0 / 0 is 0."""
    norms, reference_norms = (np.sqrt(_array(sample_sums(part * part))) for part in (values, references))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norms > 0, norms / reference_norms, 0.0)


def _array(values):
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values

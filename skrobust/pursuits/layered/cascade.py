"""Layer by layer: thresholding (the forward pass of a convolutional network), and a cascade of basis pursuits."""

from numbers import Integral, Real

import numpy as np

from skrobust.operators.layered.dictionary import analyze
from skrobust.pursuits.lasso.conv.pursuit import checked_signals, convolutional_basis_pursuit
from skrobust.pursuits.penalties import L1, resolve_penalty
from skrobust.pursuits.penalties.l1 import is_plain_l1
from skrobust.pursuits.penalties.layers import OverLayers
from skrobust.pursuits.proximal.steps import proximal_steps
from skrobust.pursuits.result import Result, warn_if_not_converged
from skrobust.signals import convergence_warnings_ignored, documented_like, is_tensor
from skrobust.signals.arrays import as_array, sample_sums


def layered_thresholding(X, layers, threshold, *, penalty="l1", positive=True, n_jobs=None):
    """Codes of all layers by one thresholded analysis each, ``w_j = S(B_j^T t_j)``.

    S is soft thresholding, or the proximal operator of another `penalty`.
    With ``positive=True`` and "valid" padding this is the forward pass of a convolutional network with rectified linear
    units and biases ``-threshold``; skip connections add to the input of a layer (`LayeredDictionary`).

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        Signals.
    layers : LayeredDictionary
        Operators of the layers, from the signals up.
    threshold : float or sequence
        One for all layers or one per layer, each a number or (for "l1") of shape (n_components,).
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
        See `skrobust.pursuits.Penalty`.
    positive : bool, default=True
        Codes >= 0.
    n_jobs : int or None, default=None
        Number of threads. None: what the environment allows.

    Returns
    -------
    list of ndarray or Tensor, ``(n_samples, *code_shape)`` each
        Tensors are differentiable in X, atoms and thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, layered_thresholding
    >>> first = ConvolutionalOperator(np.ones((1, 2, 1)), (4, 1), padding="valid")
    >>> second = ConvolutionalOperator(np.ones((1, 3, 1)), (3, 1), padding="valid")
    >>> X = np.array([[[1.0], [2.0], [0.0], [-3.0]]])
    >>> [codes.ravel().tolist() for codes in layered_thresholding(X, LayeredDictionary([first, second]), 0.5)]
    [[2.5, 1.5, 0.0], [3.5]]
    """
    X = checked_input(X, layers)
    thresholds = per_layer("threshold", threshold, layers, X)
    penalties = penalties_per_layer(penalty, positive, layers, thresholds)
    codes = []
    for j, operator in enumerate(layers.operators):
        codes.append(penalties[j].prox(analyze(operator, layers.target(j, X, codes), n_jobs), thresholds[j]))
    return codes


@documented_like(layered_thresholding)
def layered_basis_pursuit(
    X,
    layers,
    alpha,
    *,
    penalty="l1",
    positive=True,
    max_iter=20,
    tol=None,
    momentum=True,
    step=None,
    return_result=False,
    n_jobs=None,
):
    """Codes of all layers by a cascade of basis pursuits, each applied to the codes of the previous layer.

    Layer j minimises ``1/2 ||t_j - B_j w||^2 + alpha_j ||w||_1`` ([1]_, Algorithm 2), or the same with another
    `penalty` in place of the l1 norm: either by `max_iter` accelerated proximal gradient steps from the thresholded
    analysis, or to a relative duality gap. With ``max_iter=0`` it is `layered_thresholding`.

    Parameters
    ----------
    alpha : float or sequence
        One for all layers or one per layer, each a number or (for "l1") of shape (n_components,); > 0 if `tol` is
        given.
    max_iter : int, default=20
        Number of steps per layer; with `tol` the maximum.
    tol : float or None, default=None
        Relative duality gap of every layer; None: exactly `max_iter` steps, differentiable for tensors.
    momentum : bool, default=True
        False: plain proximal gradient steps, as in the papers.
    step : float, sequence with one per layer, or None, default=None
        None: the inverse of the squared norm of the layer's dictionary. Not used with `tol`.
    return_result : bool, default=False
        Whether to return a `Result`, whose arrays have shape (n_samples, n_layers).

    Returns
    -------
    list of ndarray or Tensor, ``(n_samples, *code_shape)`` each, or Result

    References
    ----------
    .. [1] Y. Romano, A. Aberdam, J. Sulam, M. Elad, "Adversarial noise attacks of deep learning architectures:
       stability analysis via sparse-modeled signals", J. Math. Imaging Vis. 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, layered_basis_pursuit
    >>> first = ConvolutionalOperator(np.ones((1, 1, 1)), (4, 1), padding="valid")
    >>> X = np.array([[[1.0], [2.0], [0.0], [-3.0]]])
    >>> (codes,) = layered_basis_pursuit(X, LayeredDictionary([first]), 0.5, tol=1e-6)
    >>> codes.ravel()
    array([0.5, 1.5, 0. , 0. ])
    """
    X = checked_input(X, layers, max_iter, tol)
    alphas = per_layer("alpha", alpha, layers, X)
    penalties = penalties_per_layer(penalty, positive, layers, alphas)
    if step is not None:
        step = per_layer("step", step, layers, X, of_components=False)
    codes, statistics = [], []
    for j, operator in enumerate(layers.operators):
        target = layers.target(j, X, codes)
        if tol is None:
            start = penalties[j].prox(analyze(operator, target, n_jobs), alphas[j])
            layer_step = operator.step if step is None else step[j]
            w = proximal_steps(target, operator, alphas[j], penalties[j], start, layer_step, max_iter, momentum, n_jobs)
            codes.append(w)
            continue
        mean_alpha, penalty_of_layer = split_alpha(alphas[j], penalties[j])
        with convergence_warnings_ignored():
            layer_result = convolutional_basis_pursuit(
                target,
                operator,
                mean_alpha,
                penalty=penalty_of_layer,
                tol=tol,
                max_iter=max_iter,
                n_jobs=n_jobs,
            )
        codes.append(layer_result.codes)
        statistics.append(layer_result[1:])
    if tol is not None:
        result = Result(codes, *(np.stack(values, axis=1) for values in zip(*statistics, strict=True)))
        warn_if_not_converged(result, tol, max_iter)
    elif return_result:
        result = Result(codes, None, None, np.full((len(X), layers.n_layers), max_iter), None)
    return result if return_result else codes


def checked_input(X, layers, max_iter=0, tol=None):
    """X as floats; tensors are returned unchanged, because tracing allows no control flow on their values."""
    if not (isinstance(max_iter, Integral) and max_iter >= 0):
        raise ValueError(f"max_iter must be an integer >= 0, got {max_iter!r}.")
    if tol is not None and not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be None or a number >= 0, got {tol!r}.")
    return X if is_tensor(X) else checked_signals(X, layers.operators[0])[0]


def per_layer(name, value, layers, X, *, of_components=True):
    """A list of numbers, arrays or tensors of the dtype of X, one per layer."""
    if isinstance(value, Real) or (is_tensor(value) and value.ndim == 0):
        value = [value] * layers.n_layers
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise ValueError(f"{name} must be a number or a list with one entry per layer, got {value!r}.")
    entries = list(value)
    if len(entries) != layers.n_layers:
        raise ValueError(
            f"{name} has {len(entries)} entries for {layers.n_layers} layers; give one number for all, or one entry "
            "per layer."
        )
    checked = []
    for j, entry in enumerate(entries):
        if not is_tensor(entry):
            entry = np.asarray(entry, dtype=np.float64)
            if not np.isfinite(entry).all():
                raise ValueError(f"{name} of layer {j + 1} must be finite, got {entry!r}.")
            # Steps only: thresholds learned with batch normalisation may be negative.
            if not of_components and (entry <= 0).any():
                raise ValueError(f"{name} of layer {j + 1} must be > 0, got {entry!r}.")
        shapes = [(), (layers.code_shapes[j][-1],)] if of_components else [()]
        if tuple(entry.shape) not in shapes:
            raise ValueError(f"{name} of layer {j + 1} must have shape {' or '.join(map(str, shapes))}, got {entry!r}.")
        if is_tensor(X):
            entry = entry.to(X) if is_tensor(entry) else X.new_tensor(entry)
        else:
            entry = np.asarray(entry, dtype=X.dtype)
        checked.append(entry)
    return checked


def penalties_per_layer(penalty, positive, layers, alphas, *, is_joint=False):
    """A `Penalty` for each layer; one `OverLayers` for a penalty whose groups contain atoms of several layers.

    `alphas` has one entry per layer; `is_joint`: the pursuit codes all layers together. Raises a ValueError if a
    penalty does not fit a layer, its alpha or the pursuit.
    """
    entries = list(penalty) if isinstance(penalty, (list, tuple)) else [penalty] * layers.n_layers
    if len(entries) != layers.n_layers:
        raise ValueError(
            f"penalty has {len(entries)} entries for {layers.n_layers} layers; give one for all or one each."
        )
    penalties = [resolve_penalty(one, positive=positive) for one in entries]
    for j, (one, alpha) in enumerate(zip(penalties, alphas, strict=True)):
        if alpha.ndim and not is_plain_l1(one):
            raise ValueError(f"alpha of layer {j + 1} has a value per atom, which needs penalty='l1', got {one!r}.")
    if not any(getattr(one, "over", None) == "layers" for one in penalties):
        return penalties
    if not is_joint:
        raise ValueError("over='layers' needs a pursuit that codes all layers together: deep_pursuit or DeepPursuit.")
    if isinstance(penalty, (list, tuple)) or len({float(alpha) for alpha in alphas}) > 1:
        raise ValueError("over='layers' needs one penalty and one alpha for all layers.")
    return OverLayers(penalties[0], layers.code_shapes)


def penalty_value(codes, alpha, penalty):
    """``alpha g(codes)`` of each sample, with an alpha that may have a value per atom for l1."""
    return sample_sums(abs(codes) * alpha) if is_plain_l1(penalty) else alpha * penalty.value(codes)


def split_alpha(alpha, penalty):
    """The mean of alpha, which must be > 0, and a penalty with the weights of the atoms relative to it."""
    values = as_array(alpha)
    if (values <= 0).any():
        raise ValueError(f"alpha must be > 0 to reach a duality gap, got {values!r}. Use tol=None for fixed steps.")
    if values.ndim == 0:
        return float(values), penalty
    mean_alpha = float(values.mean())
    return mean_alpha, L1(values / mean_alpha, penalty.positive)

"""Layer by layer: thresholding (the forward pass of a convolutional network), and a cascade of basis pursuits."""

from numbers import Integral, Real

import numpy as np

from skrobust.operators.layered.dictionary import analyze, synthesize
from skrobust.operators.layered.kernels import shrink_and_carry
from skrobust.pursuits.lasso.conv.pursuit import checked_signals, convolutional_basis_pursuit
from skrobust.pursuits.penalties.l1 import shrink
from skrobust.pursuits.proximal.momentum import next_momentum
from skrobust.pursuits.proximal.segments import in_segments
from skrobust.pursuits.result import Result, warn_if_not_converged
from skrobust.signals import is_tensor, shortfalls_ignored


def layered_thresholding(X, layers, threshold, *, positive=True, n_jobs=None):
    """Codes of all layers by one thresholded analysis each, ``w_j = S(B_j^T t_j)``.

    With ``positive=True`` and "valid" padding this is the forward pass of a convolutional network with rectified linear
    units and biases ``-threshold``; skip connections add to the input of a layer (`LayeredDictionary`).

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
    threshold : float or sequence
        One for all layers or one per layer, each a number or of shape (n_components,).
    positive : bool, default=True
    n_jobs : int or None, default=None

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
    codes = []
    for j, operator in enumerate(layers.operators):
        codes.append(shrink(analyze(operator, layers.target(j, X, codes), n_jobs), thresholds[j], positive))
    return codes


def layered_basis_pursuit(
    X,
    layers,
    alpha,
    *,
    positive=True,
    max_iter=20,
    tol=None,
    momentum=True,
    step=None,
    return_result=False,
    n_jobs=None,
):
    """Codes of all layers by a cascade of basis pursuits, each applied to the codes of the previous layer.

    Layer j minimises ``1/2 ||t_j - B_j w||^2 + alpha_j ||w||_1`` ([1]_, Algorithm 2), either by `max_iter` accelerated
    proximal gradient steps from the thresholded analysis, or to a relative duality gap. With ``max_iter=0`` it is
    `layered_thresholding`.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
    alpha : float or sequence
        One for all layers or one per layer, each a number or of shape (n_components,); > 0 if `tol` is given.
    positive : bool, default=True
    max_iter : int, default=20
        Number of steps per layer; with `tol` the maximum.
    tol : float or None, default=None
        Relative duality gap of every layer; None: exactly `max_iter` steps, differentiable for tensors.
    momentum : bool, default=True
        False: plain proximal gradient steps, as in the papers.
    step : float, sequence with one per layer, or None, default=None
        None: the inverse of the squared norm of the layer's dictionary. Not used with `tol`.
    return_result : bool, default=False
        Whether to return a `Result`, whose figures have shape (n_samples, n_layers).
    n_jobs : int or None, default=None

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
    penalties = per_layer("alpha", alpha, layers, X)
    if step is not None:
        step = per_layer("step", step, layers, X, of_components=False)
    codes, figures = [], []
    for j, operator in enumerate(layers.operators):
        target = layers.target(j, X, codes)
        if tol is None:
            begin = shrink(analyze(operator, target, n_jobs), penalties[j], positive)
            length = operator.step if step is None else step[j]
            w = proximal_steps(target, operator, penalties[j], begin, length, max_iter, positive, momentum, n_jobs)
            codes.append(w)
            continue
        strength, weights = _strength_and_weights(penalties[j], operator)
        with shortfalls_ignored():
            found = convolutional_basis_pursuit(
                target,
                operator,
                strength,
                weights=weights,
                positive=positive,
                tol=tol,
                max_iter=max_iter,
                return_result=True,
                n_jobs=n_jobs,
            )
        codes.append(found.codes)
        figures.append(found[1:])
    if tol is not None:
        result = Result(codes, *(np.stack(values, axis=1) for values in zip(*figures, strict=True)))
        warn_if_not_converged(result, tol, max_iter)
    elif return_result:
        result = Result(codes, None, None, np.full((len(X), layers.n_layers), max_iter), None)
    return result if return_result else codes


def proximal_steps(X, operator, penalties, z, step, n_iter, positive, momentum, n_jobs=None):
    """`n_iter` (accelerated) proximal gradient steps from codes z, on arrays or tensors."""
    thresholds = penalties * step

    def advance(begin, n_steps, state):
        z, ahead, t = state
        for _ in range(n_steps):
            slopes = analyze(operator, X - synthesize(operator, ahead, n_jobs), n_jobs)
            t, weight = next_momentum(t)
            weight = weight if momentum else 0.0
            z, ahead = proximal_step(ahead, z, slopes, step, thresholds, weight, positive, n_jobs)
        return z, ahead, t

    return in_segments(advance, (z, z, 1.0), n_iter, X, operator.components, thresholds)[0]


def proximal_step(ahead, before, slopes, step, thresholds, momentum, positive, n_jobs=None):
    """Codes ``S(ahead + step slopes)``, and their extrapolation from the codes `before`."""
    if is_tensor(ahead):
        from skrobust.pursuits.proximal.fused import shrink_with_momentum

        previous = before if is_tensor(momentum) or momentum else None
        return shrink_with_momentum(ahead, previous, thresholds, momentum, positive, slopes=slopes, step=step)
    return shrink_and_carry(ahead, before, slopes, step, thresholds, momentum, positive, n_jobs)


def checked_input(X, layers, max_iter=0, tol=None):
    """X as floats; tensors unchanged, so that tracing meets no control flow on their values.

    Raises
    ------
    ValueError
        If X does not match the first layer or is not finite, or another parameter is invalid.
    """
    if not (isinstance(max_iter, Integral) and max_iter >= 0):
        raise ValueError(f"max_iter must be an integer >= 0, got {max_iter!r}.")
    if tol is not None and not (isinstance(tol, Real) and tol >= 0):
        raise ValueError(f"tol must be None or a number >= 0, got {tol!r}.")
    return X if is_tensor(X) else checked_signals(X, layers.operators[0])[0]


def per_layer(name, value, layers, X, *, of_components=True):
    """A list of numbers, arrays or tensors of the dtype of X, one per layer.

    Raises
    ------
    ValueError
        If their number is not that of the layers, or one does not match its layer.
    """
    if isinstance(value, Real) or (is_tensor(value) and value.ndim == 0):
        value = [value] * layers.n_layers
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise ValueError(f"{name} must be a number or a list with one entry per layer, got {value!r}.")
    given = list(value)
    if len(given) != layers.n_layers:
        raise ValueError(
            f"{name} has {len(given)} entries for {layers.n_layers} layers; give one number for all, or one entry per "
            "layer."
        )
    checked = []
    for j, entry in enumerate(given):
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


def _strength_and_weights(penalties, operator):
    """One penalty, and relative weights of the atoms or None."""
    values = penalties.detach().cpu().double().numpy() if is_tensor(penalties) else np.asarray(penalties, dtype=float)
    if (values <= 0).any():
        raise ValueError(f"alpha must be > 0 to reach a duality gap, got {values!r}. Use tol=None for fixed steps.")
    if values.ndim == 0:
        return float(values), None
    strength = float(values.mean())
    return strength, values / strength

"""Holistic pursuit of the multi-layer model by projection: every layer's codes follow from the deepest."""

import math

import numpy as np

from skrobust.signals import is_tensor
from skrobust.signals._tensors import is_exporting

from ._layered_pursuit import LayeredResult, checked_input, in_units, layered_thresholding, per_layer, proximal_step
from ._layers import analyze, sums, synthesize
from ._segments import in_segments


def multilayer_pursuit(X, layers, alpha, *, positive=True, max_iter=20, momentum=True, step=None, n_jobs=None):
    """Codes of all layers that satisfy ``w_{j-1} = B_j w_j`` exactly, by ML-ISTA or ML-FISTA.

    With ``w_j = B_{j+1} ... B_l w_l`` they come near the minimum over w_l of ::

        1/2 ||x - B_1 ... B_l w_l||^2 + sum_j alpha_j ||w_j||_1 .

    An iteration projects: codes of all layers are made from the deepest ones, and each layer takes one proximal
    gradient step towards what the layer below it has become ([1]_, Algorithm 3). The fixed points of the iteration are
    near the minimisers, not at them, the nearer the shorter the steps.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
        Without skip connections.
    alpha : float or sequence
        One for all layers, or one a layer, each a number or of shape (n_components,).
    positive : bool, default=True
        Codes >= 0 in each step; inner layers' final codes are syntheses, which may be negative.
    max_iter : int, default=20
        Without iterations the deepest codes are those of `layered_thresholding`.
    momentum : bool, default=True
        ML-FISTA.
    step : float, sequence of one a layer, or None, default=None
        None: the inverse of the squared norm of each layer's dictionary.
    n_jobs : int or None, default=None

    Returns
    -------
    LayeredResult
        Objective, of the formula above, and iterations are of shape (n_samples,).

    Raises
    ------
    ValueError
        If the dictionary has skip connections.

    References
    ----------
    .. [1] J. Sulam, A. Aberdam, A. Beck, M. Elad, "On multi-layer basis pursuit, efficient algorithms and
       convolutional neural networks", IEEE TPAMI 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, multilayer_pursuit
    >>> first = ConvolutionalOperator(np.ones((1, 1, 1)), (2, 1), padding="valid")
    >>> layers = LayeredDictionary([first, ConvolutionalOperator(np.ones((1, 1, 1)), (2, 1), padding="valid")])
    >>> result = multilayer_pursuit(np.array([[[1.0], [0.2]]]), layers, [0.1, 0.1], max_iter=50)
    >>> [codes.ravel().round(6).tolist() for codes in result.codes]
    [[0.8, 0.0], [0.8, 0.0]]
    """
    if not layers.is_chain:
        raise ValueError("multilayer_pursuit knows no skip connections; use skip=None, or deep_pursuit.")
    X = checked_input(X, layers, max_iter)
    penalties = per_layer("alpha", alpha, layers, X)
    if step is None:
        step = [operator.step for operator in layers.operators]
    steps = per_layer("step", step, layers, X, of_components=False)

    def solve(X, penalties, _):
        # The slope that layer j follows is that of the Moreau envelope below it, divided by the steps taken there.
        thresholds = [penalty * math.prod(steps[: j + 1]) for j, penalty in enumerate(penalties)]
        deepest = layered_thresholding(X, layers, penalties, positive=positive, n_jobs=n_jobs)[-1]

        def all_layers(deepest):
            """The signals, and the codes of each layer."""
            codes = [deepest]
            for operator in reversed(layers.operators):
                codes.insert(0, synthesize(operator, codes[0], n_jobs))
            return codes

        def advance(begin, n_iter, state):
            deepest, ahead, t = state
            for _ in range(n_iter):
                codes, below = all_layers(ahead), X
                later = (1 + (1 + 4 * t * t) ** 0.5) / 2
                for j, operator in enumerate(layers.operators):
                    slope = analyze(operator, below - codes[j], n_jobs)
                    carry = (t - 1) / later if momentum and j + 1 == layers.n_layers else 0.0
                    below, ahead = proximal_step(
                        codes[j + 1], deepest, slope, steps[j], thresholds[j], carry, positive, n_jobs
                    )
                deepest, t = below, later
            return deepest, ahead, t

        atoms = [operator.components for operator in layers.operators]
        codes = all_layers(in_segments(advance, (deepest, deepest, 1.0), max_iter, X, atoms, thresholds)[0])
        if is_exporting():
            return LayeredResult(codes[1:], None, None, None)
        left = X - codes[0]
        objective = sums(left * left) / 2 + sum(
            sums(abs(w) * penalty) for w, penalty in zip(codes[1:], penalties, strict=True)
        )
        return LayeredResult(codes[1:], None, np.asarray(_detached(objective)), np.full(len(X), max_iter))

    return solve(X, penalties, None) if is_tensor(X) else in_units(solve, X, penalties)


def _detached(values):
    return values.detach().cpu() if hasattr(values, "detach") else values

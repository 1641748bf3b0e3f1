"""Pursuit of the multi-layer model by projection: the codes of all layers are synthesised from the deepest."""

import math

import numpy as np

from skrobust.operators.layered.dictionary import analyze, synthesize
from skrobust.pursuits.proximal.momentum import next_momentum
from skrobust.pursuits.proximal.segments import in_segments
from skrobust.pursuits.proximal.steps import proximal_step
from skrobust.pursuits.result import Result
from skrobust.pursuits.units import in_units
from skrobust.signals import documented_like, is_tensor, times_power
from skrobust.signals.arrays import as_array, sample_sums

from .cascade import (
    checked_input,
    layered_basis_pursuit,
    layered_thresholding,
    penalties_per_layer,
    penalty_value,
    per_layer,
)


@documented_like(layered_basis_pursuit)
def multilayer_pursuit(
    X,
    layers,
    alpha,
    *,
    penalty="l1",
    positive=True,
    max_iter=20,
    momentum=True,
    step=None,
    return_result=False,
    n_jobs=None,
):
    """Codes of all layers that satisfy ``w_{j-1} = B_j w_j`` exactly, by ML-ISTA or ML-FISTA.

    With ``w_j = B_{j+1} ... B_l w_l`` they approximately minimise over w_l ::

        1/2 ||x - B_1 ... B_l w_l||^2 + sum_j alpha_j ||w_j||_1 .

    An iteration synthesises the codes of all layers from the deepest, and then takes one proximal gradient step per
    layer towards the updated layer below it ([1]_, Algorithm 3). The fixed points of the iteration are close to the
    minimisers, and closer for shorter steps.

    Parameters
    ----------
    layers : LayeredDictionary
        Without skip connections.
    alpha : float or sequence
        One for all layers or one per layer, each a number or (for "l1") of shape (n_components,).
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
        In place of the l1 norms; see `skrobust.pursuits.Penalty`.
    positive : bool, default=True
        Codes >= 0 in each step; inner layers' final codes are syntheses, which may be negative.
    max_iter : int, default=20
        With 0 the deepest codes are those of `layered_thresholding`.
    momentum : bool, default=True
        ML-FISTA rather than ML-ISTA.
    step : float, sequence with one per layer, or None, default=None
        None: the inverse of the squared norm of each layer's dictionary.
    return_result : bool, default=False
        Whether to return a `Result`, with the objective above.

    Returns
    -------
    list of ndarray or Tensor, ``(n_samples, *code_shape)`` each, or Result

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
    >>> codes = multilayer_pursuit(np.array([[[1.0], [0.2]]]), layers, [0.1, 0.1], max_iter=50)
    >>> [w.ravel().round(6).tolist() for w in codes]
    [[0.8, 0.0], [0.8, 0.0]]
    """
    if not layers.is_chain:
        raise ValueError("multilayer_pursuit does not support skip connections; use skip=None, or deep_pursuit.")
    X = checked_input(X, layers, max_iter)
    alphas = per_layer("alpha", alpha, layers, X)
    penalties = penalties_per_layer(penalty, positive, layers, alphas)
    if step is None:
        step = [operator.step for operator in layers.operators]
    steps = per_layer("step", step, layers, X, of_components=False)

    def solve(X, alphas):
        # The slope of layer j is that of the Moreau envelope of the layer below, divided by the steps there.
        thresholds = [alpha * math.prod(steps[: j + 1]) for j, alpha in enumerate(alphas)]
        deepest = layered_thresholding(X, layers, alphas, penalty=penalties, positive=positive, n_jobs=n_jobs)[-1]

        def all_layers(deepest):
            """The signals, and the codes of each layer."""
            codes = [deepest]
            for operator in reversed(layers.operators):
                codes.insert(0, synthesize(operator, codes[0], n_jobs))
            return codes

        def advance(begin, n_iter, state):
            deepest, extrapolated, t = state
            for _ in range(n_iter):
                codes, below = all_layers(extrapolated), X
                t, weight = next_momentum(t)
                for j, operator in enumerate(layers.operators):
                    slope = analyze(operator, below - codes[j], n_jobs)
                    carry = weight if momentum and j + 1 == layers.n_layers else 0.0
                    below, extrapolated = proximal_step(
                        codes[j + 1], deepest, slope, steps[j], thresholds[j], penalties[j], carry, n_jobs
                    )
                deepest = below
            return deepest, extrapolated, t

        atoms = [operator.components for operator in layers.operators]
        codes = all_layers(in_segments(advance, (deepest, deepest, 1.0), max_iter, X, atoms, thresholds)[0])
        if not return_result:
            return Result(codes[1:], None, None, None, None)
        residual = X - codes[0]
        values = zip(codes[1:], alphas, penalties, strict=True)
        objective = sample_sums(residual * residual) / 2 + sum(penalty_value(*of_layer) for of_layer in values)
        return Result(codes[1:], as_array(objective), None, np.full(len(X), max_iter), None)

    if is_tensor(X):  # no control flow may depend on values during tracing
        solution = solve(X, alphas)
        return solution if return_result else solution.codes

    def solve_rows(values, exponent, rows):
        return solve(values, [times_power(alpha, -exponent) for alpha in alphas])

    solution = in_units(solve_rows, X) if all(one.is_norm for one in penalties) else solve(X, alphas)
    return solution if return_result else solution.codes

"""Deep pursuit differentiated at its solution, with memory independent of the number of sweeps."""

import warnings

import torch

from skrobust.operators.layered.dictionary import stack
from skrobust.pursuits.layered.cascade import penalties_per_layer, per_layer
from skrobust.pursuits.layered.deep import deep_pursuit
from skrobust.pursuits.penalties.l1 import is_plain_l1
from skrobust.pursuits.penalties.layers import OverLayers
from skrobust.signals.tensors import is_exporting

from .solution import at_solution, conjugate_gradients


def implicit_deep_pursuit(X, layers, alpha, *, penalty="l1", positive=True, tol=1e-6, max_iter=1000):
    """Deep pursuit to a duality gap, differentiable at its solution.

    On the support S of the solution ``B_S^T (b - B_S w_S) = alpha_S g'(w_S)``, with B the structured dictionary of
    all layers, b = (x, 0, ..., 0), and ``g' = sign`` for the l1 norm. The backward pass solves the
    adjoint of this system by conjugate gradients. Its memory does not depend on the number of forward sweeps.

    Parameters
    ----------
    X : Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
        Atoms, and the matrices of skip connections, may be tensors that require a gradient.
    alpha : float, Tensor or sequence
        One for all layers or one per layer, each a number or (for "l1") of shape (n_components,); > 0.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
        As for `deep_pursuit`.
    positive : bool, default=True
    tol : float, default=1e-6
        Relative duality gap of the forward pass.
    max_iter : int, default=1000
        Maximum number of sweeps of the forward pass.

    Returns
    -------
    list of Tensor, ``(n_samples, *code_shape)`` each
        Differentiable in X, atoms, alpha and the matrices of skip connections.

    See Also
    --------
    deep_pursuit : Differentiable through its sweeps if ``tol=None``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> from skrobust.pursuits import implicit_deep_pursuit
    >>> one = np.ones((1, 1, 1))
    >>> layers = LayeredDictionary([ConvolutionalOperator(one, (2, 1)), ConvolutionalOperator(one, (2, 1))])
    >>> X = torch.tensor([[[1.0], [-3.0]]], dtype=torch.float64, requires_grad=True)
    >>> first, second = implicit_deep_pursuit(X, layers, 0.1, tol=1e-12)
    >>> second.sum().backward()
    >>> second.detach().flatten().round(decimals=4).tolist(), X.grad.flatten().tolist()
    ([0.7, 0.0], [1.0, 0.0])
    """
    alphas = per_layer("alpha", alpha, layers, X)
    penalties = penalties_per_layer(penalty, positive, layers, alphas, is_joint=True)
    signals = layers.stacked_signals(X)
    if is_exporting():
        return _exported(signals, layers, alphas, penalties, tol=tol, max_iter=max_iter)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the caller chose max_iter
        parts = deep_pursuit(X, layers, alphas, penalty=penalty, positive=positive, tol=tol, max_iter=max_iter)
    codes = stack(parts)
    if isinstance(penalties, OverLayers):
        parts, alphas, penalties, split = [codes], alphas[:1], [penalties], lambda rows: [rows]
    else:
        split = layers.split
    terms = list(zip(alphas, penalties, parts, strict=True))
    gradient = stack([layer_alpha * layer_penalty.gradient(w) for layer_alpha, layer_penalty, w in terms])
    support = (codes != 0).to(X)

    def hessian(values):
        curvatures = [
            layer_alpha * layer_penalty.hessian_product(w, v)
            for (layer_alpha, layer_penalty, w), v in zip(terms, split(values), strict=True)
        ]
        curvature = stack(curvatures)
        return support * (layers.analyze(layers.synthesize(values)) + curvature)

    slopes = layers.analyze(signals - layers.synthesize(codes)) - gradient
    return layers.split(at_solution(slopes, codes, lambda right: conjugate_gradients(hessian, right)))


def _exported(signals, layers, alphas, penalties, **options):
    from skrobust.pursuits.proximal.export import solve_lasso

    if isinstance(penalties, OverLayers) or not all(map(is_plain_l1, penalties)):
        raise ValueError("implicit_deep_pursuit can be exported under penalty='l1' only.")
    # Convert atoms to tensors before the loop, which would record the conversion at each step.
    detached = layers.with_components([torch.as_tensor(atoms).to(signals) for atoms in layers.components])
    alphas_and_shapes = zip(alphas, layers.code_shapes, strict=True)
    weights = stack([alpha + signals.new_zeros(1, *shape) for alpha, shape in alphas_and_shapes])
    options = {"positive": penalties[0].positive, **options}
    codes = solve_lasso(signals, detached.analyze, detached.synthesize, weights, layers.lipschitz, **options)
    return layers.split(codes)

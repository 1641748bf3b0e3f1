"""Differentiable deep pursuit at its solution: memory that does not grow with the sweeps."""

import math
import warnings

import torch

from skrobust.signals._tensors import is_exporting

from ._conv_pursuit_torch import solve_semidefinite
from ._deep_pursuit import deep_pursuit
from ._layered_pursuit import per_layer


def implicit_deep_pursuit(X, layers, alpha, *, positive=True, tol=1e-6, max_iter=1000):
    """Deep pursuit to a duality gap, differentiable at its solution.

    On the support S of the solution ``B_S^T (b - B_S w_S) = alpha_S sign(w_S)``, with B the structured dictionary of
    all layers and b = (x, 0, ..., 0). The backward pass solves the adjoint of that system by conjugate gradients, and
    its memory does not grow with the sweeps of the forward pass.

    Parameters
    ----------
    X : Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
        Atoms, and the matrices of skip connections, may be tensors that require a gradient.
    alpha : float, Tensor or sequence
        One for all layers, or one a layer, each a number or of shape (n_components,); > 0.
    positive : bool, default=True
    tol : float, default=1e-6
        Relative duality gap of the forward pass.
    max_iter : int, default=1000
        Sweeps of the forward pass, at most.

    Returns
    -------
    list of Tensor, ``(n_samples, *code_shape)`` each
        Differentiable in X, atoms, alpha and the matrices of skip connections.

    See Also
    --------
    deep_pursuit : Without `tol` differentiable through its sweeps.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, implicit_deep_pursuit
    >>> one = np.ones((1, 1, 1))
    >>> layers = LayeredDictionary([ConvolutionalOperator(one, (2, 1)), ConvolutionalOperator(one, (2, 1))])
    >>> X = torch.tensor([[[1.0], [-3.0]]], dtype=torch.float64, requires_grad=True)
    >>> first, second = implicit_deep_pursuit(X, layers, 0.1, tol=1e-12)
    >>> second.sum().backward()
    >>> second.detach().flatten().round(decimals=4).tolist(), X.grad.flatten().tolist()
    ([0.7, 0.0], [1.0, 0.0])
    """
    penalties = per_layer("alpha", alpha, layers, X)
    if is_exporting():
        from ._export_torch import structured_lasso

        return structured_lasso(X, layers, penalties, positive=positive, tol=tol, max_iter=max_iter)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as many sweeps as the caller grants
        codes = deep_pursuit(X, layers, penalties, positive=positive, tol=tol, max_iter=max_iter).codes
    slopes = layers.correlate(layers.residuals(X, codes))
    # Zero on the support; what it does when X, atoms or penalties move says how the codes move.
    slopes = [slope - penalty * w.sign() for slope, penalty, w in zip(slopes, penalties, codes, strict=True)]
    flat = _AtSolution.apply(_flat(slopes), _flat(codes), layers, torch.zeros_like(X))
    return _of_layers(flat, layers)


class _AtSolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slopes, codes, layers, zero):
        ctx.save_for_backward(codes, zero)
        ctx.layers = layers
        return codes.clone()

    @staticmethod
    def backward(ctx, grad):
        codes, zero = ctx.saved_tensors
        support, layers = (codes != 0).to(grad), ctx.layers

        def normal(values):
            images = layers.residuals(zero, _of_layers(values, layers))
            return -support * _flat(layers.correlate(images))

        with torch.no_grad():
            return solve_semidefinite(normal, support * grad), None, None, None


def _flat(codes):
    return torch.cat([w.flatten(1) for w in codes], dim=1)


def _of_layers(flat, layers):
    sizes = [math.prod(shape) for shape in layers.code_shapes]
    parts = flat.split(sizes, dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, layers.code_shapes, strict=True)]

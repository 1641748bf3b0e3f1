"""Differentiable basis pursuit over convolutional dictionaries: through its iterations, or at its solution."""

import contextlib
import functools
import warnings
from numbers import Integral

import torch

from skrobust.signals._tensors import is_exporting

from ._conv_adjoint import solve_on_supports
from ._conv_operator import ConvolutionalOperator
from ._conv_pursuit import checked_mask, checked_signals, convolutional_basis_pursuit
from ._fused_torch import shrink_with_momentum

CG_TOL, CG_STEPS = 1e-8, 200
"""Relative residual and most steps of the linear system of a backward pass."""


def unrolled_pursuit(
    X,
    operator,
    alpha,
    *,
    n_iter,
    positive=False,
    weights=None,
    mask=None,
    step=None,
    momentum=True,
    init=None,
    convolution_dtype=None,
):
    """A fixed number of (accelerated) proximal gradient steps, differentiable in X, atoms, alpha, weights and step.

    Parameters
    ----------
    X : Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
        Its components may be a tensor that requires a gradient.
    alpha : float or Tensor that broadcasts to (n_components,)
    n_iter : int
    positive : bool, default=False
    weights : Tensor of shape (n_components,) or None, default=None
    mask : array-like, Tensor or None, default=None
        As for `convolutional_basis_pursuit`. What is missing has no gradient.
    step : float, Tensor or None, default=None
        None: the inverse of the operator's `lipschitz`.
    momentum : bool, default=True
        FISTA rather than ISTA. The first step is the same, as is the second.
    init : Tensor of shape ``(n_samples, *code_shape)`` or None, default=None
    convolution_dtype : torch.dtype or None, default=None
        Such as ``torch.bfloat16``: the precision of direct convolutions, by autocast; residuals, codes and momentum
        keep that of X, and so does the result. None: that of X, or of an autocast around the call.

    Returns
    -------
    Tensor of shape ``(n_samples, *code_shape)``

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.pursuits import ConvolutionalOperator, unrolled_pursuit
    >>> operator = ConvolutionalOperator(np.ones((1, 1, 1)), (2, 1))
    >>> X = torch.tensor([[[1.0], [-3.0]]], requires_grad=True)
    >>> codes = unrolled_pursuit(X, operator, 2.0, n_iter=3)
    >>> codes.sum().backward()
    >>> codes.flatten().tolist(), X.grad.flatten().tolist()
    ([0.0, -1.0], [0.0, 1.0])
    """
    _check_tensor("unrolled_pursuit", X, operator)
    if not (isinstance(n_iter, Integral) and n_iter >= 0):
        raise ValueError(f"n_iter must be an integer >= 0, got {n_iter!r}.")
    counted = checked_mask(mask, X)
    if counted is not None:
        X = X.where(counted != 0, X.new_zeros(()))
    convolution = operator.on_tensors(X)
    step = operator.step if step is None else step
    thresholds = alpha * step if weights is None else alpha * weights * step
    z = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
    y, t, begins_at_zero = z, 1.0, init is None
    precision = contextlib.nullcontext
    if convolution_dtype is not None:
        precision = functools.partial(torch.autocast, X.device.type, dtype=convolution_dtype)
    for _ in range(n_iter):
        with precision():
            left = X if begins_at_zero else X - convolution.synthesize(y)
            left = left if counted is None or begins_at_zero else left * counted
            slopes = convolution.analyze(left)
        begins_at_zero = False
        later = (1 + (1 + 4 * t * t) ** 0.5) / 2
        before = z if momentum and t > 1 else None
        z, y = shrink_with_momentum(y, before, thresholds, (t - 1) / later, positive, slopes=slopes, step=step)
        t = later
    return z


def implicit_pursuit(X, operator, alpha, *, positive=False, weights=None, mask=None, tol=1e-6, max_iter=1000):
    """Basis pursuit to a duality gap, differentiable at its solution.

    On the support S of the solution ``D_S^T M (x - D_S z_S) = alpha w_S sign(z_S)`` with the mask M; the backward pass
    solves that system's adjoint by conjugate gradients. Its memory does not grow with the iterations of the forward
    pass.

    Parameters
    ----------
    X : Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
        Its components may be a tensor that requires a gradient.
    alpha : float or Tensor of no dimension
    positive : bool, default=False
    weights : Tensor of shape (n_components,) or None, default=None
    mask : array-like, Tensor or None, default=None
        As for `convolutional_basis_pursuit`. What is missing has no gradient.
    tol : float, default=1e-6
        Relative duality gap of the forward pass.
    max_iter : int, default=1000

    Returns
    -------
    Tensor of shape ``(n_samples, *code_shape)``

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.pursuits import ConvolutionalOperator, implicit_pursuit
    >>> operator = ConvolutionalOperator(np.ones((1, 1, 1)), (2, 1))
    >>> X = torch.tensor([[[1.0], [-3.0]]], requires_grad=True)
    >>> implicit_pursuit(X, operator, 2.0).sum().backward()
    >>> X.grad.flatten().tolist()
    [0.0, 1.0]
    """
    _check_tensor("implicit_pursuit", X, operator)
    if is_exporting():
        return _exported(X, operator, alpha, weights, mask, positive=positive, tol=tol, max_iter=max_iter)
    X, counted = checked_signals(X, operator, mask)
    components = operator.on_tensors(X).components
    penalties = alpha * (X.new_ones(len(components)) if weights is None else weights)

    def solve(values, fixed):
        with warnings.catch_warnings():  # as many steps as the caller grants
            warnings.simplefilter("ignore")
            return convolutional_basis_pursuit(
                values,
                fixed,
                float(alpha),
                positive=positive,
                weights=None if weights is None else weights.detach().cpu().double().numpy(),
                mask=counted,
                tol=tol,
                max_iter=max_iter,
            ).codes

    return _Implicit.apply(X, components, penalties, operator, counted, solve)


def _exported(X, operator, alpha, weights, mask, **options):
    from ._export_torch import solve_lasso

    if mask is not None:
        raise ValueError("implicit_pursuit is exported without mask only.")
    convolution = operator.on_tensors(X)
    penalties = alpha * (X.new_ones(len(convolution.components)) if weights is None else weights)
    return solve_lasso(X, convolution.analyze, convolution.synthesize, penalties, operator.lipschitz, **options)


def _check_tensor(name, X, operator):
    if not isinstance(X, torch.Tensor):
        raise TypeError(f"{name} takes tensors, got {type(X).__name__}; pass torch.as_tensor(X).")
    if tuple(X.shape[1:]) != tuple(operator.signal_shape):
        shape = ", ".join(map(str, operator.signal_shape))
        raise ValueError(f"X must have shape (n_samples, {shape}), got {tuple(X.shape)}.")


def with_support_gradient(X, operator, codes):
    """`codes`, with the derivative of least squares on their support."""
    components = operator.on_tensors(X).components
    no_penalties = X.new_zeros(len(components))
    return _Implicit.apply(X, components, no_penalties, operator, None, lambda values, fixed: codes.detach())


def _with_components(operator, components):
    return ConvolutionalOperator(
        components,
        operator.signal_shape,
        padding=operator.padding,
        stride=operator.stride,
        evaluation=operator.evaluation,
    )


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X, components, penalties, operator, mask, solve):
        codes = solve(X, _with_components(operator, components.detach()))
        ctx.save_for_backward(X, components, penalties, codes)
        ctx.operator, ctx.mask = operator, mask
        return codes

    @staticmethod
    def backward(ctx, grad):
        X, components, penalties, codes = ctx.saved_tensors
        signs = codes.sign()
        fixed = _with_components(ctx.operator, components.detach())
        adjoint = _adjoint(fixed, codes, grad, ctx.mask)
        needed = [i for i in range(3) if ctx.needs_input_grad[i]]
        if needed == [0]:
            return _counted(fixed.on_tensors(X).synthesize(adjoint), ctx.mask), None, None, None, None, None
        with torch.enable_grad():
            inputs = [
                values.detach().requires_grad_(i in needed) for i, values in enumerate((X, components, penalties))
            ]
            convolution = _with_components(ctx.operator, inputs[1]).on_tensors(X)
            left = _counted(inputs[0] - convolution.synthesize(codes.detach()), ctx.mask)
            # <adjoint, D^T M (x - D z) - penalties sign(z)>, whose derivative at fixed z is the gradient sought.
            stationarity = (convolution.synthesize(adjoint) * left).sum() - (adjoint * signs * inputs[2]).sum()
            found = torch.autograd.grad(stationarity, [inputs[i] for i in needed])
        gradients = [None] * 6
        for i, value in zip(needed, found, strict=True):
            gradients[i] = value
        return tuple(gradients)


def _counted(values, mask):
    return values if mask is None else values * mask


def _adjoint(operator, codes, right, mask):
    """Solutions of the systems of the supports: among few coefficients on the CPU, else by convolutions."""
    if right.device.type == "cpu" and right.dtype in (torch.float32, torch.float64):
        arrays = [values.detach().numpy() for values in (codes, right)]
        rtol = max(CG_TOL, 8 * torch.finfo(right.dtype).eps)
        known = None if mask is None else mask.numpy()
        return torch.as_tensor(solve_on_supports(_on_arrays(operator), *arrays, most=CG_STEPS, rtol=rtol, mask=known))
    return _adjoint_by_convolutions(operator, codes, right, mask)


def _adjoint_by_convolutions(operator, codes, right, mask):
    support, convolution = (codes != 0).to(right), operator.on_tensors(right)

    def apply(v):
        return support * convolution.analyze(_counted(convolution.synthesize(v), mask))

    return solve_semidefinite(apply, support * right)


def _on_arrays(operator):
    return _with_components(operator, operator.components.cpu().numpy())


def solve_semidefinite(apply, right):
    """Solutions of positive semidefinite systems, one a sample, by conjugate gradients."""

    def inner(a, b):
        return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))

    solution, residual = torch.zeros_like(right), right
    direction, squares = right, inner(right, right)
    goal = squares * CG_TOL**2
    for _ in range(CG_STEPS):
        if bool((squares <= goal).all()):
            break
        image = apply(direction)
        curvature = inner(direction, image)
        going = (squares > goal) & (curvature > 0)
        length = torch.where(going, squares / torch.where(going, curvature, 1), 0)
        solution = solution + length * direction
        residual = residual - length * image
        later = inner(residual, residual)
        direction = residual + torch.where(going, later / torch.where(going, squares, 1), 0) * direction
        squares = torch.where(going, later, squares * 0)
    return solution

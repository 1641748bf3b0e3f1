"""Differentiable basis pursuit over convolutional dictionaries: through its iterations, or at its solution."""

import contextlib
import functools
import warnings
from numbers import Integral

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skrobust.operators.conv.torch import TorchConvolution
from skrobust.pursuits.lasso.conv.pursuit import checked_mask, checked_signals, convolutional_basis_pursuit
from skrobust.pursuits.penalties import L1, resolve_penalty
from skrobust.pursuits.penalties.l1 import is_plain_l1
from skrobust.pursuits.proximal.momentum import next_momentum
from skrobust.pursuits.proximal.steps import proximal_step
from skrobust.signals.tensors import is_exporting

from .adjoint import solve_on_supports
from .solution import CG_TOL, MAX_CG_STEPS, at_solution, conjugate_gradients


def unrolled_pursuit(
    X,
    operator,
    alpha,
    *,
    n_iter,
    penalty="l1",
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
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
    positive : bool, default=False
    weights : Tensor of shape (n_components,) or None, default=None
    mask : array-like, Tensor or None, default=None
        As for `convolutional_basis_pursuit`. Masked pixels have gradient 0.
    step : float, Tensor or None, default=None
        None: the inverse of the operator's `lipschitz`.
    momentum : bool, default=True
        FISTA rather than ISTA. The first two steps are the same.
    init : Tensor of shape ``(n_samples, *code_shape)`` or None, default=None
    convolution_dtype : torch.dtype or None, default=None
        Precision of direct convolutions by autocast, such as ``torch.bfloat16``; residuals, codes, momentum and result
        keep that of X. None: that of X, or of an autocast around the call.

    Returns
    -------
    Tensor of shape ``(n_samples, *code_shape)``

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import unrolled_pursuit
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
    valid = checked_mask(mask, X)
    if valid is not None:
        X = X.where(valid != 0, X.new_zeros(()))
    convolution = operator.on_tensors(X)
    step = operator.step if step is None else step
    z = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
    precision = contextlib.nullcontext
    if convolution_dtype is not None:
        precision = functools.partial(torch.autocast, X.device.type, dtype=convolution_dtype)
    threshold = alpha * step if weights is None else alpha * weights * step
    penalty = resolve_penalty(penalty, positive=positive)
    if weights is not None and not is_plain_l1(penalty):
        raise ValueError(f"weights belong to penalty='l1', not to {penalty!r}.")
    # Atoms are scaled by the step once, instead of all slopes in each iteration.
    scaled = TorchConvolution(convolution.components * step, operator.geometry, operator.evaluation)
    y, t = z, 1.0
    for iteration in range(n_iter):
        with precision():
            at_zero = init is None and iteration == 0
            slopes = scaled.analyze(X if at_zero else _masked(X - convolution.synthesize(y), valid))
        t, weight = next_momentum(t)
        weight = weight if momentum and iteration + 1 < n_iter else 0.0  # nothing follows the last codes
        if at_zero:
            z, y = proximal_step(slopes.to(X.dtype), z, None, 1.0, threshold, penalty, weight)
        else:
            z, y = proximal_step(y, z, slopes, 1.0, threshold, penalty, weight)
    return z


def _is_l1(penalty):
    return isinstance(penalty, str) and penalty == "l1"


def implicit_pursuit(
    X, operator, alpha, *, penalty="l1", positive=False, weights=None, mask=None, init=None, tol=1e-6, max_iter=1000
):
    """Basis pursuit to a duality gap, differentiable at its solution.

    On the support S of the solution ``D_S^T M (x - D_S z_S) = alpha g'(z_S)`` with the mask M, and ``g' = w sign(z)``
    for the l1 norm. The backward pass solves the adjoint of this system by conjugate gradients. Its memory does not
    depend on the number of iterations of the forward pass.

    Parameters
    ----------
    X : Tensor of shape ``(n_samples, *signal_shape)``
    operator : ConvolutionalOperator
        Its components may be a tensor that requires a gradient.
    alpha : float or Tensor of no dimension
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
    positive : bool, default=False
    weights : Tensor of shape (n_components,) or None, default=None
    mask : array-like, Tensor or None, default=None
        As for `convolutional_basis_pursuit`. Masked pixels have gradient 0.
    init : Tensor of shape ``(n_samples, *code_shape)`` or None, default=None
        Starting point of the forward pass, such as the codes of similar signals. It has no gradient.
    tol : float, default=1e-6
        Relative duality gap of the forward pass.
    max_iter : int, default=1000

    Returns
    -------
    Tensor of shape ``(n_samples, *code_shape)``
        Differentiable in X, atoms, alpha and weights; for this the penalty must define `gradient`.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skrobust.operators import ConvolutionalOperator
    >>> from skrobust.pursuits import implicit_pursuit
    >>> operator = ConvolutionalOperator(np.ones((1, 1, 1)), (2, 1))
    >>> X = torch.tensor([[[1.0], [-3.0]]], requires_grad=True)
    >>> implicit_pursuit(X, operator, 2.0).sum().backward()
    >>> X.grad.flatten().tolist()
    [0.0, 1.0]
    """
    _check_tensor("implicit_pursuit", X, operator)
    if is_exporting():
        return _exported(X, operator, alpha, penalty, weights, mask, positive=positive, tol=tol, max_iter=max_iter)
    X, valid = checked_signals(X, operator, mask)
    with warnings.catch_warnings():  # the caller chose max_iter; estimators count unconverged signals themselves
        warnings.simplefilter("ignore", ConvergenceWarning)
        codes = convolutional_basis_pursuit(
            X,
            operator.with_components(_detached(operator.components)),
            float(_detached(alpha)),
            penalty=penalty,
            positive=positive,
            weights=None if weights is None else _detached(torch.as_tensor(weights)).cpu().double().numpy(),
            mask=valid,
            init=init,
            tol=tol,
            max_iter=max_iter,
        ).codes
    inputs = (X, alpha, weights, operator.components)
    if not (torch.is_grad_enabled() and any(isinstance(v, torch.Tensor) and v.requires_grad for v in inputs)):
        return codes
    if isinstance(penalty, str) and penalty == "l1":  # weights may need a gradient
        penalty = L1(weights, positive)
    else:
        penalty = resolve_penalty(penalty, positive=positive)
    on_tensors = operator.on_tensors(X)
    slopes = on_tensors.analyze(_masked(X - on_tensors.synthesize(codes), valid)) - alpha * penalty.gradient(codes)
    hessian = None
    if not isinstance(penalty, L1):
        alpha_value = float(_detached(alpha))

        def hessian(v):
            return alpha_value * penalty.hessian_product(codes, v)

    return at_solution(slopes, codes, support_solver(operator, codes, valid, hessian))


def with_support_gradient(X, operator, codes):
    """`codes`, with the derivative of least squares on their support attached."""
    codes = codes.detach()
    on_tensors = operator.on_tensors(X)
    slopes = on_tensors.analyze(X - on_tensors.synthesize(codes))
    return at_solution(slopes, codes, support_solver(operator, codes))


def support_solver(operator, codes, mask=None, hessian=None):
    """Solver of the systems on the supports: a kernel for few coefficients on the CPU, else convolutions."""
    operator = operator.with_components(_detached(operator.components))

    def solve(right):
        if hessian is None and right.device.type == "cpu" and right.dtype in (torch.float32, torch.float64):
            on_arrays = operator.with_components(np.asarray(operator.components))
            rtol = max(CG_TOL, 8 * torch.finfo(right.dtype).eps)
            valid = None if mask is None else mask.numpy()
            return torch.as_tensor(
                solve_on_supports(on_arrays, codes.numpy(), right.numpy(), max_iter=MAX_CG_STEPS, rtol=rtol, mask=valid)
            )
        support, on_tensors = (codes != 0).to(right), operator.on_tensors(right)

        def apply(v):
            image = support * on_tensors.analyze(_masked(on_tensors.synthesize(v), mask))
            return image if hessian is None else image + support * hessian(v)

        return conjugate_gradients(apply, right)

    return solve


def _detached(values):
    return values.detach() if isinstance(values, torch.Tensor) else values


def _masked(values, mask):
    return values if mask is None else values * mask


def _exported(X, operator, alpha, penalty, weights, mask, **options):
    from skrobust.pursuits.proximal.export import solve_lasso

    if mask is not None or not _is_l1(penalty):
        raise ValueError("implicit_pursuit can be exported without a mask and under penalty='l1' only.")
    convolution = operator.on_tensors(X)
    penalties = alpha * (X.new_ones(len(convolution.components)) if weights is None else weights)
    return solve_lasso(X, convolution.analyze, convolution.synthesize, penalties, operator.lipschitz, **options)


def _check_tensor(name, X, operator):
    if not isinstance(X, torch.Tensor):
        raise TypeError(f"{name} takes tensors, got {type(X).__name__}; pass torch.as_tensor(X).")
    if tuple(X.shape[1:]) != tuple(operator.signal_shape):
        shape = ", ".join(map(str, operator.signal_shape))
        raise ValueError(f"X must have shape (n_samples, {shape}), got {tuple(X.shape)}.")

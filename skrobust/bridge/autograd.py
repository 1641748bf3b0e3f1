"""Backward passes that differ from the forward pass."""

from contextlib import contextmanager

import torch


class _WithBackward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value, surrogate):
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return None, grad


@contextmanager
def _unrecorded():
    """Disable tracing: operations inside a node are not recorded."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx, X, function):
        if not ctx.needs_input_grad[0]:
            with _unrecorded():
                return function(X)
        with torch.enable_grad(), _unrecorded():
            inner = X.detach().requires_grad_(True)
            output = function(inner)
        ctx.inner, ctx.output = inner, output
        return output.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        inner, output = ctx.inner, ctx.output
        if not output.requires_grad:
            return torch.zeros_like(inner), None
        return torch.autograd.grad(output, inner, grad, retain_graph=True)[0], None


def as_one_node(function, X):
    """``function(X)``, which `torch.jit.trace` records as one node that calls `function` anew.

    For functions whose operations depend on the values of X, such as pursuits that stop at a gap: a trace of their
    operations would be correct only for the traced X. A trace with such a node cannot be saved.

    Parameters
    ----------
    function : callable
        Tensor to Tensor.
    X : Tensor

    Returns
    -------
    Tensor
        Differentiable in X, also in a trace.

    Examples
    --------
    >>> import torch
    >>> from skrobust.bridge import as_one_node
    >>> def halved_until_small(X):
    ...     while X.abs().max() > 1:
    ...         X = X / 2
    ...     return X
    >>> trace = torch.jit.trace(lambda X: as_one_node(halved_until_small, X), torch.tensor([3.0]))
    >>> trace(torch.tensor([8.0, 4.0]))
    tensor([1.0000, 0.5000])
    """
    return _Node.apply(X, function) if torch.jit.is_tracing() else function(X)


def with_backward(value, surrogate):
    """Return `value`, bit for bit, with the gradient of `surrogate`.

    With ``surrogate=X`` this is the straight-through estimator (backward pass differentiable approximation).

    Parameters
    ----------
    value : Tensor
        Result of the forward pass; no gradient flows into it.
    surrogate : Tensor of the same shape
        What the backward pass differentiates.

    Returns
    -------
    Tensor

    References
    ----------
    A. Athalye, N. Carlini, D. Wagner, "Obfuscated gradients give a false sense of security", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from skrobust.bridge import with_backward
    >>> X = torch.tensor([0.4, 1.7], requires_grad=True)
    >>> rounded = with_backward(X.round(), X)
    >>> rounded.sum().backward()
    >>> rounded.detach(), X.grad
    (tensor([0., 2.]), tensor([1., 1.]))
    """
    if value.shape != surrogate.shape:
        raise ValueError(f"value has shape {tuple(value.shape)}, but surrogate has shape {tuple(surrogate.shape)}.")
    if torch.jit.is_tracing():  # a saved trace cannot contain an autograd.Function
        return value.detach() + (surrogate - surrogate.detach()).to(value.dtype)
    return _WithBackward.apply(value.detach(), surrogate.to(value.dtype))

"""Derivatives of codes at the solution of a pursuit, by the implicit function theorem."""

import torch

CG_TOL, MAX_CG_STEPS = 1e-8, 200
"""Relative residual and maximum number of steps for the linear system of a backward pass."""


def at_solution(slopes, codes, solve):
    """Unchanged codes, with the derivative of the solution attached.

    At a solution the slopes ``D^T M (x - D z) - alpha g'(z)`` are 0 on the support of z. Small changes of signal,
    dictionary or penalty keep the support, and the slopes stay 0. The derivative of the codes is therefore the inverse
    of ``H = D_S^T M D_S + alpha g''(z)`` times that of the slopes.

    Autograd records `slopes` as a function of all inputs of the derivative, at fixed, detached `codes`. `solve` maps a
    right-hand side that is 0 off the support to the solution of ``H u = right`` that is 0 there.
    """
    return _AtSolution.apply(slopes, codes, solve)


class _AtSolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, slopes, codes, solve):
        ctx.save_for_backward(codes)
        ctx.solve = solve
        return codes.clone()

    @staticmethod
    def backward(ctx, grad):
        (codes,) = ctx.saved_tensors
        with torch.no_grad():
            return ctx.solve((codes != 0).to(grad) * grad), None, None


def conjugate_gradients(apply, right, *, tol=CG_TOL, max_iter=MAX_CG_STEPS):
    """Solutions of positive semidefinite systems, one per sample, by conjugate gradients.

    `apply` is the product with the matrices, a function of a tensor of the shape of `right`; `tol` the relative
    residual.
    """

    def inner(a, b):
        return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))

    solution, residual = torch.zeros_like(right), right
    direction, squares = right, inner(right, right)
    squared_tol = squares * tol**2
    for _ in range(max_iter):
        if bool((squares <= squared_tol).all()):
            break
        image = apply(direction)
        curvature = inner(direction, image)
        active = (squares > squared_tol) & (curvature > 0)
        step = torch.where(active, squares / torch.where(active, curvature, 1), 0)
        solution = solution + step * direction
        residual = residual - step * image
        new_squares = inner(residual, residual)
        direction = residual + torch.where(active, new_squares / torch.where(active, squares, 1), 0) * direction
        squares = torch.where(active, new_squares, squares * 0)
    return solution

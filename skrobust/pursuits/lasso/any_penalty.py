"""`basis_pursuit` by proximal gradient, for any penalty and on any device."""

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

from skrobust.operators import DenseOperator
from skrobust.pursuits.greedy.omp.arrays import checked_signals
from skrobust.pursuits.problem import Problem
from skrobust.pursuits.proximal.fista import fista
from skrobust.pursuits.result import Result
from skrobust.pursuits.units import in_units
from skrobust.signals import batch_slices, is_tensor, kernel_threads, times_power
from skrobust.signals.arrays import as_array

from .arrays import one_alpha_per_signal


def basis_pursuit_by_fista(X, components, *, alpha, penalty, tol, max_iter, sparse_output, n_jobs):
    """The `Result` of `basis_pursuit` under any `Penalty`; does not use a Gram matrix."""
    if is_tensor(X):
        from skrobust.pursuits.greedy.omp.torch import checked_tensors

        X, components = checked_tensors(X, components, "basis_pursuit")
        values, itemsize = X.detach(), X.element_size()
        operator = DenseOperator(components.detach())
    else:
        X, components = checked_signals(X, components)
        assert_all_finite(X, input_name="X")
        values, itemsize, operator = X, X.itemsize, DenseOperator(components)
    alphas = np.array(one_alpha_per_signal(as_array(alpha), len(X)))
    parts = []
    with kernel_threads(n_jobs):
        for batch in batch_slices(len(X), 8 * itemsize * len(components)):
            result = _solve(values[batch], operator, alphas[batch], penalty, tol, max_iter)
            if is_tensor(X):
                codes = _differentiable(X[batch], components, alphas[batch], penalty, result.codes)
                codes = codes.to_sparse() if sparse_output else codes
            else:
                codes = sparse.csr_array(result.codes) if sparse_output else result.codes
            parts.append(result._replace(codes=codes))
    codes, *figures = zip(*parts, strict=True)
    return Result(_concatenated(codes), *map(np.concatenate, figures))


def _solve(X, operator, alphas, penalty, tol, max_iter):
    def solve(values, exponent, rows):
        problem = Problem(values, operator, times_power(alphas[rows], -exponent), penalty)
        start = 0 * problem.analyze(values)
        return fista(problem, start, tol=tol, max_iter=max_iter)

    return in_units(solve, X) if penalty.is_norm else solve(X, 0, slice(None))


def _differentiable(X, components, alphas, penalty, codes):
    """Codes with the derivative of the solution for a fixed support, if autograd needs one."""
    import torch

    if not (torch.is_grad_enabled() and (X.requires_grad or components.requires_grad)):
        return codes
    from skrobust.pursuits.implicit.solution import at_solution, conjugate_gradients

    operator, detached = DenseOperator(components), DenseOperator(components.detach())
    alphas_column = torch.tensor(alphas).to(X)[:, None]
    support = penalty.support(codes).to(X)

    def hessian(v):
        product = detached.analyze(detached.synthesize(v)) + alphas_column * penalty.hessian_product(codes, v)
        return support * product

    slopes = operator.analyze(X - operator.synthesize(codes)) - alphas_column * penalty.gradient(codes)
    return at_solution(slopes, codes, lambda right: conjugate_gradients(hessian, right))


def _concatenated(parts):
    if sparse.issparse(parts[0]):
        return sparse.vstack(parts, format="csr")
    if not is_tensor(parts[0]):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)

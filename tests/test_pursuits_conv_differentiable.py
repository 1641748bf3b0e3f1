"""Differentiable convolutional pursuits: through their iterations and at the solution, with masks and in halves."""

import warnings

import numpy as np
import pytest
import torch
from test_pursuits_conv_pursuit import make_problem

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_basis_pursuit, implicit_pursuit, unrolled_pursuit
from skrobust.pursuits.implicit import conv as differentiable


def test_half_precision_is_solved_in_double():
    operator, X = make_problem()
    for dtype in (torch.float16, torch.bfloat16):
        halves = torch.as_tensor(X).to(dtype)
        expected = convolutional_basis_pursuit(halves.double(), operator, 0.5)
        codes = convolutional_basis_pursuit(halves, operator, 0.5).codes
        np.testing.assert_array_equal(codes, expected.codes)
        assert codes.dtype == implicit_pursuit(halves, operator, 0.5).dtype == torch.float64


def test_differentiable_pursuits_name_wrong_parameters():
    operator, X = make_problem()
    for call in (lambda X: unrolled_pursuit(X, operator, 0.5, n_iter=2), lambda X: implicit_pursuit(X, operator, 0.5)):
        with pytest.raises(TypeError, match="takes tensors, got ndarray"):
            call(X)
        with pytest.raises(ValueError, match="X must have shape"):
            call(torch.as_tensor(X[:, 1:]))
    with pytest.raises(ValueError, match="n_iter must be an integer >= 0, got -1"):
        unrolled_pursuit(torch.as_tensor(X), operator, 0.5, n_iter=-1)


def test_unrolled_reaches_the_solution_and_has_its_derivative():
    operator, X = make_problem((6, 1), (3,), 3, n=2)
    X = torch.as_tensor(X)
    codes = unrolled_pursuit(X, operator, 0.5, n_iter=3000)
    result = convolutional_basis_pursuit(X, operator, 0.5, tol=1e-10, max_iter=20_000)
    torch.testing.assert_close(codes, result.codes, atol=1e-4, rtol=0)

    def few_steps(values, atoms, alpha):
        return unrolled_pursuit(values, ConvolutionalOperator(atoms, (6, 1)), alpha, n_iter=4, step=0.05)

    atoms = torch.as_tensor(operator.components)
    alpha = torch.tensor(0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(few_steps, tuple(t.clone().requires_grad_() for t in (X, atoms, alpha)))


@pytest.mark.parametrize("positive", [False, True])
def test_implicit_derivative(positive):
    operator, X = make_problem((7, 1), (3,), 2, n=2, seed=3)

    def solution(values, atoms, alpha, weights):
        operator = ConvolutionalOperator(atoms, (7, 1))
        return implicit_pursuit(
            values, operator, alpha, positive=positive, weights=weights, tol=1e-14, max_iter=100_000
        )

    inputs = (
        torch.as_tensor(X),
        torch.as_tensor(operator.components),
        torch.tensor(1.0, dtype=torch.float64),
        torch.tensor([1.0, 1.3], dtype=torch.float64),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(solution, tuple(t.clone().requires_grad_() for t in inputs), atol=1e-3)


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("circular", 1), ("full", 2)])
def test_masks_of_differentiable_pursuits(padding, stride):
    operator, X = make_problem((9, 2), (3,), 2, padding, stride, n=2, seed=1)
    mask = np.random.default_rng(2).random((2, 9, 2)) < 0.7
    X = torch.as_tensor(np.where(mask, X, np.nan))
    expected = convolutional_basis_pursuit(X, operator, 0.3, mask=mask, tol=1e-13, max_iter=100_000).codes
    unrolled = unrolled_pursuit(X, operator, 0.3, n_iter=5000, mask=mask)
    torch.testing.assert_close(unrolled, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        implicit_pursuit(X, operator, 0.3, mask=torch.as_tensor(mask), tol=1e-13, max_iter=100_000), expected
    )

    def of(pursuit, **parameters):
        def codes(values, atoms, alpha):
            params = {"padding": padding, "stride": stride}
            return pursuit(values, ConvolutionalOperator(atoms, (9, 2), **params), alpha, mask=mask, **parameters)

        return codes

    inputs = [v.clone().requires_grad_() for v in (X.nan_to_num(), torch.as_tensor(operator.components))]
    inputs.append(torch.tensor(0.3, dtype=torch.float64, requires_grad=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(of(unrolled_pursuit, n_iter=4, step=0.05), inputs)
        implicit = of(implicit_pursuit, tol=1e-14, max_iter=100_000)
        assert torch.autograd.gradcheck(implicit, inputs, atol=1e-3)
        (slope,) = torch.autograd.grad(implicit(*inputs).sum(), inputs[0])
        (alone,) = torch.autograd.grad(implicit(inputs[0], *(v.detach() for v in inputs[1:])).sum(), inputs[0])
    torch.testing.assert_close(alone, slope)
    assert not slope[~torch.as_tensor(mask)].any() and slope.any()


@pytest.mark.parametrize("masked", [False, True])
def test_both_ways_of_the_backward_pass_agree(masked):
    operator, X = make_problem((8, 7, 2), (3, 2), 4, "full", 2)
    mask = torch.as_tensor(np.random.default_rng(1).random((3, 8, 7, 1)) < 0.7).double() if masked else None
    codes = convolutional_basis_pursuit(torch.as_tensor(X), operator, 1.0, mask=mask, tol=1e-9, max_iter=20_000).codes
    right = torch.as_tensor(np.random.default_rng(2).normal(size=codes.shape)) * (codes != 0)
    on_tensors = ConvolutionalOperator(torch.as_tensor(operator.components), (8, 7, 2), padding="full", stride=2)
    among_few = differentiable.support_solver(on_tensors, codes, mask)(right)
    by_convolutions = differentiable.support_solver(on_tensors, codes, mask, hessian=lambda v: 0 * v)(right)
    assert (among_few != 0).any() and not among_few[codes == 0].any()
    torch.testing.assert_close(by_convolutions, among_few, rtol=1e-4, atol=1e-6)

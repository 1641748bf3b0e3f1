"""Deep pursuit differentiated at its solution."""

import numpy as np
import pytest
import torch

from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, deep_pursuit, implicit_deep_pursuit


def problem(dtype=torch.float64, n=2, seed=0):
    rng = np.random.default_rng(seed)
    shape, atoms = (5, 4, 1), []
    for n_atoms in (2, 3, 2):
        atom = rng.normal(size=(n_atoms, 2, 2, shape[-1]))
        atoms.append(torch.tensor(atom / np.linalg.norm(atom.reshape(n_atoms, -1), axis=1).max(), dtype=dtype))
        shape = ConvolutionalOperator(atom, shape).code_shape
    X = torch.tensor(2 * rng.normal(size=(n, 5, 4, 1)), dtype=dtype)
    alphas = [torch.tensor(rng.uniform(0.1, 0.2, size=len(a)), dtype=dtype) for a in atoms]
    return X, atoms, alphas


def dictionary(atoms, skip, matrix=None):
    shape, operators = (5, 4, 1), []
    for a in atoms:
        operators.append(ConvolutionalOperator(a, shape))
        shape = operators[-1].code_shape
    return LayeredDictionary(operators, {(3, 1): matrix} if matrix is not None else skip)


def flat(codes):
    return torch.cat([w.flatten(1) for w in codes], dim=1)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("skip", [None, "residual", "learned"])
def test_derivatives_in_everything_are_those_of_many_sweeps(skip, positive):
    X, atoms, alphas = problem()
    matrix = torch.tensor([[0.5, 0.1], [0.2, -0.4], [0.0, 0.3]], dtype=torch.float64) if skip == "learned" else None
    inputs = [X, *atoms, *alphas] + ([] if matrix is None else [matrix])
    for values in inputs:
        values.requires_grad_()
    layers = dictionary(atoms, skip, matrix)
    implicit = flat(implicit_deep_pursuit(X, layers, alphas, positive=positive, tol=1e-14, max_iter=2000))
    steps = [1 / layers.block_lipschitz(j) for j in range(3)]
    unrolled = deep_pursuit(X, layers, alphas, positive=positive, max_iter=1500, step=steps, extrapolate=False).codes
    unrolled = flat(unrolled)
    assert 0.05 < float((implicit != 0).double().mean()) < 0.95
    np.testing.assert_allclose(implicit.detach(), unrolled.detach(), atol=1e-6)
    weights = torch.linspace(-1, 1, implicit.shape[1], dtype=torch.float64)
    found, expected = (torch.autograd.grad((codes * weights).sum(), inputs) for codes in (implicit, unrolled))
    for one, other in zip(found, expected, strict=True):
        assert float(other.abs().max()) > 0
        np.testing.assert_allclose(one, other, atol=1e-4 * float(other.abs().max()))


def test_gradcheck_in_signals_and_penalties():
    X, atoms, alphas = problem(n=1)
    layers = dictionary([a.numpy() for a in atoms], "residual")

    def solution(X, *alphas):
        return flat(implicit_deep_pursuit(X, layers, list(alphas), tol=1e-14, max_iter=2000))

    inputs = X.requires_grad_(), *(alpha.requires_grad_() for alpha in alphas)
    # Codes are piecewise linear in both; they are found to about 1e-8.
    assert torch.autograd.gradcheck(solution, inputs, eps=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_remembers_little_and_keeps_the_dtype(dtype):
    X, atoms, alphas = problem(dtype, n=3)
    kept = []
    layers = dictionary([a.numpy() for a in atoms], None)
    X.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        codes = implicit_deep_pursuit(X, layers, 0.1, tol=1e-5, max_iter=5000)
    assert [tuple(w.shape[1:]) for w in codes] == layers.code_shapes and codes[0].dtype == dtype
    size = 3 * sum(int(np.prod(shape)) for shape in layers.code_shapes)
    assert sum(t.numel() for t in kept) < 10 * size
    codes[-1].sum().backward()
    assert X.grad.dtype == dtype and bool(X.grad.isfinite().all())


def test_a_signal_without_codes_has_no_gradient():
    X, atoms, alphas = problem(n=2)
    X[1] = 0
    X.requires_grad_()
    codes = implicit_deep_pursuit(X, dictionary(atoms, None), 0.1)
    codes[-1].sum().backward()
    assert not flat(codes)[1].any() and not X.grad[1].any() and X.grad[0].any()
    with pytest.raises(ValueError, match="alpha must be > 0"):
        implicit_deep_pursuit(X, dictionary(atoms, None), 0.0)

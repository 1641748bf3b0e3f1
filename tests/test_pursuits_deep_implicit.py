"""Deep pursuit differentiated at its solution."""

import numpy as np
import pytest
import torch

from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import implicit_deep_pursuit


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


def closed_form(X, layers, alphas, codes):
    """The solution on the support of `codes`, from the matrix of the structured dictionary."""
    sizes = [int(np.prod(shape)) for shape in layers.code_shapes]
    units = torch.eye(sum(sizes), dtype=X.dtype).split(sizes, dim=1)
    units = [unit.reshape(-1, *shape) for unit, shape in zip(units, layers.code_shapes, strict=True)]
    dense = -flat(layers.residuals(X.new_zeros(sum(sizes), *X.shape[1:]), units)).T
    penalties = flat([alpha.expand(1, *shape) for alpha, shape in zip(alphas, layers.code_shapes, strict=True)])[0]
    nothing = [X.new_zeros(len(X), *shape) for shape in layers.code_shapes]
    signals = flat([layers.target(j, X, nothing) for j in range(layers.n_layers)])
    rows = []
    for b, w in zip(signals, codes.detach(), strict=True):
        support = w != 0
        atoms = dense[:, support]
        right = atoms.T @ b - penalties[support] * w[support].sign()
        rows.append(X.new_zeros(len(w)).index_put((support,), torch.linalg.solve(atoms.T @ atoms, right)))
    return torch.stack(rows)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("skip", [None, "residual", "learned"])
def test_derivatives_in_everything_are_those_of_the_closed_form(skip, positive):
    X, atoms, alphas = problem()
    matrix = torch.tensor([[0.5, 0.1], [0.2, -0.4], [0.0, 0.3]], dtype=torch.float64) if skip == "learned" else None
    inputs = [X, *atoms, *alphas] + ([] if matrix is None else [matrix])
    for values in inputs:
        values.requires_grad_()
    layers = dictionary(atoms, skip, matrix)
    implicit = flat(implicit_deep_pursuit(X, layers, alphas, positive=positive, tol=1e-12, max_iter=600))
    expected = closed_form(X, layers, alphas, implicit)
    assert 0.05 < float((implicit != 0).double().mean()) < 0.95
    np.testing.assert_allclose(implicit.detach(), expected.detach(), atol=1e-4)
    weights = torch.linspace(-1, 1, implicit.shape[1], dtype=torch.float64)
    derivatives, exact = (torch.autograd.grad((codes * weights).sum(), inputs) for codes in (implicit, expected))
    for one, other in zip(derivatives, exact, strict=True):
        assert float(other.abs().max()) > 0
        np.testing.assert_allclose(one, other, atol=1e-4 * float(other.abs().max()))


def test_gradcheck_in_signals_and_penalties():
    X, atoms, alphas = problem(n=1)
    layers = dictionary([a.numpy() for a in atoms], "residual")

    def solution(X, *alphas):
        return flat(implicit_deep_pursuit(X, layers, list(alphas), tol=1e-13, max_iter=1000))

    inputs = X.requires_grad_(), *(alpha.requires_grad_() for alpha in alphas)
    # Codes are piecewise linear in both; they are found to about 1e-8.
    assert torch.autograd.gradcheck(solution, inputs, eps=1e-4, atol=1e-3, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_is_bounded_and_the_dtype_is_kept(dtype):
    X, atoms, alphas = problem(dtype, n=3)
    saved = []
    layers = dictionary([a.numpy() for a in atoms], None)
    X.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        codes = implicit_deep_pursuit(X, layers, 0.1, tol=1e-5, max_iter=5000)
    assert [tuple(w.shape[1:]) for w in codes] == layers.code_shapes and codes[0].dtype == dtype
    size = 3 * sum(int(np.prod(shape)) for shape in layers.code_shapes)
    assert sum(t.numel() for t in saved) < 10 * size
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

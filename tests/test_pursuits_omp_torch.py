"""Orthogonal matching pursuit of tensors: lock-step torch against the kernels, gradients against differences."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from test_pursuits_omp import problem

from skrobust.pursuits import Result, orthogonal_mp
from skrobust.pursuits.greedy.omp import torch as _omp_torch

SETTINGS = {"n_nonzero_coefs": 4, "tol": None, "selection": "omp"}


def with_residual(result):
    """Codes and norms of the residuals of a greedy pursuit."""
    return result.codes, np.sqrt(2 * result.objective)


def dense(atoms, values, n_atoms):
    return torch.zeros(len(atoms), n_atoms + 1, dtype=values.dtype).scatter(1, atoms, values)[:, :n_atoms]


def lock_step(X, components, gram=None, mask=None, **settings):
    X, components = torch.as_tensor(X), torch.as_tensor(components)
    atoms, values, *figures = _omp_torch.by_lock_step(X, components, gram, mask, None, {**SETTINGS, **settings})
    return with_residual(Result(dense(atoms, values, len(components)), *figures))


@pytest.mark.parametrize("selection", ["omp", "ols"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_lock_step_agrees_with_the_kernels(selection, unit, k):
    X, components = problem(k, 60, 40, 13, 4, 0.2, unit)
    X[5] = 0
    settings = {"n_nonzero_coefs": k, "selection": selection}
    codes, residual = with_residual(orthogonal_mp(X, components, return_result=True, **settings))
    for gram in (None, torch.tensor(components @ components.T)):
        result, norms = lock_step(X, components, gram, **settings)
        np.testing.assert_allclose(result, codes.toarray(), atol=1e-8)
        np.testing.assert_allclose(norms, residual, atol=1e-9)


@pytest.mark.parametrize("selection", ["omp", "ols"])
def test_lock_step_with_tolerances_and_masks(selection, monkeypatch):
    X, components = problem(3, 40, 30, 14, noise=0.3, unit=False)
    mask = np.random.default_rng(0).random(X.shape) < 0.8
    mask[0] = False
    tol = np.linspace(0.1, 0.6, 40) * np.linalg.norm(X, axis=1)
    for masked in (None, mask):
        codes, residual = with_residual(
            orthogonal_mp(
                X, components, n_nonzero_coefs=6, tol=tol, mask=masked, selection=selection, return_result=True
            )
        )
        given = None if masked is None else torch.tensor(masked)
        seen = X if masked is None else X * masked
        settings = {"n_nonzero_coefs": 6, "tol": tol, "selection": selection}
        result, norms = lock_step(seen, components, mask=given, **settings)
        np.testing.assert_allclose(result, codes.toarray(), atol=1e-8)
        np.testing.assert_allclose(norms, residual, atol=1e-9)
        monkeypatch.setattr(_omp_torch, "get_config", lambda: {"working_memory": 0})  # no room for a Gram matrix
        np.testing.assert_allclose(lock_step(seen, components, mask=given, **settings)[0], result, atol=1e-10)
        monkeypatch.undo()


def test_lock_step_in_float32_with_tiny_and_huge_signals():
    X, components = (a.astype(np.float32) for a in problem(0, 200, 40, 20))
    result, residual = lock_step(X, components)
    codes, norms = with_residual(orthogonal_mp(X, components, n_nonzero_coefs=4, return_result=True))
    assert result.dtype == torch.float32 and residual.dtype == np.float64
    same = ((result.numpy() != 0) == (codes.toarray() != 0)).all(axis=1)
    assert same.mean() > 0.98
    np.testing.assert_allclose(result.numpy()[same], codes.toarray()[same], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(residual, norms, rtol=1e-3, atol=1e-5)
    for scale in (np.float32(2.0**-100), np.float32(2.0**100)):
        np.testing.assert_array_equal(lock_step(X * scale, components)[0], result * scale)


def test_lock_step_warns_and_never_returns_nan():
    rng = np.random.default_rng(0)
    components = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 12))
    X = rng.normal(size=(10, 12))
    result, residual = lock_step(X, components, n_nonzero_coefs=10)
    expected = np.linalg.norm(X - X @ np.linalg.pinv(components) @ components, axis=1)
    np.testing.assert_allclose(residual, expected, atol=1e-9)
    with pytest.warns(ConvergenceWarning, match="10 of 10 signals did not reach tol"):
        lock_step(X, components[:2], n_nonzero_coefs=None, tol=0.0)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("sparse_output", [True, False])
def test_tensors_in_tensors_out(sparse_output):
    X, components = problem(0, 30, 25, 12)
    for dtype, tensor_dtype in ((np.float64, torch.float64), (np.float32, torch.float32)):
        expected = orthogonal_mp(X.astype(dtype), components, n_nonzero_coefs=3)
        codes, residual = with_residual(
            orthogonal_mp(
                torch.tensor(X, dtype=tensor_dtype),
                torch.tensor(components),
                n_nonzero_coefs=3,
                sparse_output=sparse_output,
                return_result=True,
            )
        )
        assert codes.is_sparse == sparse_output and codes.dtype == tensor_dtype and residual.dtype == np.float64
        assert codes.shape == (30, 25)
        np.testing.assert_array_equal(codes.to_dense(), expected.toarray())
    mask = np.random.default_rng(0).random(X.shape) < 0.8
    masked = orthogonal_mp(torch.tensor(np.where(mask, X, np.nan)), components, n_nonzero_coefs=3, mask=mask)
    np.testing.assert_array_equal(
        masked.to_dense(), orthogonal_mp(X, components, n_nonzero_coefs=3, mask=mask).toarray()
    )
    integers = orthogonal_mp(torch.arange(12).reshape(1, 12), components, n_nonzero_coefs=3)
    assert integers.dtype == torch.float64
    tol = torch.linspace(0.1, 1, 30, dtype=torch.float64)
    by_tol = orthogonal_mp(torch.tensor(X), components, tol=tol)
    np.testing.assert_array_equal(by_tol.to_dense(), orthogonal_mp(X, components, tol=tol.numpy()).toarray())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_gradients(masked, unit):
    X, components = problem(2, 7, 15, 9, noise=0.2, unit=unit)
    mask = torch.tensor(np.random.default_rng(0).random(X.shape) < 0.7) if masked else None
    X = torch.tensor(X, requires_grad=True)
    components = torch.tensor(components, requires_grad=True)

    def codes(X, components):
        return orthogonal_mp(X, components, n_nonzero_coefs=3, mask=mask, sparse_output=False)

    assert torch.autograd.gradcheck(codes, (X, components), eps=1e-7, atol=1e-4)
    weights = torch.tensor(np.random.default_rng(1).normal(size=(7, 15)))
    expected = torch.autograd.grad((codes(X, components) * weights).sum(), (X, components))
    sparse_codes = orthogonal_mp(X, components, n_nonzero_coefs=3, mask=mask)
    gradients = torch.autograd.grad((sparse_codes.to_dense() * weights).sum(), (X, components))
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_gradients_where_nothing_is_selected():
    X, components = (torch.tensor(a) for a in problem(2, 7, 15, 9))
    X[2], components[4] = 0, 0
    X, components = X.requires_grad_(), components.requires_grad_()
    for settings in ({"n_nonzero_coefs": 3}, {"tol": 100.0}):
        codes = orthogonal_mp(X, components, sparse_output=False, **settings)
        of_X, of_components = torch.autograd.grad(codes.sum(), (X, components))
        assert torch.isfinite(of_X).all() and torch.isfinite(of_components).all()
        assert not of_X[2].any() and not of_components[4].any()


def test_errors():
    X, components = (torch.tensor(a) for a in problem())
    with pytest.raises(ValueError, match="NaN or infinity"):
        orthogonal_mp(torch.where(X > 1, torch.nan, X), components)
    with pytest.raises(ValueError, match="components"):
        orthogonal_mp(X, torch.full_like(components, torch.inf))
    with pytest.raises(ValueError, match="12 features, but components has 11"):
        orthogonal_mp(X, components[:, 1:])
    with pytest.raises(ValueError, match="mask must be boolean"):
        orthogonal_mp(X, components, mask=torch.ones(20, 12))
    with pytest.raises(ValueError, match="mask must be boolean"):
        lock_step(X, components, mask=torch.ones(20, 12))
    with pytest.raises(ValueError, match="gram has shape"):
        lock_step(X, components, torch.eye(3))
    with pytest.raises(ValueError, match="31 is more than the 30 atoms"):
        lock_step(X, components, n_nonzero_coefs=31)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("selection", ["omp", "ols"])
def test_cuda(selection):
    X, components = problem(0, 300, 60, 20, unit=False)
    expected = orthogonal_mp(X, components, n_nonzero_coefs=4, selection=selection)
    T = torch.tensor(X, device="cuda", requires_grad=True)
    codes = orthogonal_mp(T, components, n_nonzero_coefs=4, selection=selection)
    assert codes.is_cuda and codes.is_sparse
    np.testing.assert_allclose(codes.to_dense().detach().cpu(), expected.toarray(), atol=1e-8)
    there = torch.autograd.grad(codes.to_dense().square().sum(), T)[0]
    here = torch.tensor(X, requires_grad=True)
    codes = orthogonal_mp(here, components, n_nonzero_coefs=4, selection=selection)
    np.testing.assert_allclose(there.cpu(), torch.autograd.grad(codes.to_dense().square().sum(), here)[0], atol=1e-8)

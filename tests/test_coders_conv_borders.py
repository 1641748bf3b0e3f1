"""`ConvSparseCoder` and its torch module against a dense matrix that is built by index arithmetic alone."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from test_pursuits_conv_operator import PADDINGS, dense_dictionary

from skrobust import ConvSparseCoder, as_module

GRID, KERNEL, ALPHA = (6, 7), (2, 3), 0.2
BORDERS = list(itertools.product(PADDINGS, (1, 2, 3), (1, 3)))


def problem(padding, stride, n_channels, dtype=np.float64, n_samples=3, **parameters):
    """A fitted coder, its signals as rows, and the matrix of its dictionary."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(2, *KERNEL, n_channels))
    atoms /= np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))
    X = rng.normal(size=(n_samples, *GRID, n_channels)).astype(dtype)
    settings = {"alpha": ALPHA, "tol": 1e-10 if dtype == np.float64 else 1e-5, "max_iter": 50_000, **parameters}
    coder = ConvSparseCoder(
        dictionary=atoms, padding=padding, stride=stride, image_shape=(*GRID, n_channels), **settings
    ).fit(X.reshape(n_samples, -1))
    return coder, X.reshape(n_samples, -1), dense_dictionary(atoms, X.shape[1:], padding, stride)


def objective(X, D, codes):
    return 0.5 * np.square(X - codes @ D.T).sum(axis=1) + ALPHA * np.abs(codes).sum(axis=1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("padding, stride, n_channels", BORDERS)
def test_coder_solves_the_dense_lasso(padding, stride, n_channels, dtype):
    coder, X, D = problem(padding, stride, n_channels, dtype)
    codes = coder.transform(X)
    assert codes.dtype == dtype and codes.shape == (len(X), D.shape[1])
    assert 0 < (codes != 0).mean() < 0.9
    lasso = Lasso(ALPHA / len(D), fit_intercept=False, tol=1e-12, max_iter=200_000)
    expected = np.stack([lasso.fit(D, x).coef_ for x in X.astype(np.float64)])
    exact = codes.astype(np.float64)
    rtol, atol = (1e-9, 1e-5) if dtype == np.float64 else (1e-5, 5e-3)  # a gap g moves codes by about sqrt(g)
    np.testing.assert_allclose(objective(X, D, exact), objective(X, D, expected), rtol=rtol)
    np.testing.assert_allclose(exact @ D.T, expected @ D.T, atol=atol)
    if np.linalg.matrix_rank(D) == D.shape[1]:  # the solution is unique
        np.testing.assert_allclose(exact, expected, atol=atol)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("padding, stride, n_channels", BORDERS)
def test_inverse_and_reconstruction_are_the_dense_product(padding, stride, n_channels, dtype):
    coder, X, D = problem(padding, stride, n_channels, dtype)
    codes = coder.transform(X)
    atol = 1e-12 if dtype == np.float64 else 3e-6
    np.testing.assert_allclose(coder.inverse_transform(codes), codes @ D.T, atol=atol)
    front_end, _, _ = problem(padding, stride, n_channels, dtype, output="reconstruction")
    np.testing.assert_allclose(front_end.transform(X), codes @ D.T, atol=atol)


@pytest.mark.parametrize("padding, stride, n_channels", BORDERS)
def test_thresholding_is_that_of_dense_correlations(padding, stride, n_channels):
    coder, X, D = problem(padding, stride, n_channels, pursuit="thresholding")
    correlations = X @ D
    expected = np.sign(correlations) * np.maximum(np.abs(correlations) - ALPHA, 0)
    np.testing.assert_allclose(coder.transform(X), expected, atol=1e-12)
    np.testing.assert_allclose(as_module(coder)(torch.tensor(X)), expected, atol=1e-12)


def dense_ista(X, D, n_iter):
    """Plain proximal gradient by matrix products, recorded by autograd."""
    step = 1 / np.linalg.norm(D.numpy(), 2) ** 2
    codes = X.new_zeros(len(X), D.shape[1])
    for _ in range(n_iter):
        codes = torch.nn.functional.softshrink(codes + step * (X - codes @ D.T) @ D, step * ALPHA)
    return codes


@pytest.mark.parametrize("output", ["code", "reconstruction"])
@pytest.mark.parametrize("padding, stride, n_channels", BORDERS)
def test_module_and_its_gradient_are_those_of_dense_ista(padding, stride, n_channels, output):
    coder, X, D = problem(padding, stride, n_channels, output=output, tol=1e-12)
    D = torch.tensor(D)
    if output == "code" and torch.linalg.matrix_rank(D) < D.shape[1]:
        pytest.skip("several codes solve the problem; the reconstruction is still unique")
    by_module, by_ista = (torch.tensor(X, requires_grad=True) for _ in range(2))
    result = as_module(coder)(by_module)
    expected = dense_ista(by_ista, D, 6000)
    expected = expected if output == "code" else expected @ D.T
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    weights = torch.tensor(np.random.default_rng(1).normal(size=tuple(result.shape)))
    (result * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(by_module.grad, by_ista.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradient_of_the_module_is_that_of_differences_of_a_dense_lasso(padding):
    coder, X, D = problem(padding, 2, 1, n_samples=1, output="reconstruction", tol=1e-12)
    weights = np.random.default_rng(1).normal(size=X.shape[1])
    lasso = Lasso(ALPHA / len(D), fit_intercept=False, tol=1e-14, max_iter=200_000)

    def value(x):
        return float(weights @ (D @ lasso.fit(D, x).coef_))

    x = torch.tensor(X, requires_grad=True)
    (as_module(coder)(x)[0] * torch.tensor(weights)).sum().backward()
    width = 1e-5
    differences = [(value(X[0] + width * e) - value(X[0] - width * e)) / (2 * width) for e in np.eye(X.shape[1])]
    np.testing.assert_allclose(x.grad[0], differences, atol=1e-4)

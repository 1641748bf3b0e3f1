"""The lasso against scikit-learn's, its optimality conditions and its own certificate."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, lasso_path
from test_pursuits_omp import problem

from skrobust.pursuits import L1
from skrobust.pursuits.lasso.any_penalty import basis_pursuit_by_fista
from skrobust.pursuits.lasso.dense import alpha_max, basis_pursuit

DTYPES = [np.float64, np.float32]


def with_gap(result):
    return result.codes, result.gap


def objective(Z, X, components, alpha):
    Z = Z.toarray() if hasattr(Z, "toarray") else Z
    return 0.5 * np.sum((X - Z @ components) ** 2, axis=1) + alpha * np.abs(Z).sum(axis=1)


def by_sklearn(X, components, alphas, positive=False):
    """scikit-learn divides the quadratic term by the number of features."""
    d = X.shape[1]
    models = (Lasso(a / d, fit_intercept=False, positive=positive, tol=1e-13, max_iter=10**6) for a in alphas)
    return np.array([model.fit(components.T, x).coef_ for model, x in zip(models, X, strict=True)])


@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 70),
    d=st.integers(1, 30),
    share=st.floats(0.02, 1.2),
    positive=st.booleans(),
    unit=st.booleans(),
)
def test_optimal_and_certified(seed, m, d, share, positive, unit):
    """The conditions of Karush, Kuhn and Tucker hold to the gap, and the gap bounds the suboptimality."""
    X, components = problem(seed, 4, m, d, 3, 0.2, unit)
    alpha = share * np.abs(X @ components.T).max(axis=1)
    codes, gap = with_gap(basis_pursuit(
        X, components, alpha=alpha, positive=positive, tol=1e-6, max_iter=10**5, return_result=True, sparse_output=False
    ))
    value = objective(codes, X, components, alpha)
    assert (gap <= 1e-6 * value).all()
    correlations = (X - codes @ components) @ components.T
    slack = np.sqrt(2 * gap)[:, None] * np.linalg.norm(components, axis=1) + 1e-9
    excess = (correlations if positive else np.abs(correlations)) - alpha[:, None]
    # The residual is within sqrt(2 gap) of the dual solution, whose correlations are at most alpha.
    assert (excess <= 2 * slack).all()
    assert (np.abs(correlations - alpha[:, None] * np.sign(codes))[np.abs(codes) > 1e-3] < 1e-2 * alpha.max() + 1).all()
    if positive:
        assert codes.min() >= 0
    tight = basis_pursuit(X, components, alpha=alpha, positive=positive, tol=1e-11, max_iter=10**6, sparse_output=False)
    best = objective(tight, X, components, alpha)
    assert (value - best <= gap + 1e-12 * value).all()
    assert (best <= value + 1e-12 * value).all()


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("m", [9, 40, 300])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_equals_sklearn(m, share, positive):
    X, components = problem(m, 10, m, 16, 4, 0.1, unit=False)
    alphas = share * alpha_max(X, components, positive=positive) * np.linspace(0.8, 1.2, 10)
    expected = by_sklearn(X, components, alphas, positive)
    codes, gap = with_gap(basis_pursuit(
        X, components, alpha=alphas, positive=positive, tol=1e-11, max_iter=10**6, return_result=True
    ))
    reference = objective(expected, X, components, alphas)
    np.testing.assert_allclose(objective(codes, X, components, alphas), reference, rtol=1e-10)
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-4)
    loose, gap = with_gap(basis_pursuit(X, components, alpha=alphas, positive=positive, tol=1e-2, return_result=True))
    lost = objective(loose, X, components, alphas) - reference
    assert (lost <= gap + 1e-10).all() and (gap <= 1e-2 * objective(loose, X, components, alphas)).all()


def test_equals_the_path_of_sklearn():
    X, components = problem(1, 1, 50, 20)
    alphas, path, _ = lasso_path(components.T, X[0], n_alphas=15, tol=1e-12, max_iter=10**6)
    codes = basis_pursuit(np.repeat(X, 15, axis=0), components, alpha=alphas * 20, tol=1e-11, max_iter=10**6)
    np.testing.assert_allclose(codes.toarray(), path.T, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_sizes_and_working_sets_larger_than_their_copy(dtype):
    """Small penalties use more atoms than the copied part of the Gram matrix holds."""
    for n, m, d, share in ((1, 1, 1, 0.5), (300, 17, 5, 0.1), (6, 700, 300, 0.01), (3, 130, 63, 0.3)):
        X, components = (a.astype(dtype) for a in problem(2, n, m, d, m // 3 + 1, 0.1))
        alphas = share * alpha_max(X, components).astype(float)
        tol = 1e-4 if dtype == np.float32 else 1e-9
        codes, gap = with_gap(basis_pursuit(X, components, alpha=alphas, tol=tol, max_iter=10**5, return_result=True))
        assert codes.dtype == dtype and gap.dtype == np.float64 and codes.has_canonical_format
        X, components = X.astype(float), components.astype(float)
        value = objective(codes.astype(float), X, components, alphas)
        best = basis_pursuit(X, components, alpha=alphas, tol=1e-12, max_iter=10**6)
        lost = value - objective(best, X, components, alphas)
        assert (lost <= gap + 1e-6 * value).all() if dtype == np.float32 else (lost <= gap + 1e-13).all()
        assert (gap <= tol * value * 1.01).all()
        if (m, share) == (700, 0.01):
            assert np.diff(codes.indptr).max() > 192


@pytest.mark.parametrize("positive", [False, True])
def test_alpha_max(positive):
    X, components = problem(4, 30, 20, 8, unit=False)
    X[3] = 0
    if positive:
        components = np.abs(components)
        X[5] = -np.abs(X[5])
    top = alpha_max(X, components, positive=positive)
    assert top[3] == 0 and (top[5] == 0) == positive
    above = basis_pursuit(X, components, alpha=np.maximum(top * (1 + 1e-12), 1e-3), positive=positive)
    assert above.nnz == 0
    used = top > 0
    below = basis_pursuit(X[used], components, alpha=top[used] * 0.99, positive=positive, tol=1e-8, max_iter=10**5)
    assert (np.diff(below.indptr) >= 1).all()
    tensor = alpha_max(torch.tensor(X), torch.tensor(components), positive=positive)
    np.testing.assert_allclose(tensor, top, atol=1e-12)


def test_zero_equal_and_dependent_atoms():
    X, components = problem(0, 20, 12, 10)
    expected = basis_pursuit(X, components, alpha=0.1, tol=1e-10)
    more = np.vstack([components, np.zeros((2, 10)), components[[0, 0, 3]], -components[[5]]])
    codes, gap = with_gap(basis_pursuit(X, more, alpha=0.1, tol=1e-10, return_result=True))
    assert not codes.toarray()[:, 12:14].any()
    np.testing.assert_allclose(codes @ more, expected @ components, atol=1e-4)
    np.testing.assert_allclose(objective(codes, X, more, 0.1), objective(expected, X, components, 0.1), rtol=1e-9)
    assert basis_pursuit(X, np.zeros((3, 10)), alpha=0.1).nnz == 0


def test_the_result_does_not_depend_on_threads_batches_order_or_given_gram():
    X, components = problem(0, 700, 40, 20)
    expected = basis_pursuit(X, components, alpha=0.05, n_jobs=1)
    for array in (X, components):
        array.setflags(write=False)
    for other in (
        basis_pursuit(X, components, alpha=0.05, n_jobs=2),
        basis_pursuit(np.asfortranarray(X), components, alpha=0.05),
        basis_pursuit(X[::-1], components, alpha=0.05)[::-1],
    ):
        assert (other != expected).nnz == 0
    with config_context(working_memory=0.01):
        assert (basis_pursuit(X, components, alpha=0.05) != expected).nnz == 0
    by_gram = basis_pursuit(X, components, alpha=0.05, gram=components @ components.T, sparse_output=False)
    np.testing.assert_allclose(by_gram, expected.toarray(), atol=1e-8)


def test_scale():
    """Gap and objective keep their ratio whatever the units."""
    for dtype, powers in ((np.float64, (-100, 100)), (np.float32, (-25, 18))):
        X, components = (a.astype(dtype) for a in problem(0, 20, 30, 12))
        expected = basis_pursuit(X, components, alpha=0.1)
        for power in powers:
            scale = 2.0 ** (power * 3)
            codes = basis_pursuit(X * dtype(scale), components, alpha=0.1 * scale)
            np.testing.assert_array_equal(codes.toarray() / dtype(scale), expected.toarray())


def test_tolerances_that_cannot_be_met():
    X, components = problem(0, 20, 60, 12)
    with pytest.warns(ConvergenceWarning, match="20 of 20 signals ended at max_iter=1, .* above tol=1e-09"):
        codes, gap = with_gap(basis_pursuit(X, components, alpha=0.01, tol=1e-9, max_iter=1, return_result=True))
    best = basis_pursuit(X, components, alpha=0.01, tol=1e-10, max_iter=10**6)
    assert (objective(codes, X, components, 0.01) - objective(best, X, components, 0.01) <= gap).all()
    with pytest.warns(ConvergenceWarning, match="use float64"):
        basis_pursuit(X.astype(np.float32), components, alpha=0.01, tol=1e-12, max_iter=10**5)


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        ("'alpha' parameter", {"alpha": 0.0}),
        ("alpha must be positive and finite, got -1.0", {"alpha": [-1.0] * 20}),
        ("alpha must be positive and finite, got nan", {"alpha": np.full(20, np.nan)}),
        (r"alpha must be a number or have shape", {"alpha": np.ones(3)}),
        ("'tol' parameter", {"tol": 0}),
        ("'max_iter' parameter", {"max_iter": 0}),
        (r"gram has shape \(2, 2\)", {"gram": np.eye(2)}),
    ],
)
def test_errors_of_settings(error, settings):
    X, components = problem()
    with pytest.raises(ValueError, match=error):
        basis_pursuit(X, components, **{"alpha": 0.1, **settings})


def test_errors_of_arrays():
    X, components = problem()
    for bad in (np.nan, np.inf):
        broken = X.copy()
        broken[3, 4] = bad
        for wrap in (np.asarray, torch.tensor):
            with pytest.raises(ValueError, match="X contains|NaN or infinity"):
                basis_pursuit(wrap(broken), components, alpha=0.1)
            with pytest.raises(ValueError, match="components"):
                basis_pursuit(wrap(X), np.where(components > 0.5, bad, components), alpha=0.1)
    for wrap in (np.asarray, torch.tensor):
        with pytest.raises(ValueError, match="X has 11 features, but components has 12"):
            basis_pursuit(wrap(X[:, 1:]), components, alpha=0.1)
        with pytest.raises(ValueError, match="0 sample"):
            basis_pursuit(wrap(X[:0]), components, alpha=0.1)
    large = basis_pursuit(X * 1e200, components, alpha=0.1e200).toarray()
    np.testing.assert_allclose(large / 1e200, basis_pursuit(X, components, alpha=0.1).toarray(), atol=1e-3)


# Tensors


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_proximal_gradient_agrees_with_the_kernels(positive, dtype):
    X, components = problem(7, 40, 60, 20, unit=False)
    X[4] = 0
    alphas = 0.1 * np.maximum(alpha_max(X, components, positive=positive), 0.1)
    tol = 1e-10 if dtype == torch.float64 else 1e-5
    result = basis_pursuit_by_fista(  # as on other devices
        torch.tensor(X, dtype=dtype), torch.tensor(components, dtype=dtype), alpha=alphas, tol=tol, max_iter=10**5,
        penalty=L1(positive=positive), sparse_output=False, n_jobs=None,
    )  # fmt: skip
    codes, gap = result.codes.numpy().astype(float), result.gap
    assert result.converged.all()
    expected = basis_pursuit(X, components, alpha=alphas, positive=positive, tol=1e-11, max_iter=10**5)
    best = objective(expected, X, components, alphas)
    value = objective(codes, X, components, alphas)
    assert ((value - best) <= gap + 1e-6 * (dtype == torch.float32)).all()
    assert (gap <= tol * value * 1.001).all()
    np.testing.assert_allclose(codes, expected.toarray(), atol=1e-4 if dtype == torch.float64 else 3e-2)


@pytest.mark.parametrize("sparse_output", [False, True])
def test_tensors_in_tensors_out(sparse_output):
    X, components = problem(0, 30, 25, 12)
    expected, gap = with_gap(basis_pursuit(X, components, alpha=0.1, return_result=True))
    codes, bound = with_gap(basis_pursuit(
        torch.tensor(X), torch.tensor(components), alpha=torch.full((30,), 0.1, dtype=torch.float64),
        sparse_output=sparse_output, return_result=True,
    ))  # fmt: skip
    assert codes.is_sparse == sparse_output
    np.testing.assert_array_equal(codes.to_dense(), expected.toarray())
    np.testing.assert_array_equal(bound, gap)
    assert basis_pursuit(torch.tensor(X, dtype=torch.float32), components, alpha=0.1).dtype == torch.float32


@pytest.mark.parametrize("positive", [False, True])
def test_gradients(positive):
    X, components = problem(3, 5, 14, 8, unit=False)
    X, components = torch.tensor(X, requires_grad=True), torch.tensor(components, requires_grad=True)

    def codes(X, components):
        return basis_pursuit(
            X, components, alpha=0.2, positive=positive, tol=1e-13, max_iter=10**6, sparse_output=False
        )

    assert torch.autograd.gradcheck(codes, (X, components), eps=1e-4, atol=1e-6, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda():
    X, components = problem(0, 300, 60, 20)
    expected = basis_pursuit(X, components, alpha=0.1, tol=1e-10, max_iter=10**5)
    T = torch.tensor(X, device="cuda", requires_grad=True)
    codes = basis_pursuit(T, components, alpha=0.1, tol=1e-10, max_iter=10**5, sparse_output=False)
    assert codes.is_cuda
    np.testing.assert_allclose(codes.detach().cpu(), expected.toarray(), atol=1e-5)
    codes.square().sum().backward()
    assert torch.isfinite(T.grad).all() and T.grad.any()

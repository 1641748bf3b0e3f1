"""Orthogonal matching pursuit against a slow reference and against scikit-learn's tests."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp_gram as sklearn_omp_gram

from skrobust.pursuits import orthogonal_mp, orthogonal_mp_gram

DTYPES = [np.float64, np.float32]


def with_residual(result):
    """Codes and norms of the residuals of a greedy pursuit."""
    return result.codes, np.sqrt(2 * result.objective)


def greedy(x, components, k, tol=0.0, selection="omp"):
    """The pursuit in plain Python: pick, fit by least squares, look at the residual."""
    norms = np.linalg.norm(components, axis=1)
    candidates = [j for j in range(len(components)) if norms[j] > 0]
    support, z, r = [], np.zeros(len(components)), x
    while len(support) < k and np.linalg.norm(r) > max(tol, 1e-13 * np.linalg.norm(x)):
        if selection == "omp":
            scores = [abs(components[j] @ r) / norms[j] if j not in support else -1 for j in candidates]
        else:
            fits = [_least_squares(x, components, [*support, j])[1] for j in candidates]
            scores = [-np.linalg.norm(residual) for residual in fits]
        support.append(candidates[int(np.argmax(scores))])
        coefficients, r = _least_squares(x, components, support)
    if support:
        z[support] = coefficients
    return z, np.linalg.norm(r)


def _least_squares(x, components, support):
    coefficients = np.linalg.lstsq(components[support].T, x, rcond=None)[0]
    return coefficients, x - coefficients @ components[support]


def problem(seed=0, n=20, m=30, d=12, k=3, noise=0.02, unit=True):
    """Signals of `k` atoms each, and the atoms."""
    rng = np.random.default_rng(seed)
    components = rng.normal(size=(m, d))
    if unit:
        components /= np.linalg.norm(components, axis=1, keepdims=True)
    codes = np.zeros((n, m))
    for code in codes:
        code[rng.choice(m, min(k, m), replace=False)] = rng.normal(size=min(k, m))
    return codes @ components + noise * rng.normal(size=(n, d)), components


def by_sklearn(X, components, k=None, tol=None):
    squared = None if tol is None else tol**2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return sklearn_omp_gram(
            components @ components.T,
            components @ X.T,
            n_nonzero_coefs=k,
            tol=squared,
            norms_squared=None if tol is None else np.sum(X**2, axis=1),
        ).T.reshape(len(X), -1)


@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 70),
    d=st.integers(2, 40),
    k=st.integers(1, 6),
    selection=st.sampled_from(["omp", "ols"]),
    unit=st.booleans(),
)
def test_equals_the_reference(seed, m, d, k, selection, unit):
    k = min(k, m, d - 1)  # with d atoms the residual is zero whichever comes last
    X, components = problem(seed, 6, m, d, k, 0.3, unit)
    codes, residual = with_residual(
        orthogonal_mp(X, components, n_nonzero_coefs=k, selection=selection, sparse_output=False, return_result=True)
    )
    for x, code, norm in zip(X, codes, residual, strict=True):
        z, r = greedy(x, components, k, selection=selection)
        np.testing.assert_allclose(code, z, atol=1e-9 * max(1, np.abs(z).max()))
        np.testing.assert_allclose(norm, r, atol=1e-9 * np.linalg.norm(x))


@given(seed=st.integers(0, 10**6), m=st.integers(2, 60), d=st.integers(2, 30), budget=st.floats(0.05, 1.1))
def test_equals_the_reference_by_tolerance(seed, m, d, budget):
    X, components = problem(seed, 6, m, d, noise=0.3)
    tol = budget * np.linalg.norm(X, axis=1) * np.linspace(0.3, 1, 6)
    n_nonzero = min(m, d) // 2 + 1
    codes = orthogonal_mp(X, components, n_nonzero_coefs=n_nonzero, tol=tol, sparse_output=False)
    expected = [greedy(x, components, n_nonzero, t)[0] for x, t in zip(X, tol, strict=True)]
    np.testing.assert_allclose(codes, expected, atol=1e-8)


@pytest.mark.parametrize("selection", ["omp", "ols"])
@pytest.mark.parametrize("with_tol", [False, True])
def test_missing_samples(selection, with_tol):
    X, components = problem(3, 25, 40, 15, noise=0.2, unit=False)
    mask = np.random.default_rng(0).random(X.shape) < 0.7
    mask[0], mask[1, :-1] = False, False
    tol = 0.3 * np.linalg.norm(X * mask, axis=1) if with_tol else None
    codes, residual = with_residual(orthogonal_mp(
        np.where(mask, X, np.nan), components, n_nonzero_coefs=4, tol=tol, mask=mask, selection=selection,
        return_result=True,
    ))  # fmt: skip
    for i, (x, valid) in enumerate(zip(X, mask, strict=True)):
        z, r = greedy(x[valid], components[:, valid], min(4, valid.sum()), tol[i] if with_tol else 0, selection)
        np.testing.assert_allclose(residual[i], r, atol=1e-9)
        if valid.sum() > 4:  # otherwise any last atom gives a zero residual
            np.testing.assert_allclose(codes[[i]].toarray()[0], z, atol=1e-8)
    one = mask[5]
    same = orthogonal_mp(np.where(one, X, np.nan), components, n_nonzero_coefs=3, mask=one, selection=selection)
    cut = orthogonal_mp(X[:, one], components[:, one], n_nonzero_coefs=3, selection=selection)
    assert (same != cut).nnz == 0
    everywhere = orthogonal_mp(X, components, n_nonzero_coefs=3, mask=np.ones(X.shape, bool), selection=selection)
    plain = orthogonal_mp(X, components, n_nonzero_coefs=3, selection=selection)
    np.testing.assert_allclose(everywhere.toarray(), plain.toarray(), atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 12])
@pytest.mark.parametrize("m", [12, 31, 64])
def test_equals_sklearn(k, m):
    X, components = problem(k * m, 80, m, 12, 5)
    codes = orthogonal_mp(X, components, n_nonzero_coefs=k)
    np.testing.assert_allclose(codes.toarray(), by_sklearn(X, components, k), atol=1e-8)
    from_gram = orthogonal_mp_gram(components @ components.T, X @ components.T, n_nonzero_coefs=k)
    np.testing.assert_allclose(from_gram.toarray(), codes.toarray(), atol=1e-8)


def test_equals_sklearn_by_tolerance():
    X, components = problem(1, 80, 40, 16, 4)
    squared_norms = np.sum(X**2, axis=1)
    expected = by_sklearn(X, components, tol=0.4)
    codes, residual = with_residual(orthogonal_mp(X, components, tol=0.4, return_result=True))
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-8)
    np.testing.assert_allclose(residual, np.linalg.norm(X - codes @ components, axis=1), atol=1e-12)
    assert residual.max() <= 0.4
    codes, residual = with_residual(
        orthogonal_mp_gram(
            components @ components.T, X @ components.T, tol=0.4, squared_norms=squared_norms, return_result=True
        )
    )
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-8)
    np.testing.assert_allclose(residual, np.linalg.norm(X - codes @ components, axis=1), atol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("selection", ["omp", "ols"])
def test_known_supports(dtype, selection):
    rng = np.random.default_rng(0)
    components = rng.normal(size=(40, 60)).astype(dtype)
    truth = np.zeros((30, 40), dtype)
    for code in truth:
        code[rng.choice(40, 4, replace=False)] = rng.choice([-1, 1], 4) * rng.uniform(1, 2, 4)
    codes = orthogonal_mp(truth @ components, components, n_nonzero_coefs=4, selection=selection)
    assert codes.dtype == dtype
    np.testing.assert_array_equal(codes.toarray() != 0, truth != 0)
    np.testing.assert_allclose(codes.toarray(), truth, rtol=500 * np.finfo(dtype).eps)


def test_swapped_atoms():
    """scikit-learn's regression test: an order that swaps atoms inside its Gram matrix."""
    components = problem(0, m=30, d=20)[1]
    codes = np.zeros((2, 30))
    codes[0, [21, 0]] = 1.0, 0.5
    codes[1, [0, 21]] = 1.0, 0.5
    result = orthogonal_mp(codes @ components, components, n_nonzero_coefs=2)
    np.testing.assert_allclose(result.toarray(), codes, atol=1e-14)
    from_gram = orthogonal_mp_gram(
        components @ components.T, codes @ components @ components.T, n_nonzero_coefs=2, sparse_output=False
    )
    np.testing.assert_allclose(from_gram, codes, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("selection", ["omp", "ols"])
def test_equal_atoms(dtype, selection):
    """The first of several equal atoms is taken, the others never after it."""
    components = np.repeat(problem(0, m=9, d=10)[1], 5, axis=0).astype(dtype)
    X = components[[7, 20]] * dtype(2) + components[[40, 3]]
    codes = orthogonal_mp(X, components, n_nonzero_coefs=2, selection=selection).toarray()
    np.testing.assert_array_equal([np.flatnonzero(code) for code in codes], [[5, 40], [0, 20]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        more = orthogonal_mp(X, components, n_nonzero_coefs=9, selection=selection)
    assert np.isfinite(more.data).all()
    np.testing.assert_allclose(more @ components, X, atol=20 * np.finfo(dtype).eps)


def test_zero_signals_have_empty_codes():
    X, components = problem(n=5)
    X[[0, 3]] = 0
    for selection in ("omp", "ols"):
        codes, residual = with_residual(
            orthogonal_mp(X, components, n_nonzero_coefs=3, selection=selection, return_result=True)
        )
        np.testing.assert_array_equal(np.diff(codes.indptr), [0, 3, 3, 0, 3])
        assert residual[0] == residual[3] == 0
    assert orthogonal_mp(np.zeros((2, 12)), components, tol=0.0).nnz == 0


def test_zero_atoms_are_never_selected():
    X, components = problem(m=10)
    components[[0, 4]] = 0
    codes = orthogonal_mp(X, components, n_nonzero_coefs=8)
    assert not np.isin(codes.indices, [0, 4]).any()
    np.testing.assert_allclose(codes.toarray()[:, 1:4], orthogonal_mp(
        X, np.delete(components, [0, 4], axis=0), n_nonzero_coefs=8).toarray()[:, :3], atol=1e-12)  # fmt: skip
    assert orthogonal_mp(X, np.zeros((4, 12)), n_nonzero_coefs=2).nnz == 0


@pytest.mark.parametrize("selection", ["omp", "ols"])
@pytest.mark.parametrize("m", [8, 12])
def test_unreachable_tolerance_gives_least_squares(selection, m):
    """All atoms: least squares, with a warning where that is short of the tolerance."""
    X, components = problem(m=m, noise=1.0)
    expected = np.linalg.lstsq(components.T, X.T, rcond=None)[0].T
    if m < 12:
        with pytest.warns(ConvergenceWarning, match="20 of 20 signals did not reach tol with 8 atoms"):
            codes = orthogonal_mp(X, components, tol=0.0, selection=selection)
        assert not codes.nnz % 20
    else:
        codes = orthogonal_mp(X, components, n_nonzero_coefs=12, selection=selection)
    np.testing.assert_allclose(codes.toarray(), expected, atol=1e-9)


def test_dependent_atoms_end_a_pursuit():
    rng = np.random.default_rng(0)
    components = rng.normal(size=(30, 3)) @ rng.normal(size=(3, 12))
    X = rng.normal(size=(10, 12))
    codes = orthogonal_mp(X, components, n_nonzero_coefs=10)
    best = X @ np.linalg.pinv(components) @ components
    np.testing.assert_allclose(codes @ components, best, atol=1e-9)
    assert np.abs(codes.toarray()).max() < 100


@pytest.mark.parametrize("selection", ["omp", "ols"])
def test_scale_of_atoms_and_signals(selection):
    """Atoms need no unit norm, and neither tiny nor huge numbers overflow when squared."""
    X, components = problem(unit=False)
    unit = orthogonal_mp(
        X, components / np.linalg.norm(components, axis=1, keepdims=True), n_nonzero_coefs=4, selection=selection
    )
    codes = orthogonal_mp(X, components, n_nonzero_coefs=4, selection=selection)
    np.testing.assert_array_equal(codes.indices, unit.indices)
    np.testing.assert_allclose(codes.toarray() * np.linalg.norm(components, axis=1), unit.toarray(), rtol=1e-9)
    for dtype, powers in ((np.float64, (-140, 150)), (np.float32, (-30, 25))):
        for power in powers:
            scale = dtype(10.0**power)
            X_scaled = X.astype(dtype) * scale
            scaled, residual = with_residual(
                orthogonal_mp(
                    X_scaled, components.astype(dtype), n_nonzero_coefs=4, selection=selection, return_result=True
                )
            )
            np.testing.assert_allclose(
                scaled.toarray().astype(float) / float(scale), codes.toarray(), rtol=2e3 * np.finfo(dtype).eps,
                atol=2e2 * np.finfo(dtype).eps,
            )  # fmt: skip
            expected = np.linalg.norm(X_scaled.astype(float) - scaled.astype(float) @ components, axis=1)
            np.testing.assert_allclose(residual.astype(float), expected, rtol=1e-3, atol=1e-5 * float(scale))


@pytest.mark.parametrize("selection", ["omp", "ols"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 33, 7), (700, 17, 5), (3, 130, 63), (40, 257, 64)])
def test_float32_against_float64(shape, selection):
    """Codes are least squares on their support, and as good as those of float64 where supports differ."""
    n, m, d = shape
    X, components = problem(5, n, m, d, 4, 0.2)
    k = max(1, min(5, m, d - 1))  # with d atoms the residual is zero whichever comes last
    settings = {"n_nonzero_coefs": k, "selection": selection, "return_result": True}
    codes, residual = with_residual(orthogonal_mp(X.astype(np.float32), components, **settings))
    exact, exact_residual = with_residual(orthogonal_mp(X, components, **settings))
    assert codes.dtype == np.float32 and residual.dtype == np.float64 and exact.dtype == np.float64
    assert codes.shape == (n, m) and codes.has_canonical_format
    np.testing.assert_allclose(residual, np.linalg.norm(X - codes.astype(float) @ components, axis=1), atol=1e-4)
    same = (codes.astype(bool) != exact.astype(bool)).sum(axis=1) == 0
    assert same.mean() > 0.97
    # OLS may select nearly dependent atoms where codes reach 18 and float32 has errors of 0.06.
    rtol, atol = (1e-2, 1e-3) if selection == "ols" else (2e-4, 1e-5)
    np.testing.assert_allclose(codes.toarray()[same], exact.toarray()[same], rtol=rtol, atol=atol)
    np.testing.assert_allclose(residual.mean(), exact_residual.mean(), rtol=1e-3, atol=1e-4)


def test_tiny_tolerances_are_met_exactly():
    """The recursion of the residual loses its digits; what decides is then the residual itself."""
    for dtype in DTYPES:
        X, components = (a.astype(dtype) for a in problem(2, 40, 60, 20, 4, 0.0))
        norms = np.linalg.norm(X, axis=1)
        tol = 50 * np.finfo(dtype).eps * norms.astype(float)
        codes, residual = with_residual(orthogonal_mp(X, components, n_nonzero_coefs=20, tol=tol, return_result=True))
        exact = np.linalg.norm(X.astype(float) - codes.astype(float) @ components.astype(float), axis=1)
        assert (residual <= tol).all()
        assert (exact <= 2 * tol).all()


def test_the_result_does_not_depend_on_threads_batches_or_order():
    X, components = problem(0, 900, 50, 20)
    expected = orthogonal_mp(X, components, n_nonzero_coefs=5, n_jobs=1)
    for other in (
        orthogonal_mp(X, components, n_nonzero_coefs=5, n_jobs=2),
        orthogonal_mp(np.asfortranarray(X), components[::-1][::-1], n_nonzero_coefs=5, n_jobs=-1),
        orthogonal_mp(X[::-1], components, n_nonzero_coefs=5)[::-1],
        sparse.vstack([orthogonal_mp(x[None], components, n_nonzero_coefs=5) for x in X[:7]]),
    ):
        assert (other[:7] != expected[:7]).nnz == 0
        assert other.shape[0] == 7 or (other != expected).nnz == 0


def test_small_working_memory(monkeypatch):
    """Codes in several batches, and Gram rows made when needed, are the same."""
    from sklearn import config_context

    X, components = problem(0, 900, 50, 20)
    for tol in (None, 0.3):
        expected = orthogonal_mp(X, components, n_nonzero_coefs=6, tol=tol)
        with config_context(working_memory=0.001):
            codes = orthogonal_mp(X, components, n_nonzero_coefs=6, tol=tol)
        assert codes.nnz == expected.nnz
        np.testing.assert_allclose(codes.toarray(), expected.toarray(), atol=1e-12)


def test_read_only_and_given_gram():
    X, components = problem()
    gram = components @ components.T
    expected = orthogonal_mp(X, components, n_nonzero_coefs=3)
    for array in (X, components, gram):
        array.setflags(write=False)
    given_gram = orthogonal_mp(X, components, n_nonzero_coefs=3, gram=gram)
    np.testing.assert_allclose(given_gram.toarray(), expected.toarray(), atol=1e-12)
    correlations = X @ components.T
    correlations.setflags(write=False)
    orthogonal_mp_gram(gram, correlations, n_nonzero_coefs=3)


def test_n_nonzero_coefs():
    X, components = problem(d=24, n=3)
    for given_k, k in ((None, 2), (0.25, 6), (0.01, 1), (np.int64(3), 3), (1.0, 24)):
        codes = orthogonal_mp(X, components, n_nonzero_coefs=given_k)
        np.testing.assert_array_equal(np.diff(codes.indptr), k)


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (r"n_nonzero_coefs=31 is more than the 30 atoms", {"n_nonzero_coefs": 31}),
        (r"n_nonzero_coefs=13 is more than the 12 features", {"n_nonzero_coefs": 13}),
        (r"'n_nonzero_coefs' parameter", {"n_nonzero_coefs": 0}),
        (r"'n_nonzero_coefs' parameter", {"n_nonzero_coefs": 1.5}),
        (r"'tol' parameter", {"tol": -1.0}),
        (r"tol must not have negative values or NaN", {"tol": [-1.0] * 20}),
        (r"got shape \(3,\)", {"tol": np.ones(3)}),
        (r"'selection' parameter", {"selection": "mp"}),
        (r"gram has shape \(2, 2\); the inner products of 30 atoms have \(30, 30\)", {"gram": np.eye(2)}),
        (r"mask must be boolean", {"mask": np.ones((20, 12))}),
        (r"mask has shape \(4,\)", {"mask": np.ones(4, bool)}),
        (r"mask hides all features", {"mask": np.zeros(12, bool)}),
        (r"gram cannot be used with mask", {"mask": np.ones((20, 12), bool), "gram": np.eye(30)}),
        (r"n_jobs must be None", {"n_jobs": 0}),
    ],
)
def test_errors_of_settings(error, settings):
    X, components = problem()
    with pytest.raises(ValueError, match=error):
        orthogonal_mp(X, components, **settings)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("settings", [{"n_nonzero_coefs": 2}, {"tol": 0.1}, {"mask": True}])
def test_values_that_are_not_finite(bad, dtype, settings):
    X, components = (a.astype(dtype) for a in problem())
    if "mask" in settings:
        settings = {"mask": np.ones(X.shape, bool)}
    broken = X.copy()
    broken[7, 3] = bad
    with pytest.raises(ValueError, match="X contains"):
        orthogonal_mp(broken, components, **settings)
    broken = components.copy()
    broken[7, 3] = bad
    with pytest.raises(ValueError, match="components contains"):
        orthogonal_mp(X, broken, **settings)


def test_errors_of_shapes():
    X, components = problem()
    with pytest.raises(ValueError, match="X has 11 features, but components has 12"):
        orthogonal_mp(X[:, 1:], components)
    for empty in (X[:0], X[:, :0]):
        with pytest.raises(ValueError, match="0 (sample|feature)"):
            orthogonal_mp(empty, components)
    with pytest.raises(ValueError, match="0 sample"):
        orthogonal_mp(X, components[:0])
    with pytest.raises(ValueError, match="Expected 2D array"):
        orthogonal_mp(X[0], components)
    gram, correlations = components @ components.T, X @ components.T
    with pytest.raises(ValueError, match="tol needs squared_norms"):
        orthogonal_mp_gram(gram, correlations, tol=1.0)
    with pytest.raises(ValueError, match="gram has shape"):
        orthogonal_mp_gram(gram[1:], correlations)
    with pytest.raises(ValueError, match="squared_norms must be a number or have shape"):
        orthogonal_mp_gram(gram, correlations, squared_norms=[1.0, 2.0])
    with pytest.raises(ValueError, match="squared_norms has values that are not finite"):
        orthogonal_mp_gram(gram, correlations, squared_norms=np.full(20, np.inf), tol=1.0)
    correlations[3, 5] = np.nan
    with pytest.raises(ValueError, match="correlations contains NaN"):
        orthogonal_mp_gram(gram, correlations)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_results(kind):
    X, components = problem(0, 30, 25, 12)
    settings = {"n_nonzero_coefs": 2, "return_result": True}
    result = orthogonal_mp(kind(X), kind(components), tol=0.5, sparse_output=False, **settings)
    codes = np.asarray(result.codes)
    norms = np.linalg.norm(X - codes @ components, axis=1)
    np.testing.assert_allclose(result.objective, norms**2 / 2, rtol=1e-9)
    np.testing.assert_array_equal(result.n_iter, (codes != 0).sum(axis=1))
    np.testing.assert_array_equal(result.converged, norms <= 0.5)
    assert result.gap is None and 0 < result.converged.mean() < 1
    assert orthogonal_mp(kind(X), kind(components), **settings).converged is None
    gram, correlations = components @ components.T, X @ components.T
    assert orthogonal_mp_gram(gram, correlations, **settings).objective is None
    result = orthogonal_mp_gram(gram, correlations, squared_norms=(X**2).sum(axis=1), **settings)
    np.testing.assert_allclose(result.objective, ((X - result.codes @ components) ** 2).sum(axis=1) / 2, rtol=1e-9)

"""The steps of dictionary learning against slow references in dense NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, sparse

from skrobust.dictionaries.patch.columns import AtomColumns, residual_energies, residuals, usage
from skrobust.dictionaries.patch.descent import descend
from skrobust.dictionaries.patch.initial import unit_rows
from skrobust.dictionaries.patch.ksvd_updates import approximate_update, exact_update
from skrobust.dictionaries.patch.mod import MOD
from skrobust.dictionaries.patch.replacement import idle_atoms, replace_idle_atoms
from skrobust.pursuits import orthogonal_mp
from skrobust.signals import kernel_threads

TOL = {np.float32: 1e-5, np.float64: 1e-13}  # 20 times the largest rounding error over generated examples


def problem(seed, n=60, d=11, m=14, density=0.25, dtype=np.float64, positive=False):
    rng = np.random.default_rng(seed)
    X, atoms = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    codes = rng.standard_normal((n, m)) * (rng.random((n, m)) < density)
    if positive:
        X, atoms, codes = np.abs(X), np.abs(atoms), np.abs(codes)
    return X.astype(dtype), sparse.csr_array(codes.astype(dtype)), unit_rows(atoms).astype(dtype)


def shrunk(value, alpha, positive):
    return np.maximum(value - alpha, 0) if positive else np.sign(value) * np.maximum(np.abs(value) - alpha, 0)


def slow_update(X, codes, components, *, alpha=0.0, positive_code=False, positive_dict=False, exact=False):
    """Dense K-SVD: each atom against X less the parts of all others, which is recomputed."""
    Z, D = codes.toarray().astype(np.float64), components.astype(np.float64).copy()
    support = codes.toarray() != 0
    for j in range(len(D)):
        users = np.flatnonzero(support[:, j])
        if len(users) == 0:
            continue
        E = X[users] - Z[users] @ D + np.outer(Z[users, j], D[j])
        if exact:
            u, s, vt = np.linalg.svd(E, full_matrices=False)
            sign = 1 if vt[0] @ D[j] >= 0 else -1
            D[j], Z[users, j] = sign * vt[0], sign * u[:, 0] * s[0]
            continue
        best = Z[users, j] @ E
        best = np.maximum(best, 0) if positive_dict else best
        if not best.any():
            continue
        D[j] = best / np.linalg.norm(best)
        Z[users, j] = shrunk(E @ D[j], alpha, positive_code)
    return D, Z


@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 40),
    dtype=st.sampled_from([np.float32, np.float64]),
    alpha=st.sampled_from([0.0, 0.3]),
    positive_code=st.booleans(),
    positive_dict=st.booleans(),
)
def test_approximate_update(seed, d, dtype, alpha, positive_code, positive_dict):
    X, codes, components = problem(seed, d=d, dtype=dtype, positive=positive_dict)
    params = {"alpha": alpha, "positive_code": positive_code, "positive_dict": positive_dict}
    expected_atoms, expected_codes = slow_update(X, codes, components, **params)
    energies = approximate_update(X, codes, components, **params)
    tol = TOL[dtype] * 10
    np.testing.assert_allclose(components, expected_atoms, atol=tol)
    np.testing.assert_allclose(codes.toarray(), expected_codes, atol=tol * 10)
    expected_energies = np.square(X - codes @ components).sum(axis=1)
    np.testing.assert_allclose(energies, expected_energies, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=tol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("density", [0.05, 0.4])  # atoms with fewer and with more signals than features
def test_exact_update(dtype, density):
    X, codes, components = problem(3, density=density, dtype=dtype)
    expected_atoms, expected_codes = slow_update(X, codes, components, exact=True)
    exact_update(X, codes, components, alpha=0.0, positive_code=False, positive_dict=False)
    np.testing.assert_allclose(components, expected_atoms, atol=5 * TOL[dtype])
    np.testing.assert_allclose(codes.toarray(), expected_codes, atol=20 * TOL[dtype])


@pytest.mark.parametrize(
    "alpha, positive_code, positive_dict", [(0, False, True), (0.2, False, False), (0.1, True, True)]
)
def test_exact_update_under_constraints_is_no_worse_than_one_step(alpha, positive_code, positive_dict):
    params = {"alpha": alpha, "positive_code": positive_code, "positive_dict": positive_dict}

    def value(energies, codes):
        return 0.5 * energies.sum() + alpha * np.abs(codes.data).sum()

    for seed in range(5):
        X, codes, components = problem(seed, m=1, density=1, positive=positive_dict)
        X2, codes2, components2 = X.copy(), codes.copy(), components.copy()
        one = value(approximate_update(X, codes, components, **params), codes)
        exact = value(exact_update(X2, codes2, components2, **params), codes2)
        assert exact <= one + 1e-9
        if positive_dict:
            assert components2.min() >= 0
        if positive_code:
            assert codes2.data.min() >= 0


@pytest.mark.parametrize("update", [approximate_update, exact_update])
def test_updates_never_raise_the_objective(update):
    for seed in range(10):
        X, codes, components = problem(seed)
        before = residual_energies(X, codes, components).sum()
        for _ in range(4):
            after = update(X, codes, components, alpha=0.0, positive_code=False, positive_dict=False).sum()
            assert after <= before * (1 + 1e-12)
            before = after
        np.testing.assert_allclose(np.linalg.norm(components, axis=1), 1)


def test_exact_update_with_one_atom_is_the_best_rank_one_fit():
    X, codes, components = problem(0, m=1, density=1)
    energies = exact_update(X, codes, components, alpha=0.0, positive_code=False, positive_dict=False)
    assert energies.sum() == pytest.approx(np.square(np.linalg.svd(X, compute_uv=False)[1:]).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 60, 5000])
def test_sums_and_residuals(n, dtype):
    X, codes, components = problem(1, n=n, d=21, dtype=dtype)
    Z = codes.toarray()
    gram, products = AtomColumns(codes).statistics(X)
    assert gram.dtype == products.dtype == dtype
    np.testing.assert_allclose(gram, Z.T @ Z, rtol=1e-3, atol=n * TOL[dtype])
    np.testing.assert_allclose(products, Z.T @ X, rtol=1e-3, atol=n * TOL[dtype])
    left, energies = residuals(X, codes, components)
    np.testing.assert_allclose(left, X - Z @ components, atol=10 * TOL[dtype])
    np.testing.assert_allclose(energies, np.square(left).sum(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(residual_energies(X, codes, components), energies)
    np.testing.assert_array_equal(usage(codes), (Z != 0).sum(axis=0))


def test_sums_do_not_depend_on_threads():
    X, codes, components = problem(1, n=20000, m=40, dtype=np.float32)
    results = []
    for n_jobs in (1, 2):
        with kernel_threads(n_jobs):
            results.append([*AtomColumns(codes).statistics(X), *residuals(X, codes, components)])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("d", [3, 16, 70])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_sweep_of_descent(dtype, d):
    X, codes, components = problem(2, n=200, d=d, dtype=dtype)
    gram, products = AtomColumns(codes).statistics(X)
    for unit_norm in (True, False):
        for positive in (True, False):
            expected = components.astype(np.float64).copy()
            for j in range(len(expected)):
                best = products[j] - gram[j] @ expected + gram[j, j] * expected[j]
                best = np.maximum(best, 0) if positive else best
                size = np.linalg.norm(best) if unit_norm else gram[j, j]
                if size > 0:
                    expected[j] = best / size
            result = descend(gram, products, components, unit_norm=unit_norm, positive=positive)
            assert result.dtype == dtype
            np.testing.assert_allclose(result, expected, atol=10 * TOL[dtype])


def test_descent_ends_at_least_squares():
    X, codes, components = problem(4, n=300)
    gram, products = AtomColumns(codes).statistics(X)
    result = descend(gram, products, components, unit_norm=False, positive=False, max_sweeps=1000, tol=1e-13)
    np.testing.assert_allclose(result, np.linalg.lstsq(codes.toarray(), X)[0], atol=1e-9)


def test_positive_descent_ends_at_nonnegative_least_squares():
    X, codes, components = problem(4, n=300)
    gram, products = AtomColumns(codes).statistics(X)
    result = descend(gram, products, components, unit_norm=False, positive=True, max_sweeps=2000, tol=1e-13)
    expected = np.stack([optimize.nnls(codes.toarray(), column)[0] for column in X.T], axis=1)
    np.testing.assert_allclose(result, expected, atol=1e-8)


def test_descent_leaves_atoms_of_no_signal():
    X, codes, components = problem(5)
    codes = codes.toarray()
    codes[:, 3] = 0
    gram, products = AtomColumns(sparse.csr_array(codes)).statistics(X)
    np.testing.assert_array_equal(descend(gram, products, components, unit_norm=True, positive=False)[3], components[3])


def test_mod_is_least_squares():
    X, _, components = problem(6, n=400)
    learner = MOD(init=components, n_nonzero_coefs=3, max_iter=1).fit(X)
    codes = orthogonal_mp(X, unit_rows(components), n_nonzero_coefs=3).toarray()
    best = np.linalg.lstsq(codes, X)[0]
    np.testing.assert_allclose(learner.components_, unit_rows(best), atol=1e-9)
    np.testing.assert_allclose(learner.objective_, 0.5 * np.square(X - codes @ best).sum(axis=1).mean(), rtol=1e-8)


def test_mod_with_atoms_that_are_always_used_together():
    """Their least squares have no unique solution."""
    components = unit_rows(np.random.default_rng(7).standard_normal((5, 8)))
    sizes = np.random.default_rng(0).standard_normal((40, 1))
    X = np.concatenate([sizes * (components[0] + 2 * components[1]), sizes * components[3] + 0.01])
    codes = orthogonal_mp(X, components, n_nonzero_coefs=2).toarray()
    assert np.linalg.matrix_rank(codes[:40]) == 1 and (codes[:40] != 0).sum() == 80
    learner = MOD(init=components, n_nonzero_coefs=2, max_iter=1).fit(X)
    assert np.isfinite(learner.components_).all()
    least = codes @ np.linalg.lstsq(codes, X)[0]
    assert learner.objective_[0] == pytest.approx(0.5 * np.square(X - least).sum(axis=1).mean(), rel=1e-6)


def test_idle_atoms():
    components = np.eye(6)
    components[5] = [0, 0, -1, 0, 0, 0]
    components[4] = [0.1, 0, 0, 0, 1, 0]
    unused = np.array([100, 100, 100, 0, 100, 90])
    np.testing.assert_array_equal(idle_atoms(unit_rows(components), unused), [False, False, False, True, False, True])
    rare = np.array([100, 100, 100, 3, 100, 200])  # of twins, the busier one stays
    np.testing.assert_array_equal(idle_atoms(unit_rows(components), rare), [False, False, True, True, False, False])


def test_idle_atoms_become_the_worst_represented_signals():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 8))
    X[7] = X[3]  # equal signals replace one atom only
    X[9] = 0
    energies = np.linspace(0.1, 0.2, 50)
    energies[[3, 7, 20]] = [5, 4, 3]
    components = unit_rows(rng.standard_normal((5, 8)))
    unchanged = components[[0, 2, 4]].copy()
    replaced = replace_idle_atoms(components, np.array([9, 0, 9, 0, 9]), energies, X, positive=False)
    np.testing.assert_array_equal(replaced, [1, 3])
    np.testing.assert_allclose(components[[1, 3]], unit_rows(X[[3, 20]]))
    np.testing.assert_array_equal(components[[0, 2, 4]], unchanged)


def test_well_represented_signals_replace_no_atom():
    X = np.random.default_rng(0).standard_normal((20, 4))
    components = np.eye(4)
    replaced = replace_idle_atoms(components, np.array([9, 0, 9, 9]), np.full(20, 1e-20), X, positive=False)
    assert len(replaced) == 0
    np.testing.assert_array_equal(components, np.eye(4))

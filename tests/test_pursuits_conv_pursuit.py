"""Convolutional basis pursuit against scikit-learn's LASSO on the dense dictionary, its gap, and its solvers."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from test_pursuits_conv_operator import PADDINGS, dense_dictionary

from skrobust.operators import ConvolutionalOperator
from skrobust.operators.conv.geometry import ConvolutionGeometry, least_over_cover
from skrobust.pursuits import (
    convolutional_alpha_max,
    convolutional_basis_pursuit,
    convolutional_omp,
    convolutional_path,
)
from skrobust.pursuits.lasso.conv.admm import admm
from skrobust.pursuits.penalties import L1
from skrobust.pursuits.problem import Problem
from skrobust.pursuits.proximal.fista import fista


def make_problem(shape=(9, 11, 2), kernel=(3, 4), n_atoms=6, padding="same", stride=1, dtype=np.float64, n=3, seed=0):
    rng = np.random.default_rng(seed)
    components = rng.normal(size=(n_atoms, *kernel, shape[-1])).astype(dtype)
    operator = ConvolutionalOperator(components, shape, padding=padding, stride=stride)
    return operator, rng.normal(size=(n, *shape)).astype(dtype)


def objective(X, operator, codes, alpha, weights=1.0, mask=1.0):
    exact = ConvolutionalOperator(
        operator.components.astype(float), operator.signal_shape, padding=operator.padding, stride=operator.stride
    )
    codes = np.asarray(codes, dtype=float)
    residual = mask * (X - exact.synthesize(codes))
    axes = tuple(range(1, X.ndim))
    return 0.5 * (residual**2).sum(axes) + alpha * (weights * np.abs(codes)).sum(axes)


@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(("padding", "stride"), [*((p, 1) for p in PADDINGS), ("same", 2), ("circular", 2)])
def test_equals_scikit_learn_on_the_dense_dictionary(padding, stride, positive, solver):
    operator, X = make_problem(padding=padding, stride=stride)
    weights = np.linspace(0.5, 1.5, 6)
    mask = np.random.default_rng(1).random((9, 11, 2)) < 0.8
    alpha = 0.3 * convolutional_alpha_max(X, operator, positive=positive, weights=weights, mask=mask).min()
    result = convolutional_basis_pursuit(
        X,
        operator,
        alpha,
        positive=positive,
        weights=weights,
        mask=mask,
        solver=solver,
        tol=1e-9,
        max_iter=20000,
    )
    # weights by scaling the columns, the mask by dropping rows
    D = dense_dictionary(operator.components, operator.signal_shape, padding, stride)
    per_column = np.tile(weights, operator.geometry.n_positions)
    valid = mask.ravel()
    for x, codes, gap in zip(X, result.codes, result.gap, strict=True):
        A = D[valid] / per_column
        lasso = Lasso(alpha / len(A), positive=positive, fit_intercept=False, tol=1e-12, max_iter=100_000)
        lasso.fit(A, x.ravel()[valid])
        best = 0.5 * ((x.ravel()[valid] - A @ lasso.coef_) ** 2).sum() + alpha * np.abs(lasso.coef_).sum()
        reached = objective(x[None], operator, codes[None], alpha, weights, mask)[0]
        assert reached <= best * (1 + 1e-8)
        assert reached - best <= gap + 1e-9 * best
    np.testing.assert_allclose(result.objective, objective(X, operator, result.codes, alpha, weights, mask))
    if positive:
        assert (result.codes >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
@pytest.mark.parametrize("kind", ["noise", "image", "smooth", "zero", "constant", "one atom"])
def test_gap_bounds_the_suboptimality(kind, solver, dtype):
    operator, X = make_problem((12, 10, 1), (3, 3), 8, dtype=dtype)
    if kind == "image":
        X = np.kron(load_digits().images[:3], np.ones((2, 2)))[:, 2:14, 3:13, None].astype(dtype)
    elif kind == "smooth":
        X = np.cumsum(np.cumsum(X, axis=1), axis=2) / 10
    elif kind == "zero":
        X = 0 * X
    elif kind == "constant":
        X = 0 * X + 1
    elif kind == "one atom":
        codes = np.zeros((3, *operator.code_shape), dtype=dtype)
        codes[:, 5, 5, 3] = 1
        X = operator.synthesize(codes)
    alpha = max(0.1 * convolutional_alpha_max(X, operator).max(), 1e-3)
    exact = ConvolutionalOperator(operator.components.astype(float), operator.signal_shape)
    best = convolutional_basis_pursuit(X.astype(float), exact, alpha, tol=1e-12, max_iter=100_000)
    least = best.objective - best.gap
    for tol in (0.5, 1e-2, 1e-4):
        result = convolutional_basis_pursuit(X, operator, alpha, solver=solver, tol=tol, max_iter=5000)
        assert result.codes.dtype == dtype
        reached = objective(X.astype(float), operator, result.codes, alpha)
        rounding = 0 if dtype == np.float64 else 1e-5 * reached + 1e-9
        assert (reached - least <= result.gap + rounding + 1e-10 * reached + 1e-15).all()
        assert (result.gap <= tol * result.objective + 1e-12).all()


@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
@pytest.mark.parametrize(("padding", "stride"), [*((p, 1) for p in PADDINGS), ("valid", 2), ("circular", 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_gap_bounds_the_suboptimality_wherever_it_stops(padding, stride, masked, solver):
    operator, X = make_problem((14, 11, 2), (4, 3), 7, padding, stride, n=2)
    mask = np.random.default_rng(1).random((14, 11, 1)) < 0.7 if masked else None
    alpha = 0.1 * convolutional_alpha_max(X, operator, mask=mask).min()
    best = convolutional_basis_pursuit(X, operator, alpha, mask=mask, tol=1e-11, max_iter=100_000)
    least, gaps = best.objective - best.gap, []
    for max_iter in (1, 5, 20, 60, 150):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = convolutional_basis_pursuit(
                X, operator, alpha, mask=mask, solver=solver, tol=1e-9, max_iter=max_iter
            )
        assert (result.objective - least <= result.gap * (1 + 1e-9) + 1e-9 * best.objective).all()
        gaps.append(result.gap)
    assert (gaps[-1] < 0.2 * gaps[0]).all()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_least_over_cover(padding, stride):
    geometry = ConvolutionGeometry.of((7, 8), (3, 2), padding, stride)
    values = np.random.default_rng(0).random((2, *geometry.code_grid))
    expected = np.ones((2, 7, 8))
    for p in np.ndindex(*geometry.code_grid):
        for tap in np.ndindex(3, 2):
            place = [a * s - o + t for a, s, o, t in zip(p, geometry.stride, geometry.offset, tap, strict=True)]
            if geometry.wraps:
                place = [i % n for i, n in zip(place, (7, 8), strict=True)]
            if all(0 <= i < n for i, n in zip(place, (7, 8), strict=True)):
                at = (slice(None), *place)
                expected[at] = np.minimum(expected[at], values[(slice(None), *p)])
    np.testing.assert_array_equal(least_over_cover(values, geometry), expected)
    np.testing.assert_array_equal(least_over_cover(torch.as_tensor(values), geometry), expected)


def test_scaling_pixel_by_pixel_makes_the_gap_smaller():
    rng = np.random.default_rng(0)
    operator = ConvolutionalOperator(rng.normal(size=(8, 4, 4, 1)), (48, 48, 1))
    X = rng.normal(size=(1, 48, 48, 1))
    alpha = 0.2 * convolutional_alpha_max(X, operator)[0]
    with pytest.warns(ConvergenceWarning):
        result = convolutional_basis_pursuit(X, operator, alpha, tol=1e-9, max_iter=40)
    residual = X - operator.synthesize(result.codes)
    top = np.abs(operator.analyze(residual)).max()
    scale = min(alpha / top, (residual * X).sum() / (residual**2).sum())
    of_one_factor = result.objective - scale * (residual * X).sum() + scale**2 * (residual**2).sum() / 2
    assert result.gap < 0.7 * of_one_factor


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 21),
    channels=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 9)),
    n_atoms=st.integers(1, 40),
    padding=st.sampled_from(["same", "full"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_odd_sizes(height, width, channels, kernel, n_atoms, padding, dtype):
    operator, X = make_problem((height, width, channels), kernel, n_atoms, padding, dtype=dtype, n=2)
    alpha = 0.3 * convolutional_alpha_max(X, operator).max()
    descent = convolutional_basis_pursuit(X, operator, alpha, solver="descent", tol=1e-4, max_iter=10_000)
    steps = convolutional_basis_pursuit(X, operator, alpha, solver="fista", tol=1e-4, max_iter=10_000)
    np.testing.assert_allclose(descent.objective, steps.objective, rtol=3e-4)
    np.testing.assert_allclose(descent.objective, objective(X, operator, descent.codes, alpha), rtol=1e-5)


def test_one_axis_and_tensors_agree():
    operator, X = make_problem((40, 1), (5,), 4)
    alpha = 0.2 * convolutional_alpha_max(X, operator).min()
    arrays = convolutional_basis_pursuit(X, operator, alpha, tol=1e-10, max_iter=20_000)
    same = convolutional_basis_pursuit(torch.as_tensor(X), operator, alpha, tol=1e-10, max_iter=20_000)
    np.testing.assert_array_equal(same.codes, arrays.codes)
    tensors = convolutional_basis_pursuit(
        torch.as_tensor(X), operator, alpha, solver="fista", tol=1e-10, max_iter=20_000
    )
    assert isinstance(tensors.codes, torch.Tensor)
    np.testing.assert_allclose(tensors.codes, arrays.codes, atol=1e-4)
    np.testing.assert_allclose(tensors.objective, arrays.objective, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("positive", [False, True])
def test_atoms_that_depend_on_each_other(dtype, positive):
    rng = np.random.default_rng(0)  # 160 columns of 5 values
    atoms = rng.normal(size=(32, 5, 1))
    operator = ConvolutionalOperator((atoms / np.sqrt((atoms**2).sum((1, 2), keepdims=True))).astype(dtype), (5, 1))
    X = (20 * rng.uniform(size=(20, 5, 1))).astype(dtype)
    descent = convolutional_basis_pursuit(X, operator, 0.1, positive=positive, solver="descent")
    steps = convolutional_basis_pursuit(X, operator, 0.1, positive=positive, solver="fista", tol=0.01, max_iter=20_000)
    assert (descent.gap <= 1e-3 * descent.objective).all()
    assert (descent.objective <= 1.001 * steps.objective).all()


@pytest.fixture
def handed_over(monkeypatch):
    """Which solver of dense codes was given how many signals, call by call."""
    calls = []

    def counting(name, solver):
        def counted(problem, *arguments, **parameters):
            calls.append((name, len(problem.X)))
            return solver(problem, *arguments, **parameters)

        return counted

    monkeypatch.setattr("skrobust.pursuits.lasso.conv.solvers.fista", counting("fista", fista))
    monkeypatch.setattr("skrobust.pursuits.lasso.conv.admm.admm", counting("admm", admm))
    return calls


@pytest.mark.parametrize(("share", "solver"), [(0.1, "fista"), (1e-3, "admm")])
def test_dense_codes_go_to_the_solver_for_their_penalty(handed_over, share, solver):
    operator, X = make_problem((20, 20, 1), (3, 3), 1)
    X[1] = operator.synthesize(np.eye(400).reshape(400, 20, 20, 1)[[210]])[0]  # one atom
    alpha = share * convolutional_alpha_max(X, operator).min()
    chosen = convolutional_basis_pursuit(X, operator, alpha, tol=1e-3, max_iter=20_000)
    assert handed_over == [(solver, 2)]
    assert ((chosen.codes != 0).mean(axis=(1, 2, 3)) > 0.5).tolist() == [True, False, True]
    descent = convolutional_basis_pursuit(X, operator, alpha, solver="descent", tol=1e-3, max_iter=20_000)
    assert len(handed_over) == 1
    np.testing.assert_allclose(chosen.objective, descent.objective, rtol=2e-3)  # each within tol=1e-3


@pytest.mark.parametrize("share", [1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize(("padding", "n_channels", "masked"), [("circular", 1, False), ("circular", 3, False),
                                                              ("same", 1, True), ("valid", 2, False)])  # fmt: skip
def test_planted_codes_are_found_at_small_penalties(share, padding, n_channels, masked):
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(4, 5, 5, n_channels))
    atoms /= np.sqrt((atoms**2).sum((1, 2, 3), keepdims=True))
    operator = ConvolutionalOperator(atoms, (32, 32, n_channels), padding=padding)
    codes = rng.normal(size=(1, *operator.code_shape)) * (rng.random((1, *operator.code_shape)) < 0.02)
    X = operator.synthesize(codes)
    mask = rng.random((32, 32)) < 0.8 if masked else None
    alpha = share * convolutional_alpha_max(X, operator, mask=mask).max()
    result = convolutional_basis_pursuit(X, operator, alpha, mask=mask)
    assert result.gap[0] <= 1e-3 * result.objective[0]
    np.testing.assert_allclose(result.codes, codes, atol=10 * share)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_natural_signals_converge_at_small_penalties(dtype):
    X = np.kron(load_digits().images[:2], np.ones((3, 3)))[..., None].astype(dtype)
    X -= X.mean()
    atoms = X[0][:, :, 0][np.add.outer(np.arange(0, 16, 2), np.arange(6))][:, :, 4:10, None]
    operator = ConvolutionalOperator(atoms + 0.1 * np.random.default_rng(0).normal(size=atoms.shape), (24, 24, 1))
    alpha = 1e-4 * convolutional_alpha_max(X, operator).max()
    result = convolutional_basis_pursuit(X, operator, alpha, tol=3e-2)
    assert (result.gap <= 3e-2 * result.objective).all()
    with pytest.warns(ConvergenceWarning, match="largest"):
        short = convolutional_basis_pursuit(X, operator, alpha, tol=1e-2, max_iter=40)
    assert (short.objective - short.gap <= result.objective * (1 + 1e-5)).all()


@pytest.mark.parametrize(("evaluation", "expected"), [("auto", []), ("fft", [("fista", 2)])])
def test_sparse_codes_of_large_atoms_stay_with_descent(handed_over, evaluation, expected):
    rng = np.random.default_rng(0)
    operator = ConvolutionalOperator(rng.normal(size=(4, 300, 1)), (2000, 1), evaluation=evaluation)
    assert operator.uses_fft
    codes = rng.normal(size=(2, *operator.code_shape)) * (rng.random((2, *operator.code_shape)) < 0.003)
    X = operator.synthesize(codes)
    alpha = 0.1 * convolutional_alpha_max(X, operator).max()
    result = convolutional_basis_pursuit(X, operator, alpha, tol=1e-3)
    assert handed_over == expected and (result.gap <= 1e-3 * result.objective).all()


def test_proximal_gradient_continues_signals_that_did_not_converge():
    operator, X = make_problem((12, 12, 1), (3, 3), 4)
    X[1] *= 1e-3  # its code is zero

    class Counted(ConvolutionalOperator):
        rows = []

        def analyze(self, values, *, n_jobs=None):
            self.rows.append(len(values))
            return super().analyze(values, n_jobs=n_jobs)

    problem = Problem(X, Counted(operator.components, operator.signal_shape), 0.5, L1())
    result = fista(problem, np.zeros((3, *operator.code_shape)), tol=1e-4, max_iter=5000)
    assert result.converged.all() and (result.gap <= 1e-4 * result.objective).all()
    n_iter = result.n_iter
    assert n_iter[1] == 0 < min(n_iter[0], n_iter[2]) < max(n_iter)
    assert Counted.rows[0] == 3 and Counted.rows[-1] == 1
    at_last = len(Counted.rows) - Counted.rows.index(1)
    assert at_last >= max(n_iter) - sorted(n_iter)[1]


def test_path_equals_single_pursuits_and_starts_at_the_last_codes():
    operator, X = make_problem()
    alphas = convolutional_alpha_max(X, operator).max() * np.array([0.25, 1.01, 0.5, 0.25])
    path = list(convolutional_path(X, operator, alphas, tol=1e-6, positive=True))
    assert [alpha for alpha, _ in path] == sorted(alphas, reverse=True)
    assert not path[0][1].codes.any()
    for alpha, result in path:
        cold = convolutional_basis_pursuit(X, operator, alpha, tol=1e-6, positive=True)
        np.testing.assert_allclose(result.objective, cold.objective, rtol=1e-5)
        assert (result.gap <= 1e-6 * result.objective).all()
    assert (path[-1][1].n_iter == 0).all()  # the same penalty again
    begun = next(convolutional_path(X, operator, alphas[:1], tol=1e-6, positive=True, init=path[-1][1].codes))
    assert (begun[1].n_iter == 0).all()
    for wrong in ([], [0.1, -1.0], [[0.1]], 0.1, [np.nan]):
        with pytest.raises(ValueError, match="alphas must be a list of numbers > 0"):
            convolutional_path(X, operator, wrong)


@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
def test_alpha_max_is_where_codes_begin(solver):
    operator, X = make_problem()
    top = convolutional_alpha_max(X, operator)
    assert not convolutional_basis_pursuit(X, operator, top.max() * 1.0001, solver=solver).codes.any()
    codes = convolutional_basis_pursuit(X, operator, top.min() * 0.999, solver=solver, tol=1e-9, max_iter=5000).codes
    assert codes.any(axis=(1, 2, 3)).all()


def test_result_does_not_depend_on_threads_or_batch():
    operator, X = make_problem(n=5)
    alpha = 0.2 * convolutional_alpha_max(X, operator).min()
    together = convolutional_basis_pursuit(X, operator, alpha, n_jobs=2)
    one = convolutional_basis_pursuit(X, operator, alpha, n_jobs=1)
    np.testing.assert_array_equal(together.codes, one.codes)
    np.testing.assert_array_equal(convolutional_basis_pursuit(X[3:4], operator, alpha).codes[0], one.codes[3])


@pytest.mark.parametrize(("padding", "stride"), [("same", 1), ("circular", 1), ("full", 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_large_signals_in_bands(padding, stride, masked):
    operator, X = make_problem((200, 23, 1), (4, 3), 3, padding, stride, n=2)
    mask = np.random.default_rng(1).random((200, 23)) < 0.8 if masked else None
    alpha = 0.3 * convolutional_alpha_max(X, operator, mask=mask).min()
    bands = convolutional_basis_pursuit(X, operator, alpha, mask=mask, solver="descent", tol=1e-6, n_jobs=2)
    steps = convolutional_basis_pursuit(X, operator, alpha, mask=mask, solver="fista", tol=1e-6, max_iter=5000)
    np.testing.assert_allclose(bands.objective, steps.objective, rtol=2e-6)
    assert (bands.gap <= 1e-6 * bands.objective).all()
    valid = 1.0 if mask is None else mask[..., None]
    np.testing.assert_allclose(bands.objective, objective(X, operator, bands.codes, alpha, mask=valid))
    one = convolutional_basis_pursuit(X, operator, alpha, mask=mask, solver="descent", tol=1e-6, n_jobs=1)
    np.testing.assert_array_equal(bands.codes, one.codes)
    np.testing.assert_array_equal(bands.gap, one.gap)
    # The bound of the last residual alone may be weaker than the best bound of all.
    again = convolutional_basis_pursuit(X, operator, alpha, mask=mask, init=bands.codes, solver="descent", tol=1e-5)
    assert (again.n_iter == 0).all()


@pytest.mark.parametrize("padding", ["same", "circular"])
def test_threads_share_few_large_signals_and_divide_many(padding):
    operator, X = make_problem((140, 9, 1), (3, 3), 2, padding, n=5)
    alpha = 0.1 * convolutional_alpha_max(X, operator).min()
    many = convolutional_basis_pursuit(X, operator, alpha, solver="descent", n_jobs=2)
    for i in [*range(len(X))] * 4:
        single = convolutional_basis_pursuit(X[i : i + 1], operator, alpha, solver="descent", n_jobs=2)
        np.testing.assert_array_equal(single.codes[0], many.codes[i])
        assert single.gap[0] == many.gap[i]


@pytest.mark.parametrize("shape", [(24, 24, 1), (140, 12, 1)])
def test_descent_solves_codes_with_nearly_as_many_coefficients_as_values(handed_over, shape):
    operator, X = make_problem(shape, (4, 4), 12, n=2)
    alpha = 0.005 * convolutional_alpha_max(X, operator).min()
    dense = convolutional_basis_pursuit(X, operator, alpha, tol=1e-3, max_iter=5000)
    assert not handed_over
    assert (np.count_nonzero(dense.codes.reshape(2, -1), axis=1) > 0.7 * X[0].size).all()
    assert (dense.gap <= 1e-3 * dense.objective).all()
    steps = convolutional_basis_pursuit(X, operator, alpha, solver="admm", tol=1e-3, max_iter=5000)
    np.testing.assert_allclose(dense.objective, steps.objective, rtol=1e-3)  # each within tol


@pytest.mark.parametrize("solver", ["descent", "fista", "admm"])
def test_masked_values_are_ignored(solver):
    operator, X = make_problem()
    mask = np.random.default_rng(1).random(X.shape) < 0.7
    alpha = 0.3 * convolutional_alpha_max(X, operator, mask=mask).min()
    expected = convolutional_basis_pursuit(X, operator, alpha, mask=mask, solver=solver)
    for unknown in (np.nan, np.inf, 1e9):
        values = np.where(mask, X, unknown)
        result = convolutional_basis_pursuit(values, operator, alpha, mask=mask, solver=solver)
        np.testing.assert_array_equal(result.codes, expected.codes)
        np.testing.assert_array_equal(result.gap, expected.gap)
        np.testing.assert_array_equal(
            convolutional_alpha_max(values, operator, mask=mask), convolutional_alpha_max(X, operator, mask=mask)
        )
        np.testing.assert_array_equal(
            convolutional_omp(values, operator, n_nonzero_coefs=4, mask=mask),
            convolutional_omp(X, operator, n_nonzero_coefs=4, mask=mask),
        )
        tensors = [torch.as_tensor(v) for v in (values, mask)]
        on_tensors = convolutional_basis_pursuit(tensors[0], operator, alpha, mask=tensors[1], solver=solver)
        np.testing.assert_allclose(on_tensors.objective, expected.objective, rtol=2e-3)  # each within tol=1e-3
    nothing = convolutional_basis_pursuit(X, operator, alpha, mask=np.zeros((9, 11)), solver=solver)
    assert not nothing.codes.any() and not nothing.gap.any() and not nothing.objective.any()
    for call in (
        convolutional_alpha_max,
        convolutional_omp,
        lambda *a: convolutional_basis_pursuit(*a, alpha),
    ):
        with pytest.raises(ValueError, match="X contains NaN or infinity"):
            call(np.where(mask, X, np.nan), operator)


def test_masks_of_all_shapes():
    operator, X = make_problem((4, 4, 2), (2, 2), 3, n=4)
    mask = np.random.default_rng(1).random((4, 4, 4, 2)) < 0.7

    def codes(mask):
        return convolutional_basis_pursuit(X, operator, 0.5, mask=mask).codes

    full = np.ones(X.shape, dtype=bool)
    for part in (mask[0], mask[0, ..., 0], mask[0, ..., :1], mask[..., :1]):
        spread = full & (part[..., None] if part.ndim == 2 else part)
        np.testing.assert_array_equal(codes(part), codes(spread))
    pixels, other = mask[..., 0], ConvolutionalOperator(operator.components, (4, 3, 2))
    result = convolutional_basis_pursuit(X[:, :, :3], other, 0.5, mask=pixels[:, :, :3])
    expected = convolutional_basis_pursuit(X[:, :, :3], other, 0.5, mask=mask[:, :, :3, :1])
    np.testing.assert_array_equal(result.codes, expected.codes)
    for shape in ((4,), (2, 4, 4, 2), (4, 4, 3), (1, 4, 4, 3), (3, 4, 4)):
        with pytest.raises(ValueError, match="matches neither one signal"):
            codes(np.ones(shape))


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_no_signals_have_no_codes(solver):
    operator, X = make_problem()
    for none in (X[:0], torch.as_tensor(X[:0])):
        result = convolutional_basis_pursuit(none, operator, 0.5, solver=solver)
        assert type(result.codes) is type(none) and result.codes.shape == (0, 9, 11, 6)
        assert result.gap.shape == result.objective.shape == result.n_iter.shape == (0,)
    assert convolutional_alpha_max(X[:0], operator).shape == (0,)
    assert convolutional_omp(X[:0], operator).shape == (0, 9, 11, 6)


def test_initial_codes_may_be_arrays_tensors_or_lists():
    operator, X = make_problem()
    begun = convolutional_basis_pursuit(X, operator, 0.5, tol=1e-6, max_iter=20_000).codes
    for values in (X, torch.as_tensor(X)):
        for init in (begun, torch.as_tensor(begun), begun.tolist()):
            for solver in ("descent", "fista"):
                result = convolutional_basis_pursuit(values, operator, 0.5, init=init, solver=solver, tol=1e-5)
                assert (result.n_iter == 0).all()


def test_warns_when_the_gap_is_not_reached():
    operator, X = make_problem()
    with pytest.warns(ConvergenceWarning, match="max_iter=2, .* with a relative duality gap above tol=1e-08"):
        convolutional_basis_pursuit(X, operator, 0.1, tol=1e-8, max_iter=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha must be a number > 0"),
        ({"alpha": float("nan")}, "alpha must be a number > 0"),
        ({"solver": "lars"}, "solver must be"),
        ({"weights": [1.0]}, "weights must be 6 numbers > 0"),
        ({"weights": [0.0] * 6}, "weights must be 6 numbers > 0"),
        ({"mask": np.ones((3, 3))}, r"mask of shape \(3, 3\) matches neither"),
        ({"mask": np.full((9, 11), 0.5)}, "mask must hold 0"),
        ({"init": np.zeros((1, 9, 11, 6))}, "init must have shape"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"max_iter": 2.5}, "max_iter must be an integer"),
        ({"alpha": "small"}, "alpha must be a number > 0"),
        ({"tol": -1e-3}, "tol must be a number >= 0"),
        ({"tol": float("nan")}, "tol must be a number >= 0"),
        ({"init": np.full((3, 9, 11, 6), np.nan)}, "init contains NaN"),
    ],
)
def test_errors(change, message):
    operator, X = make_problem()
    with pytest.raises(ValueError, match=message):
        convolutional_basis_pursuit(X, operator, **{"alpha": 0.5, **change})
    with pytest.raises(ValueError, match="X must have shape"):
        convolutional_basis_pursuit(X[:, :-1], operator, 0.5)


def test_agrees_with_sporco():
    cbpdn = pytest.importorskip("sporco.admm.cbpdn")
    operator, X = make_problem((16, 16, 1), (4, 4), 6, "circular", n=1)
    alpha = 0.3 * convolutional_alpha_max(X, operator)[0]
    ours = convolutional_basis_pursuit(X, operator, alpha, tol=1e-8, max_iter=20_000)
    settings = {"rho": 10 * alpha, "AutoRho": {"Enabled": False}, "MaxMainIter": 2000, "RelStopTol": 1e-7}
    options = cbpdn.ConvBPDN.Options({"Verbose": False, **settings})
    filters = np.moveaxis(operator.components[..., 0], 0, -1)
    theirs = cbpdn.ConvBPDN(filters, X[0, ..., 0], alpha, options, dimK=0).solve().reshape(1, 16, 16, 6)
    reached = objective(X, operator, theirs, alpha)
    assert (ours.objective - ours.gap <= reached).all()
    np.testing.assert_allclose(reached, ours.objective, rtol=1e-5)
    # Objectives equal to 1e-5 leave codes known to about its root.
    np.testing.assert_allclose(ours.codes, theirs, atol=1e-2 * np.abs(theirs).max())


def test_agrees_with_alphacsc():
    update_z = pytest.importorskip("alphacsc.update_z_multi").update_z_multi
    operator, X = make_problem((60, 2), (7,), 3, "valid", n=2)
    alpha = 0.2 * convolutional_alpha_max(X, operator, positive=True).max()
    ours = convolutional_basis_pursuit(X, operator, alpha, positive=True, tol=1e-9, max_iter=20_000)
    signals, atoms = X.swapaxes(1, 2), operator.components.swapaxes(1, 2)
    settings = {"tol": 1e-9, "max_iter": 1_000_000}
    theirs = update_z(signals, atoms, alpha, solver="lgcd", solver_kwargs=settings)[0].swapaxes(1, 2)
    np.testing.assert_allclose(objective(X, operator, theirs, alpha), ours.objective, rtol=1e-8)
    np.testing.assert_allclose(ours.codes, theirs, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("height", [9, 300])
def test_coefficients_whose_atoms_are_masked_are_zero(height):
    operator, X = make_problem((height, 8, 1), (3, 3), 5, n=2)
    mask = np.ones((height, 8))
    mask[:5] = 0
    init = np.random.default_rng(1).normal(size=(2, *operator.code_shape))
    result = convolutional_basis_pursuit(X, operator, 0.5, mask=mask, init=init, solver="descent", tol=1e-3)
    assert not result.codes[:, :3].any()
    true = objective(X, operator, result.codes, 0.5, mask=mask[..., None])
    np.testing.assert_allclose(result.objective, true, rtol=1e-9)

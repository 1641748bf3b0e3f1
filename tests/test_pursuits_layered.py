"""Layered pursuits: the structured dictionary, thresholding, cascade, deep pursuit, projection."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso

from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.operators.layered.skips import SkipConnection
from skrobust.pursuits import (
    convolutional_basis_pursuit,
    deep_pursuit,
    layered_basis_pursuit,
    layered_thresholding,
    multilayer_pursuit,
)


def chain(n_layers=3, skip=None, seed=0, grid=(7, 6), channels=2, padding="same", dtype=np.float64):
    """A small convolutional chain whose layers keep the grid, or shrink it."""
    rng = np.random.default_rng(seed)
    shape, operators = (*grid, channels), []
    for n_atoms in [3, 4, 3, 5, 3][:n_layers]:
        kernel = [min(2, n) for n in shape[:-1]]
        atoms = rng.normal(size=(n_atoms, *kernel, shape[-1])).astype(dtype)
        atoms /= np.sqrt((atoms**2).sum(axis=tuple(range(1, atoms.ndim)), keepdims=True))
        operators.append(ConvolutionalOperator(atoms, shape, padding=padding))
        shape = operators[-1].code_shape
    return LayeredDictionary(operators, skip)


def signals(layers, n=4, seed=1, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, *layers.data_shape)).astype(dtype)


def flat(codes):
    return np.concatenate([np.asarray(w).reshape(len(w), -1) for w in codes], axis=1)


SKIPS = [None, "residual", "dense", {(3, 1): None}]


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_structured_dictionary_is_that_of_equation_16(skip, padding):
    layers = chain(4, skip, padding=padding)
    sizes = [int(np.prod(shape)) for shape in layers.code_shapes]
    heights = [int(np.prod(o.signal_shape)) for o in layers.operators]
    expected = np.zeros((sum(heights), sum(sizes)))
    rows, columns = np.cumsum([0, *heights]), np.cumsum([0, *sizes])
    for j, operator in enumerate(layers.operators):
        block = operator.synthesize(np.eye(sizes[j]).reshape(-1, *operator.code_shape)).reshape(sizes[j], -1).T
        expected[rows[j] : rows[j + 1], columns[j] : columns[j + 1]] = block
        if j:
            expected[rows[j] : rows[j + 1], columns[j - 1] : columns[j]] = -np.eye(sizes[j - 1])
    for (j, k), connection in layers.skips.items():
        block = connection.apply(np.eye(sizes[k]).reshape(-1, *layers.code_shapes[k])).reshape(sizes[k], -1).T
        expected[rows[j] : rows[j + 1], columns[k] : columns[k + 1]] = -block
    np.testing.assert_allclose(layers.to_dense(), expected, atol=1e-13)
    # The adjoint, and the norms.
    signal_parts = [np.random.default_rng(j).normal(size=(2, *o.signal_shape)) for j, o in enumerate(layers.operators)]
    np.testing.assert_allclose(flat(layers.correlate(signal_parts)), flat(signal_parts) @ expected, atol=1e-12)
    exact = np.linalg.norm(expected, 2) ** 2
    assert exact * (1 - 1e-9) <= layers.lipschitz <= 1.5 * exact  # blocks whose directions differ add up to less
    for j in range(4):
        exact = np.linalg.norm(expected[:, columns[j] : columns[j + 1]], 2) ** 2
        assert exact <= layers.block_lipschitz(j) * (1 + 1e-9)
        assert layers.block_lipschitz(j) <= 2 * exact + 3


@settings(max_examples=40, deadline=None)
@given(
    source=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    target=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    learned=st.booleans(),
)
def test_skip_connections_are_linear_with_an_exact_adjoint(source, target, learned):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(target[-1], source[-1])) if learned else None
    skip = SkipConnection(source, target, matrix)
    codes, targets = rng.normal(size=(2, *source)), rng.normal(size=(2, *target))
    assert (skip.apply(codes) * targets).sum() == pytest.approx((codes * skip.adjoint(targets)).sum(), abs=1e-10)
    size = int(np.prod(source))
    dense = skip.apply(np.eye(size).reshape(-1, *source)).reshape(size, -1)
    assert np.linalg.norm(dense, 2) == pytest.approx(skip.norm, abs=1e-9)
    of_tensors = skip.apply(torch.tensor(codes)), skip.adjoint(torch.tensor(targets))
    np.testing.assert_allclose(of_tensors[0], skip.apply(codes), atol=1e-12)
    np.testing.assert_allclose(of_tensors[1], skip.adjoint(targets), atol=1e-12)


@pytest.mark.parametrize("n_layers", [2, 5, 6])
def test_residual_connections_join_the_input_of_each_unit_to_its_second_layer(n_layers):
    """Units of two layers from the first on: (2, 0), (4, 2), (6, 4), where 0 is the data."""
    atoms = np.random.default_rng(0).normal(size=(2, 3, 2)) / 3
    layers = LayeredDictionary([ConvolutionalOperator(atoms, (6, 2))] * n_layers, "residual")
    X = np.random.default_rng(1).normal(size=(3, 6, 2))
    codes = layered_thresholding(X, layers, 0.01)
    before = [X, *codes]
    for j in range(n_layers):
        target = before[j] + (before[j - 1] if j % 2 else 0)
        np.testing.assert_allclose(layers.target(j, X, codes), target)
    result = deep_pursuit(X, layers, 0.05, tol=1e-5, max_iter=20000, return_result=True)
    assert (result.gap <= 1e-5 * result.objective).all()
    # The same problem as a LASSO: the signal is X, and what connections bring of it.
    signal = np.concatenate([(X if j == 0 else X * (j == 1)).reshape(3, -1) for j in range(n_layers)], axis=1)
    dense = layers.to_dense()
    for x, codes in zip(signal, flat(result.codes), strict=True):
        lasso = Lasso(alpha=0.05 / len(x), positive=True, fit_intercept=False, tol=1e-12, max_iter=100000)
        best = lasso.fit(dense, x).coef_
        values = [0.5 * ((x - dense @ w) ** 2).sum() + 0.05 * w.sum() for w in (codes, best)]
        assert values[0] <= values[1] * (1 + 2e-5)


def test_a_skip_matrix_that_does_not_fit():
    with pytest.raises(ValueError, match=r"must have shape \(3, 2\)"):
        SkipConnection((4, 2), (4, 3), np.eye(2))
    with pytest.raises(ValueError, match="needs 0 <= k < j - 1"):
        chain(3, {(2, 1): None})
    with pytest.raises(ValueError, match="skip must be"):
        chain(3, "ladder")
    first = ConvolutionalOperator(np.ones((2, 3, 1)), (6, 1))
    with pytest.raises(ValueError, match="Layer 2 reads signals"):
        LayeredDictionary([first, first])


@pytest.mark.parametrize("stride", [1, 2])
def test_thresholding_is_the_forward_pass_of_a_network(stride):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(8, 1, 6, 6)), rng.normal(size=(10, 8, 6, 6))]
    biases = [-rng.uniform(0, 1, size=8), -rng.uniform(0, 1, size=10)]
    X = rng.normal(size=(3, 28, 28, 1))
    operators, shape = [], X.shape[1:]
    for w in weights:
        operators.append(ConvolutionalOperator(w.transpose(0, 2, 3, 1), shape, padding="valid", stride=stride))
        shape = operators[-1].code_shape
    codes = layered_thresholding(X, LayeredDictionary(operators), [-b for b in biases])
    z = torch.tensor(X).movedim(-1, 1)
    for w, b, layer_codes in zip(weights, biases, codes, strict=True):
        z = torch.relu(torch.nn.functional.conv2d(z, torch.tensor(w), torch.tensor(b), stride=stride))
        np.testing.assert_allclose(layer_codes, z.movedim(1, -1), atol=1e-9)


@pytest.mark.parametrize("skip", [None, "residual"])
def test_cascade(skip):
    layers, X = chain(3, skip), signals(chain(3))
    zero = layered_basis_pursuit(X, layers, 0.1, max_iter=0, return_result=True)
    np.testing.assert_allclose(flat(zero.codes), flat(layered_thresholding(X, layers, 0.1)), atol=1e-12)
    to_gap = layered_basis_pursuit(X, layers, [0.1, 0.2, 0.1], tol=1e-9, max_iter=5000, return_result=True)
    assert to_gap.gap.shape == (4, 3) and (to_gap.gap <= 1e-9 * to_gap.objective).all()
    many = layered_basis_pursuit(X, layers, [0.1, 0.2, 0.1], max_iter=5000, return_result=True)
    np.testing.assert_allclose(flat(many.codes), flat(to_gap.codes), rtol=1e-3, atol=1e-3)
    alone = convolutional_basis_pursuit(X, layers.operators[0], 0.1, positive=True, tol=1e-9, max_iter=5000)
    np.testing.assert_allclose(to_gap.codes[0], alone.codes, atol=1e-12)
    with pytest.warns(ConvergenceWarning, match="relative duality gap above"):
        layered_basis_pursuit(X, layers, 0.05, tol=1e-12, max_iter=1)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("skip", SKIPS)
def test_deep_pursuit_is_the_structured_lasso(skip, positive):
    layers, alphas = chain(3, skip, grid=(4, 3), channels=1), [0.05, 0.03, 0.04]
    X = 2 * signals(layers, 3)
    result = deep_pursuit(X, layers, alphas, positive=positive, tol=1e-8, max_iter=5000, return_result=True)
    assert (result.gap <= 1e-8 * result.objective).all()
    dense = layers.to_dense()
    penalties = np.repeat(alphas, [int(np.prod(shape)) for shape in layers.code_shapes])
    nothing = [np.zeros((len(X), *shape)) for shape in layers.code_shapes]
    whole = flat([layers.target(j, X, nothing) for j in range(layers.n_layers)])
    for n, (codes, b) in enumerate(zip(flat(result.codes), whole, strict=True)):
        # Atoms divided by their penalties turn weighted penalties into one.
        lasso = Lasso(alpha=1 / len(b), positive=positive, fit_intercept=False, tol=1e-12, max_iter=100_000)
        expected = lasso.fit(dense / penalties, b).coef_ / penalties
        objectives = [0.5 * ((b - dense @ w) ** 2).sum() + (penalties * np.abs(w)).sum() for w in (codes, expected)]
        assert objectives[0] == pytest.approx(objectives[1], rel=1e-8)
        assert objectives[0] == pytest.approx(result.objective[n], rel=1e-8)
        np.testing.assert_allclose(dense @ codes, dense @ expected, atol=1e-3)


@pytest.mark.parametrize("extrapolate", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("skip", SKIPS)
def test_the_objective_never_rises_with_lipschitz_steps(skip, dtype, extrapolate):
    layers = chain(5, skip, dtype=dtype)
    X = signals(layers, 6, dtype=dtype)
    values = [
        deep_pursuit(X, layers, 0.02, max_iter=n, extrapolate=extrapolate, return_result=True).objective
        for n in [0, 1, 2, 3, 5, 8, 20, 60]
    ]
    rounding = 1e-5 if dtype == np.float32 else 1e-12
    assert all((later <= before * (1 + rounding)).all() for before, later in zip(values, values[1:], strict=False))
    assert (values[-1] < values[0]).all()


def test_extrapolation_needs_fewer_iterations():
    layers, X = chain(4, "residual"), signals(chain(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        n_iterations = [
            deep_pursuit(X, layers, 0.02, tol=1e-6, max_iter=20_000, extrapolate=e, return_result=True).n_iter.sum()
            for e in (True, False)
        ]
    assert n_iterations[0] < 0.7 * n_iterations[1]


@pytest.mark.parametrize("skip", [None, "dense"])
def test_the_gap_bounds_the_distance_to_the_minimum(skip):
    layers, X = chain(3, skip), signals(chain(3))
    X[1] = 0
    least = deep_pursuit(X, layers, 0.05, tol=1e-8, max_iter=5000, return_result=True).objective
    for tol in (0.5, 0.1, 1e-3):
        result = deep_pursuit(X, layers, 0.05, tol=tol, max_iter=10_000, return_result=True)
        assert (result.objective - least <= result.gap + 1e-9).all()
        assert (result.objective >= least - 1e-9).all()
    assert not flat(result.codes)[1].any()


def test_samples_do_not_depend_on_their_batch():
    layers, X = chain(3, {(3, 1): None}), signals(chain(3), 5)
    X[2] *= 10
    for options in ({"tol": 1e-6, "max_iter": 5000}, {"max_iter": 30}):
        together = flat(deep_pursuit(X, layers, 0.05, **options))
        alone = np.concatenate([flat(deep_pursuit(X[n : n + 1], layers, 0.05, **options)) for n in range(5)])
        np.testing.assert_allclose(together, alone, atol=1e-10)


@pytest.mark.parametrize("skip", [None, "residual", "dense"])
@pytest.mark.parametrize("function", [layered_basis_pursuit, deep_pursuit, multilayer_pursuit])
def test_arrays_and_tensors_agree(function, skip):
    if function is multilayer_pursuit and skip:
        pytest.skip("does not support skip connections")
    for dtype, atol in ((np.float64, 1e-13), (np.float32, 3e-5)):  # rounding over 15 iterations
        layers = chain(4, skip, dtype=dtype)
        X = signals(layers, dtype=dtype)
        of_arrays = function(X, layers, 0.05, max_iter=15)
        of_tensors = function(torch.tensor(X), layers, 0.05, max_iter=15)
        assert of_tensors[0].dtype == torch.tensor(X).dtype and of_arrays[0].dtype == dtype
        np.testing.assert_allclose(flat(of_arrays), flat(of_tensors), atol=atol)


@pytest.mark.parametrize("function", [layered_basis_pursuit, deep_pursuit, multilayer_pursuit])
def test_gradients(function):
    skip = None if function is multilayer_pursuit else "residual"
    fixed = chain(3, skip, grid=(4, 3), channels=1)
    X = torch.tensor(signals(fixed, 2), requires_grad=True)
    atoms = [torch.tensor(o.components, requires_grad=True) for o in fixed.operators]
    alphas = [torch.full((len(a),), 0.05, dtype=torch.float64, requires_grad=True) for a in atoms]

    def codes(X, *parameters):
        operators = [
            ConvolutionalOperator(a, o.signal_shape, padding=o.padding)
            for a, o in zip(parameters[:3], fixed.operators, strict=True)
        ]
        for operator, known in zip(operators, fixed.operators, strict=True):
            operator.lipschitz = known.lipschitz  # steps are constants of the iteration
        result = function(X, LayeredDictionary(operators, skip), list(parameters[3:]), max_iter=4)
        return torch.cat([w.flatten(1) for w in result], dim=1)

    assert torch.autograd.gradcheck(codes, (X, *atoms, *alphas), atol=1e-6)


def test_projection_satisfies_the_model_and_nears_its_minimum():
    layers, X = chain(3, grid=(4, 3), channels=1), signals(chain(3, grid=(4, 3), channels=1), 3)
    result = multilayer_pursuit(X, layers, [0.01, 0.01, 0.02], positive=False, max_iter=1000, return_result=True)
    for j in (1, 2):
        np.testing.assert_allclose(layers.operators[j].synthesize(result.codes[j]), result.codes[j - 1], atol=1e-12)
    # The same objective over the deepest codes, by dense matrices.
    products = [layers.operators[j].synthesize for j in range(3)]
    size = int(np.prod(layers.code_shapes[-1]))
    third = np.eye(size).reshape(-1, *layers.code_shapes[-1])
    second, first = products[2](third), products[1](products[2](third))
    image = products[0](first).reshape(size, -1).T
    inner = [first.reshape(size, -1).T, second.reshape(size, -1).T, np.eye(size)]
    for n in range(3):
        assert result.objective[n] <= 1.001 * _least(image, inner, [0.01, 0.01, 0.02], X[n].ravel())


def _least(image, inner, alphas, x):
    """min_w 1/2 ||x - image w||^2 + sum_j alpha_j ||inner_j w||_1 by ADMM."""
    stacked = np.concatenate(inner)
    weights = np.repeat(alphas, [len(matrix) for matrix in inner])
    solve = np.linalg.inv(image.T @ image + stacked.T @ stacked)
    dual = split = np.zeros(len(stacked))
    for _ in range(3000):
        w = solve @ (image.T @ x + stacked.T @ (split - dual))
        moved = stacked @ w + dual
        split = np.sign(moved) * np.maximum(np.abs(moved) - weights, 0)
        dual = moved - split
    return 0.5 * ((x - image @ w) ** 2).sum() + (weights * np.abs(stacked @ w)).sum()


def test_bad_parameters_are_named():
    layers, X = chain(3), signals(chain(3))
    with pytest.raises(ValueError, match="alpha has 2 entries for 3 layers"):
        layered_basis_pursuit(X, layers, [0.1, 0.1])
    with pytest.raises(ValueError, match="threshold of layer 1 must be finite"):
        layered_thresholding(X, layers, np.nan)
    with pytest.raises(ValueError, match="alpha of layer 2 must have shape"):
        deep_pursuit(X, layers, [0.1, np.ones(7), 0.1])
    with pytest.raises(ValueError, match="alpha must be > 0"):
        deep_pursuit(X, layers, 0.0, tol=1e-3)
    with pytest.raises(ValueError, match="alpha must be > 0"):
        layered_basis_pursuit(X, layers, 0.0, tol=1e-3)
    with pytest.raises(ValueError, match="not support skip connections"):
        multilayer_pursuit(X, chain(3, "residual"), 0.1)
    with pytest.raises(ValueError, match="codes of all layers"):
        chain(3, "residual").reconstruct(np.zeros((1, *layers.code_shapes[-1])))

"""Convolutional dictionary learning: exact sums, updates that never raise the error, planted atoms found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pursuits_conv_operator import PADDINGS

from skrobust.dictionaries import ConvolutionalLearner, ConvolutionalStatistics, initial_convolutional_atoms
from skrobust.operators import ConvolutionalOperator


def sparse_codes(rng, shape, share=0.2):
    return rng.normal(size=shape) * (rng.random(shape) < share)


@given(
    padding=st.sampled_from(PADDINGS),
    stride=st.integers(1, 2),
    two_axes=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_sums_give_the_squared_error_of_any_atoms(padding, stride, two_axes, masked, seed):
    rng = np.random.default_rng(seed)
    grid, kernel = ((6, 7), (3, 2)) if two_axes else ((9,), (4,))
    atoms, other_atoms = rng.normal(size=(2, 3, *kernel, 2))
    operator = ConvolutionalOperator(atoms, (*grid, 2), padding=padding, stride=stride)
    codes = sparse_codes(rng, (4, *operator.code_shape))
    X = rng.normal(size=(4, *grid, 2))
    mask = rng.random((4, *grid)) < 0.7 if masked else None
    statistics = ConvolutionalStatistics(atoms.shape)
    statistics.add(X[:1], codes[:1], operator.geometry, mask=None if mask is None else mask[:1])
    statistics.add(X[1:], codes[1:], operator.geometry, mask=None if mask is None else mask[1:])
    for components in (atoms, other_atoms):
        rebuilt = ConvolutionalOperator(components, (*grid, 2), padding=padding, stride=stride).synthesize(codes)
        residual = (X - rebuilt) * (1 if mask is None else mask[..., None])
        assert statistics.squared_error(components) == pytest.approx((residual**2).sum(), rel=1e-9)
    improved = statistics.improve(atoms / 10)
    assert statistics.squared_error(improved) <= statistics.squared_error(atoms / 10)
    assert np.linalg.norm(improved.reshape(3, -1), axis=1).max() <= 1 + 1e-12


def test_update_reaches_the_least_squares_atoms():
    rng = np.random.default_rng(0)
    truth = 0.5 * rng.normal(size=(3, 4, 1))
    truth /= 2 * np.linalg.norm(truth, axis=(1, 2), keepdims=True)
    operator = ConvolutionalOperator(truth, (50, 1))
    codes = sparse_codes(rng, (6, *operator.code_shape))
    statistics = ConvolutionalStatistics(truth.shape)
    statistics.add(operator.synthesize(codes), codes, operator.geometry)
    atoms = statistics.improve(np.zeros_like(truth), n_passes=300)
    np.testing.assert_allclose(atoms, truth, atol=1e-6)


def planted(n=40, seed=0):
    rng = np.random.default_rng(seed)
    atoms = rng.normal(size=(4, 5, 5, 1))
    atoms /= np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))
    operator = ConvolutionalOperator(atoms, (20, 20, 1))
    codes = sparse_codes(rng, (n, *operator.code_shape), 0.01) * 3
    return atoms, operator.synthesize(codes) + 0.01 * rng.normal(size=(n, 20, 20, 1))


def worst_match(atoms, truth):
    """Smallest over true atoms of the largest cross-correlation with a learned one."""
    matches = []
    for atom in truth:
        best = 0.0
        for other in atoms:
            spectrum = np.fft.fft2(atom[..., 0], (11, 11)) * np.fft.fft2(other[..., 0], (11, 11)).conj()
            best = max(best, np.abs(np.fft.ifft2(spectrum)).max())
        matches.append(best)
    return min(matches)


def test_batch_learning_finds_planted_atoms():
    truth, X = planted()
    # Larger than the true ones, so that a patch that cuts one off can still become it.
    atoms = initial_convolutional_atoms(X, 8, (7, 7), random_state=0)
    learner = ConvolutionalLearner(atoms, 0.5, random_state=0)
    objectives = [learner.epoch(X).objective for _ in range(20)]
    assert objectives[-1] < 0.7 * objectives[0]
    assert worst_match(learner.components, truth) > 0.95
    np.testing.assert_allclose(np.linalg.norm(learner.components.reshape(8, -1), axis=1), 1)


def test_online_learning_finds_planted_atoms():
    truth, X = planted(80)
    atoms = initial_convolutional_atoms(X, 8, (7, 7), random_state=0)
    learner = ConvolutionalLearner(atoms, 0.5, random_state=0)
    for _ in range(6):
        learner.pass_online(X, 10)
    assert worst_match(learner.components, truth) > 0.85


def test_same_seed_same_atoms_for_any_threads():
    _, X = planted(6)

    def learn(n_jobs):
        atoms = initial_convolutional_atoms(X, 3, (4, 4), random_state=1)
        learner = ConvolutionalLearner(atoms, 0.1, random_state=1, n_jobs=n_jobs)
        return learner.epoch(X).epoch(X).components

    np.testing.assert_array_equal(learn(1), learn(2))


def test_dead_atoms_are_replaced():
    _, X = planted(8)
    atoms = initial_convolutional_atoms(X, 3, (5, 5), random_state=0)
    atoms[1] = 0
    atoms[1, 0, 0] = 1e-9  # never worth its penalty
    learner = ConvolutionalLearner(atoms, 0.1, random_state=0).epoch(X)
    assert learner.statistics.usage()[1] == 0
    learner.epoch(X)
    assert learner.statistics.usage()[1] > 0


def test_zero_signals_leave_unit_atoms():
    X = np.zeros((2, 8, 1))
    atoms = initial_convolutional_atoms(X, 3, (4,), random_state=0)
    learner = ConvolutionalLearner(atoms, 0.1, random_state=0).epoch(X)
    np.testing.assert_allclose(np.linalg.norm(learner.components.reshape(3, -1), axis=1), 1)


def test_integers_and_lists_are_signals():
    _, X = planted(3)
    X = np.round(50 * X).astype(np.int64)
    for init in ("data", "random"):
        atoms = initial_convolutional_atoms(X, 4, (5, 5), init=init, random_state=0)
        np.testing.assert_array_equal(
            atoms, initial_convolutional_atoms(X.astype(float), 4, (5, 5), init=init, random_state=0)
        )
        np.testing.assert_allclose(np.linalg.norm(atoms.reshape(4, -1), axis=1), 1)
    exact = ConvolutionalLearner(atoms, 5.0, random_state=0).epoch(X.astype(float)).update(X.astype(float))
    for values in (X, X.tolist()):
        learner = ConvolutionalLearner(atoms.tolist(), 5.0, random_state=0).epoch(values).update(values)
        np.testing.assert_array_equal(learner.components, exact.components)
        learner.pass_online(values, 2)


def test_unusable_training_data_are_refused():
    X = np.random.default_rng(0).normal(size=(3, 8, 1))
    with pytest.raises(ValueError, match="init must be 'data' or 'random', got 'zeros'"):
        initial_convolutional_atoms(X, 2, (3,), init="zeros")
    for kernel_size in ((9,), (0,), (3, 3)):
        with pytest.raises(ValueError, match="kernel_size"):
            initial_convolutional_atoms(X, 2, kernel_size)
    learner = ConvolutionalLearner(initial_convolutional_atoms(X, 2, (3,), random_state=0), 0.1)
    for step in (learner.epoch, learner.update):
        with pytest.raises(ValueError, match="X must have shape"):
            step(X[:0])
        with pytest.raises(ValueError, match="X contains NaN"):
            step(X * np.nan)


def test_too_many_taps():
    with pytest.raises(ValueError, match="at most 12000"):
        ConvolutionalStatistics((200, 8, 8, 1))


def test_initial_atoms_take_one_size_for_all_axes():
    X = np.random.default_rng(0).random((3, 8, 8, 2))
    expected = initial_convolutional_atoms(X, 3, (3, 3), random_state=0)
    for size in (3, np.int64(3), [3, 3]):
        np.testing.assert_array_equal(initial_convolutional_atoms(X, 3, size, random_state=0), expected)
    for size in (0, 9, 2.5, None, "a", (3,), (3, 9), (3, 3, 3)):
        with pytest.raises(ValueError, match="kernel_size"):
            initial_convolutional_atoms(X, 3, size)
    for count in (0, 1.5, None):
        with pytest.raises(ValueError, match="n_components must be an integer >= 1"):
            initial_convolutional_atoms(X, count, 3)

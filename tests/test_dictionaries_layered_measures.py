"""Measures of structured dictionaries against their dense matrices."""

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skrobust.dictionaries import estimate_frame_potential, layered_coherence, mutual_coherence, welch_bound
from skrobust.operators import ConvolutionalOperator, LayeredDictionary

SKIPS = [None, "residual", "dense", "learned"]


def chain(grid, channels, plan, skip=None, padding="same", seed=0, ones=False):
    """Layers of ``(n_atoms, kernel, stride)``; all atoms and matrices of ones show where columns can overlap."""
    rng = np.random.default_rng(seed)
    shape, operators = (*grid, channels), []
    for n_atoms, kernel, stride in plan:
        sizes = [min(kernel, n) for n in shape[:-1]]
        atoms = np.ones if ones else lambda size: rng.normal(size=size)
        components = atoms((n_atoms, *sizes, shape[-1]))
        operators.append(ConvolutionalOperator(components, shape, padding=padding, stride=stride))
        shape = operators[-1].code_shape
    if skip == "learned":
        pairs = [(j, k) for j in range(3, len(plan) + 1) for k in range(1, j - 1)][::2]
        sizes = [plan[0][0], *[n_atoms for n_atoms, _, _ in plan]]
        skip = {(j, k): np.ones((sizes[j - 1], sizes[k])) for j, k in pairs}
        if not ones:
            skip = {pair: rng.normal(size=matrix.shape) for pair, matrix in skip.items()}
    return LayeredDictionary(operators, skip)


def of_matrix(matrix, mask):
    """Mutual coherence, frame potential over the pairs of the mask, and their number."""
    norms = np.linalg.norm(matrix, axis=0)
    unit = matrix / np.where(norms > 0, norms, 1)
    gram = np.abs(unit.T @ unit)
    np.fill_diagonal(gram, 0)
    n_pairs = int(mask.sum() - np.trace(mask))
    return gram.max(initial=0), np.sqrt((gram**2).sum() / max(n_pairs, 1)), n_pairs


def overlaps(layers):
    """Pairs of columns with overlapping supports, of a dictionary of ones."""
    support = np.abs(layers.to_dense()) > 1e-9  # transforms leave roundings
    return support.T.astype(int) @ support > 0


@settings(max_examples=60, deadline=None)
@given(
    grid=st.one_of(st.tuples(st.integers(3, 11)), st.tuples(st.integers(3, 6), st.integers(3, 7))),
    channels=st.integers(1, 2),
    plan=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2)), min_size=1, max_size=4),
    skip=st.sampled_from(SKIPS),
    padding=st.sampled_from(["same", "valid", "circular", "full"]),
    seed=st.integers(0, 3),
)
def test_measures_equal_those_of_the_dense_matrix(grid, channels, plan, skip, padding, seed):
    params = {"skip": skip, "padding": padding, "seed": seed}
    layers = chain(grid, channels, plan, **params)
    of_ones = chain(grid, channels, plan, **params, ones=True)
    measures = layered_coherence(layers)
    coherence, potential, n_pairs = of_matrix(layers.to_dense(), overlaps(of_ones))
    assert measures.n_pairs == n_pairs
    assert measures.n_columns == layers.to_dense().shape[1]
    assert measures.mutual_coherence == pytest.approx(coherence, abs=1e-12)
    assert measures.frame_potential == pytest.approx(potential, abs=1e-12)
    assert measures.welch_bound <= potential + 1e-9
    for k, (operator, ones) in enumerate(zip(layers.operators, of_ones.operators, strict=True)):
        alone = LayeredDictionary([operator]).to_dense()
        coherence, potential, _ = of_matrix(alone, overlaps(LayeredDictionary([ones])))
        assert measures.layer_mutual_coherence[k] == pytest.approx(coherence, abs=1e-12)
        assert measures.layer_frame_potential[k] == pytest.approx(potential, abs=1e-12)
        assert measures.layer_welch_bound[k] <= potential + 1e-9


@pytest.mark.parametrize("skip", SKIPS)
def test_small_batches_float32_and_tensors_give_the_same(skip):
    plan = [(3, 3, 1), (4, 3, 2), (3, 2, 1), (4, 2, 1)]
    layers = chain((9, 8), 2, plan, skip)
    expected = layered_coherence(layers)
    with sklearn.config_context(working_memory=0.01):
        np.testing.assert_allclose(layered_coherence(layers)[:3], expected[:3], rtol=1e-12)
    for convert, rtol in ((lambda a: a.astype(np.float32), 1e-7), (torch.tensor, 1e-12)):
        operators = [
            ConvolutionalOperator(convert(o.components), o.signal_shape, stride=o.stride) for o in layers.operators
        ]
        pairs = {(j + 1, k + 1): None if s.matrix is None else convert(s.matrix) for (j, k), s in layers.skips.items()}
        result = layered_coherence(LayeredDictionary(operators, pairs))
        np.testing.assert_allclose(result[:3], expected[:3], rtol=rtol)
        np.testing.assert_allclose(result.layer_mutual_coherence, expected.layer_mutual_coherence, rtol=rtol)


def test_atoms_that_are_transformed():
    """By Fourier transforms, whose rounding leaves no column zero."""
    rng = np.random.default_rng(0)
    measures = []
    for evaluation in ("fft", "spatial"):
        operator = ConvolutionalOperator(rng.normal(size=(3, 5, 1)), (17, 1), padding="full", evaluation=evaluation)
        rng = np.random.default_rng(0)
        measures.append(layered_coherence(LayeredDictionary([operator])))
    np.testing.assert_allclose(measures[0][:3], measures[1][:3], atol=1e-9)


def test_a_grid_without_edges_has_the_coherence_of_its_atoms():
    atoms = np.random.default_rng(0).normal(size=(3, 4, 2))
    operator = ConvolutionalOperator(atoms, (16, 2), padding="circular")
    measures = layered_coherence(LayeredDictionary([operator]))
    assert measures.mutual_coherence == pytest.approx(mutual_coherence(atoms))
    assert measures.welch_bound == pytest.approx(welch_bound((3, 4, 2)))
    assert measures.mutual_coherence == measures.layer_mutual_coherence[0]


def test_bounds_are_reached():
    angles = np.arange(3) * 2 * np.pi / 3
    frame = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    first = ConvolutionalOperator(frame[:, None], (1, 2))
    measures = layered_coherence(LayeredDictionary([first]))
    np.testing.assert_allclose(measures[:3], 0.5)
    # Tight frames in a chain: every block of the Gram matrix is as small as it can be.
    second = ConvolutionalOperator(np.kron(np.eye(3), [[1.0], [-1.0]])[:, None], first.code_shape)
    measures = layered_coherence(LayeredDictionary([first, second]))
    assert measures.frame_potential == pytest.approx(measures.welch_bound)
    assert measures.mutual_coherence > measures.frame_potential


def test_skip_connections_lower_the_bound():
    plan = [(3, 3, 1), (3, 3, 1), (3, 3, 1), (3, 3, 1), (3, 3, 1)]
    bounds = [layered_coherence(chain((12,), 3, plan, skip)).welch_bound for skip in (None, "residual", "dense")]
    assert bounds[0] > bounds[1] > bounds[2]


def test_columns_that_are_zero_are_left_out():
    atoms = np.zeros((2, 3, 1))
    atoms[0, 1] = atoms[1, 2] = 1.0
    operator = ConvolutionalOperator(atoms, (5, 1), padding="same")
    measures = layered_coherence(LayeredDictionary([operator]))
    assert measures.n_columns == 9  # the last pixel of the second atom lies beyond the edge in one position
    assert measures.mutual_coherence == 1.0  # the same pixel, by either atom
    dead = ConvolutionalOperator(np.zeros((2, 3, 1)), (5, 1))
    measures = layered_coherence(LayeredDictionary([dead]))
    assert measures[:3] == (0.0, 0.0, 0.0) and measures.n_columns == 0
    # Below another layer a zero atom is a column all the same: of the signals of that layer.
    measures = layered_coherence(LayeredDictionary([dead, ConvolutionalOperator(np.ones((1, 1, 2)), (5, 2))]))
    assert measures.mutual_coherence == pytest.approx(1 / np.sqrt(2))


@pytest.mark.parametrize("skip", SKIPS)
def test_estimates_are_unbiased_and_know_their_error(skip):
    layers = chain((8, 8), 2, [(4, 3, 1), (5, 3, 2), (4, 2, 1), (3, 2, 1)], skip)
    exact = layered_coherence(layers).frame_potential
    estimates = [estimate_frame_potential(layers, 20, random_state=seed) for seed in range(40)]
    values = np.array([e.frame_potential for e in estimates])
    assert values.mean() == pytest.approx(exact, abs=4 * values.std() / np.sqrt(len(values)))
    # The deviation of 40 values is itself known to 11 % only.
    assert np.mean([e.standard_error for e in estimates]) == pytest.approx(values.std(), rel=0.4)
    with sklearn.config_context(working_memory=0.01):
        again = estimate_frame_potential(layers, 20, random_state=3)
    assert again.frame_potential == pytest.approx(estimates[3].frame_potential, rel=1e-12)


def test_a_network_of_real_size():
    """The MNIST network of the stability paper, whose matrix would have 10^4 columns."""
    layers = chain((28, 28), 1, [(64, 6, 2), (128, 6, 2), (512, 4, 1)], padding="valid")
    layers = LayeredDictionary(layers.operators[:2])
    measures = layered_coherence(layers)
    estimate = estimate_frame_potential(layers, 10, random_state=0)
    assert abs(measures.frame_potential - estimate.frame_potential) < 5 * estimate.standard_error
    assert estimate.standard_error < 0.02 * measures.frame_potential


def test_refusals():
    layers = chain((6,), 1, [(2, 2, 1)])
    with pytest.raises(ValueError, match="n_probes must be an integer >= 2, got 1"):
        estimate_frame_potential(layers, 1)
    layers.operators[0].components[0, 0] = np.nan
    for function in (layered_coherence, estimate_frame_potential):
        with pytest.raises(ValueError, match="The atoms of layer 1 of layers have entries that are not finite"):
            function(layers)

"""Measures of dictionaries and codes against dense matrices and brute force."""

import itertools

import numpy as np
import pytest
from test_pursuits_conv_operator import dense_dictionary

from skrobust.dictionaries import (
    babel_function,
    largest_patch_norm,
    mutual_coherence,
    restricted_isometry_bound,
    stripe_sparsity,
    welch_bound,
)

SHAPES = [(3, 4, 1), (2, 3, 3, 1), (3, 3, 2, 2)]


def dense_gram(components):
    """Inner products of all columns on a circle so large that no column meets another twice."""
    grid = [4 * k for k in components.shape[1:-1]]
    D = dense_dictionary(components, (*grid, components.shape[-1]), "circular", 1)
    D = D / np.linalg.norm(D, axis=0)
    gram = np.abs(D.T @ D)
    np.fill_diagonal(gram, 0)
    return gram


@pytest.mark.parametrize("shape", SHAPES)
def test_convolutional_measures_equal_those_of_the_dense_matrix(shape):
    components = np.random.default_rng(0).normal(size=shape)
    gram = dense_gram(components)
    assert mutual_coherence(components) == pytest.approx(gram.max())
    sums = np.cumsum(np.sort(gram, axis=1)[:, ::-1], axis=1).max(axis=0)
    babel = babel_function(components)
    np.testing.assert_allclose(babel[1:], sums[: len(babel) - 1])
    assert sums[-1] == pytest.approx(babel[-1])  # nothing beyond overlaps
    np.testing.assert_allclose(babel_function(components, 3), babel[:4])


def test_patches():
    atoms = np.random.default_rng(1).normal(size=(6, 4))
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    gram = np.abs(unit @ unit.T) - np.eye(6)
    assert mutual_coherence(atoms) == pytest.approx(gram.max())
    np.testing.assert_allclose(babel_function(atoms)[-1], gram.sum(axis=1).max())
    assert mutual_coherence([[1.0, 2.0]]) == 0.0


def test_equal_atoms_and_no_samples():
    atoms = np.random.default_rng(0).normal(size=(2, 3, 3, 1))
    for scale in np.linspace(0.1, 3, 20):
        assert 1 - 1e-12 <= mutual_coherence(np.concatenate([atoms, scale * atoms])) <= 1
    assert mutual_coherence(np.ones((1, 1, 1))) == 0 == babel_function(np.ones((1, 1, 1)))[-1]
    assert stripe_sparsity(np.empty((0, 4, 2)), 3).shape == largest_patch_norm(np.empty((0, 4, 1)), 3).shape == (0,)


def test_isometry_bound_holds_for_every_support():
    atoms = np.random.default_rng(2).normal(size=(7, 20))
    unit = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    for k in (1, 2, 3):
        worst = 0.0
        for support in itertools.combinations(range(7), k):
            eigenvalues = np.linalg.eigvalsh(unit[list(support)] @ unit[list(support)].T)
            worst = max(worst, eigenvalues[-1] - 1, 1 - eigenvalues[0])
        bound = restricted_isometry_bound(atoms, k)
        assert worst <= bound + 1e-12
        assert bound <= (k - 1) * mutual_coherence(atoms) + 1e-12


@pytest.mark.parametrize(("shape", "length"), [((1, 3, 1), 9), ((2, 2, 2), 6), ((2, 3, 3), 7)])
def test_isometry_bound_holds_for_all_codes_that_are_locally_sparse(shape, length):
    components = np.random.default_rng(2).normal(size=shape)
    D = dense_dictionary(components, (length, shape[-1]), "circular", 1)
    gram = (D / np.linalg.norm(D, axis=0)).T @ (D / np.linalg.norm(D, axis=0))
    worst = {1: 0.0, 2: 0.0, 3: 0.0}
    for members in itertools.product([False, True], repeat=D.shape[1]):
        code = np.array(members).reshape(1, length, shape[0])
        k = int(stripe_sparsity(code, shape[1], circular=True)[0])
        if k in worst:
            eigenvalues = np.linalg.eigvalsh(gram[np.ix_(members, members)])
            worst[k] = max(worst[k], eigenvalues[-1] - 1, 1 - eigenvalues[0])
    for k, constant in worst.items():
        assert constant <= restricted_isometry_bound(components, k) + 1e-12
    assert worst[2] > 0.3 * restricted_isometry_bound(components, 2)  # no empty promise


@pytest.mark.parametrize("shape", [(3, 2), (9, 4), (4, 3), *SHAPES, (5, 2, 2, 1), (8, 3, 2)])
def test_welch_bound_holds(shape):
    rng = np.random.default_rng(3)
    assert all(mutual_coherence(rng.normal(size=shape)) >= welch_bound(shape) - 1e-12 for _ in range(20))


def test_welch_bound_is_reached():
    angles = np.arange(3) * 2 * np.pi / 3
    frame = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert mutual_coherence(frame) == pytest.approx(welch_bound((3, 2)))
    assert welch_bound((2, 5)) == 0.0


def stripes_by_pixels(codes, grid, kernel, stride, circular):
    """The most atoms whose pixels meet those of the atoms at one position, set by set."""
    positions = list(np.ndindex(*codes.shape[1:-1]))
    covered = []
    for position in positions:
        axes = [[p * stride + t for t in range(k)] for p, k in zip(position, kernel, strict=True)]
        if circular:
            axes = [[pixel % n for pixel in axis] for axis, n in zip(axes, grid, strict=True)]
        covered.append(set(itertools.product(*axes)))
    stripes = [[position for position, other in zip(positions, covered, strict=True) if other & own] for own in covered]
    return [max(sum(int((code[position] != 0).sum()) for position in stripe) for stripe in stripes) for code in codes]


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    ("grid", "kernel"),
    [((9,), (3,)), ((10,), (4,)), ((13,), (5,)), ((7, 6), (2, 3)), ((4, 5), (4, 5)), ((7, 5), (4, 1))],
)
def test_stripe_sparsity_by_brute_force(grid, kernel, stride, circular):
    rng = np.random.default_rng(4)
    shape = [-(-n // stride) for n in grid]
    codes = rng.normal(size=(3, *shape, 2)) * (rng.random((3, *shape, 2)) < 0.3)
    expected = stripes_by_pixels(codes, grid, kernel, stride, circular)
    result = stripe_sparsity(codes, kernel, stride=stride, circular=circular, grid=grid if circular else None)
    np.testing.assert_array_equal(result, expected)
    if circular:  # of a circle that is not given, the worst
        circles = itertools.product(
            *(range(max((p - 1) * stride + 1, k), p * stride + 1) for p, k in zip(shape, kernel, strict=True))
        )
        worst = np.max([stripes_by_pixels(codes, circle, kernel, stride, True) for circle in circles], axis=0)
        np.testing.assert_array_equal(stripe_sparsity(codes, kernel, stride=stride, circular=True), worst)


def test_stripes_where_a_circle_closes():
    # Five pixels, positions 0, 2 and 4: the last atom covers pixels 4 and 0.
    assert stripe_sparsity(np.array([1, 0, 1.0]).reshape(1, 3, 1), 2, stride=2, circular=True) == 2
    assert stripe_sparsity(np.array([1, 0, 1.0]).reshape(1, 3, 1), 2, stride=2, circular=True, grid=6) == 1


@pytest.mark.parametrize("circular", [False, True])
@pytest.mark.parametrize("kernel", [(3, 2), (6, 7), (9, 1), (1, 1)])
def test_largest_patch_norm_by_brute_force(kernel, circular):
    X = np.random.default_rng(5).normal(size=(2, 6, 7, 3))
    height, width = (min(k, n) for k, n in zip(kernel, X.shape[1:3], strict=True))
    expected = []
    for image in X:
        norms = []
        for y, x in itertools.product(range(6), range(7)):
            if circular:
                norms.append(np.linalg.norm(np.roll(image, (-y, -x), axis=(0, 1))[:height, :width]))
            elif y + height <= 6 and x + width <= 7:
                norms.append(np.linalg.norm(image[y : y + height, x : x + width]))
        expected.append(max(norms))
    np.testing.assert_allclose(largest_patch_norm(X, kernel, circular=circular), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_coherence(np.ones(3)), "components must have shape"),
        (lambda: mutual_coherence(np.zeros((2, 3))), "Atom 0 of components is zero"),
        (lambda: babel_function(np.ones((2, 3)), -1), "max_k must be"),
        (lambda: restricted_isometry_bound(np.ones((2, 3)), 0), "k must be"),
        (lambda: welch_bound((3,)), "components_shape must be"),
        (lambda: stripe_sparsity(np.ones((1, 4, 4, 2)), (2, 2, 2)), "codes must have shape"),
        (lambda: stripe_sparsity(np.ones((1, 4, 2)), 0), "kernel_size must be an integer >= 1"),
        (lambda: stripe_sparsity(np.ones((1, 4, 2)), 2.5), "kernel_size must be an integer >= 1"),
        (lambda: stripe_sparsity(np.ones((1, 4, 2)), 3, stride=0), "stride must be an integer >= 1"),
        (lambda: stripe_sparsity(np.ones((1, 4, 2)), 3, stride=2, circular=True, grid=6), "grid=6 does not fit codes"),
        (lambda: largest_patch_norm(np.ones((1, 4, 1)), (2, 2)), "does not fit X"),
        (lambda: largest_patch_norm(np.ones((1, 4, 1)), 0), "kernel_size must be an integer >= 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()

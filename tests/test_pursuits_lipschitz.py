"""The norm of convolutional dictionaries against that of the dense matrix: never below it, and near it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pursuits_conv_operator import PADDINGS, dense_dictionary, problems

from skrobust import DeepPursuit, LayeredBasisPursuit, LayeredThresholding, MultilayerPursuit, as_module
from skrobust.dictionaries import layered_coherence
from skrobust.estimators import ConvSparseCoder
from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.operators.conv import norm as _conv_norm
from skrobust.operators.conv.fft import Spectrum
from skrobust.operators.conv.largest_eigenvalue import of_matrix, of_products, of_stack
from skrobust.operators.conv.patches import PatchProducts
from skrobust.pursuits import (
    convolutional_basis_pursuit,
    deep_pursuit,
    implicit_deep_pursuit,
    layered_basis_pursuit,
    layered_thresholding,
    multilayer_pursuit,
    unrolled_pursuit,
)

LAYERED = [LayeredThresholding, LayeredBasisPursuit, DeepPursuit, MultilayerPursuit]


def unit_atoms(shape, seed=0):
    atoms = np.random.default_rng(seed).normal(size=shape)
    return atoms / np.sqrt((atoms**2).sum(axis=tuple(range(1, len(shape))), keepdims=True))


@pytest.mark.parametrize("path", ["matrix", "frequencies and products"])
@settings(deadline=None, max_examples=60)
@given(problem=problems(), scale=st.sampled_from([1e-100, 1e-3, 1.0, 1e100]), positive=st.booleans())
def test_bounds_the_norm(path, problem, scale, positive):
    components, shape, padding, stride, _ = problem
    components = scale * (abs(components) if positive else components)
    with pytest.MonkeyPatch.context() as patch:
        if path != "matrix":
            patch.setattr(_conv_norm, "MOST_ROWS", 0)
        bound = ConvolutionalOperator(components, shape, padding=padding, stride=stride).lipschitz
    exact = np.linalg.norm(dense_dictionary(components / scale, shape, padding, stride), 2) ** 2
    bound = bound / scale / scale
    assert bound >= exact * (1 - 1e-9)
    assert bound <= exact * (1.0011 if path == "matrix" else 1.012) or exact == 0
    if padding == "circular" and all(n % stride == 0 for n in shape[:-1]):
        assert bound == pytest.approx(exact)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    ("shape", "kernel", "n_atoms", "stride", "excess"),
    [
        ((28, 28, 1), (28, 28), 16, 1, 1.07),  # dense but for "same" and "full"
        ((28, 28, 1), (20, 22), 6, 3, 1.01),
        ((40, 40, 1), (25, 30), 3, 1, 1.01),  # more values than Gram matrices have rows
        ((13, 13, 5), (13, 13), 20, 1, 1.01),
        ((1500, 1), (700,), 2, 1, 1.01),
        ((1501, 1), (5,), 2, 3, 1.6),  # a circle on which the stride has no frequencies
    ],
)
def test_bound_is_tight_for_large_atoms(shape, kernel, n_atoms, stride, excess, padding):
    operator = ConvolutionalOperator(
        unit_atoms((n_atoms, *kernel, shape[-1])), shape, padding=padding, stride=stride, evaluation="fft"
    )
    signals = np.prod(shape) <= np.prod(operator.code_shape)
    x = np.random.default_rng(1).normal(size=(1, *(shape if signals else operator.code_shape)))
    below = 0.0
    for _ in range(30):  # from below, by power iteration
        x /= np.linalg.norm(x)
        x = operator.synthesize(operator.analyze(x)) if signals else operator.analyze(operator.synthesize(x))
        below = np.linalg.norm(x)
    assert below * (1 - 1e-9) <= operator.lipschitz <= excess * 1.03 * below


def test_dense_layers():
    atoms = unit_atoms((64, 28, 28, 1))
    exact = np.linalg.norm(atoms.reshape(64, -1), 2) ** 2
    for components in (atoms, torch.tensor(atoms)):
        operator = ConvolutionalOperator(components, (28, 28, 1), padding="valid")
        assert operator.lipschitz == pytest.approx(exact, rel=1e-9)
        assert operator.step == pytest.approx(1 / exact, rel=1e-9)
    layers = LayeredDictionary([operator, ConvolutionalOperator(unit_atoms((9, 1, 1, 64)), operator.code_shape)])
    assert layers.block_lipschitz(0) == pytest.approx(exact + 1, rel=1e-9)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("padding", ["same", "full", "valid"])
def test_small_atoms_on_large_images(padding, stride):
    """Fewer frequencies than the image has, or the correlations of channels: sound, and near."""
    atoms = unit_atoms((5, 7, 6, 2))
    bound = ConvolutionalOperator(atoms, (160, 150, 2), padding=padding, stride=stride).lipschitz
    exact = np.linalg.norm(dense_dictionary(atoms, (24, 24, 2), "circular", stride), 2) ** 2
    operator = ConvolutionalOperator(atoms, (160, 150, 2), padding=padding, stride=stride)
    rng, below = np.random.default_rng(0), 0.0
    x = rng.normal(size=(1, 160, 150, 2))
    for _ in range(30):
        x /= np.linalg.norm(x)
        x = operator.synthesize(operator.analyze(x))
        below = np.linalg.norm(x)
    assert max(below, exact * 0.97) <= bound <= 1.1 * exact


@pytest.mark.parametrize("size", [3, 300])
def test_largest_eigenvalues(size):
    factor = np.random.default_rng(0).normal(size=(size, size + 7))
    gram = factor @ factor.T
    exact = np.linalg.eigvalsh(gram)[-1]
    assert exact * (1 - 1e-12) <= of_matrix(gram) <= exact * 1.0011
    assert of_matrix(0 * gram) == 0 == of_stack(0 * gram[None])
    bound = of_products(lambda x: x @ gram, (size,), n_steps=100, tol=1e-3)
    assert exact * (1 - 1e-12) <= bound <= exact * 1.0011
    assert of_products(lambda x: 0 * x, (size,), n_steps=100, tol=1e-3) == 0
    near = gram.copy()
    near[0, 0] += 1e-9  # the two largest eigenvalues of the stack agree nearly
    assert of_stack(np.array([gram, near, gram / 2])) == pytest.approx(max(exact, np.linalg.eigvalsh(near)[-1]))


def test_a_bound_from_few_products_is_sound():
    """However few the steps, and clustered the spectrum."""
    values = np.sort(np.random.default_rng(0).random(500)) ** 0.01
    for n_steps in (1, 2, 3, 5, 10, 30):
        bound = of_products(lambda x: values * x, (500,), n_steps=n_steps, tol=0)
        assert bound >= values[-1] * (1 - 1e-12)
    assert bound < 1.05


# Atoms that are zero.


@pytest.mark.parametrize("which", ["all", "one", "a whole layer"])
@pytest.mark.parametrize("cls", LAYERED)
def test_zero_atoms_have_zero_codes(cls, which):
    first, second = unit_atoms((3, 3, 3, 1)), unit_atoms((2, 3, 3, 3))
    if which == "all":
        first, second = 0 * first, 0 * second
    elif which == "one":
        first[1], second[0] = 0, 0
    else:
        second = 0 * second
    X = np.random.default_rng(0).random((3, 8, 8))
    coder = cls(dictionaries=[first, second], per_layer=True).fit(X)
    codes = np.asarray(coder.transform(X).todense()) if hasattr(coder.transform(X), "todense") else coder.transform(X)
    assert np.isfinite(codes).all()
    lower = codes[:, : np.prod(coder.layers_.code_shapes[0])].reshape(3, -1, 3)
    upper = codes[:, np.prod(coder.layers_.code_shapes[0]) :].reshape(3, -1, 2)
    if which == "one":
        if cls in (
            LayeredThresholding,
            LayeredBasisPursuit,
        ):  # the others fit a layer to the reconstruction from the next
            assert not lower[..., 1].any() and lower[..., 0].any()
        assert not upper[..., 0].any()
    else:
        assert not upper.any()
    module = as_module(coder)
    T = torch.tensor(X, requires_grad=True)
    out = module(T)
    np.testing.assert_allclose(out.detach().numpy().reshape(3, -1), codes, atol=1e-9)
    out.sum().backward()
    assert bool(T.grad.isfinite().all())


def test_zero_atoms_in_every_pursuit():
    operator = ConvolutionalOperator(np.zeros((2, 3, 1)), (6, 1))
    layers = LayeredDictionary([operator, ConvolutionalOperator(np.zeros((2, 3, 2)), operator.code_shape)])
    X = np.random.default_rng(0).normal(size=(3, 6, 1))
    T = torch.tensor(X, requires_grad=True)
    assert operator.lipschitz == 0 and operator.step == 1
    assert layers.lipschitz == pytest.approx(1, rel=1e-11)  # the identity between layers; the bound adds 1e-12
    all_codes = [
        convolutional_basis_pursuit(X, operator, 0.1).codes,
        convolutional_basis_pursuit(X, operator, 0.1, solver="fista").codes,
        unrolled_pursuit(T, operator, 0.1, n_iter=3).detach().numpy(),
        *layered_thresholding(X, layers, 0.1),
        *layered_basis_pursuit(X, layers, 0.1, tol=1e-6),
        *layered_basis_pursuit(X, layers, 0.1),
        *deep_pursuit(X, layers, 0.1),
        *deep_pursuit(X, layers, 0.1, tol=1e-6),
        *multilayer_pursuit(X, layers, 0.1),
        *(w.detach().numpy() for w in implicit_deep_pursuit(T, layers, 0.1)),
    ]
    assert not any(codes.any() for codes in all_codes)
    assert np.isfinite(layered_coherence(layers).frame_potential)


def test_a_conv_sparse_coder_of_zeros():
    X = np.random.default_rng(0).random((3, 8, 8))
    for pursuit in ("bp", "omp", "thresholding"):
        try:
            coder = ConvSparseCoder(dictionary=np.zeros((2, 3, 3, 1)), pursuit=pursuit).fit(X)
        except ValueError as error:
            assert "zero" in str(error)
        else:
            assert not np.asarray(coder.transform(X)).any()


@settings(deadline=None, max_examples=60)
@given(problem=problems(), seed=st.integers(0, 100))
def test_products_with_patches_are_those_with_spectra(problem, seed):
    components, shape, padding, stride, _ = problem
    operator = ConvolutionalOperator(components, shape, padding=padding, stride=stride)
    if padding == "circular":
        return
    patches, spectrum = PatchProducts(components, operator.geometry), Spectrum(components, operator.geometry)
    rng = np.random.default_rng(seed)
    X, codes = rng.normal(size=(3, *shape)), rng.normal(size=(3, *operator.code_shape))
    np.testing.assert_allclose(patches.analyze(X), spectrum.analyze(X), atol=1e-10 * (1 + abs(components).max()))
    np.testing.assert_allclose(
        patches.synthesize(codes), spectrum.synthesize(codes), atol=1e-10 * (1 + abs(components).max())
    )

"""The wavelet basis against PyWavelets, NumPy and itself on torch."""

import pickle
import warnings

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from skrobust.operators import WaveletBasis
from skrobust.operators.wavelet.plan import max_levels
from skrobust.operators.wavelet.torch import largest_mask

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}  # rounding over up to six levels, with a margin
ORTHOGONAL = [name for name in pywt.wavelist(kind="discrete") if pywt.Wavelet(name).orthogonal]
BIORTHOGONAL = [name for name in pywt.wavelist(kind="discrete") if not pywt.Wavelet(name).orthogonal]


def _reference_coefficients(x, wavelet, level):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "level too high": wanted here
        if level == 0:
            return x, None
        return pywt.coeffs_to_array(pywt.wavedecn(x, wavelet, mode="periodization", level=level))


def _reference_sparsify(x, wavelet, level, k, *, gap=0):
    """Reconstruction from the k largest; None where the next is closer than `gap`, within which either may be kept."""
    coefficients, slices = _reference_coefficients(x, wavelet, level)
    magnitudes = np.sort(np.abs(coefficients), axis=None)[::-1]
    if k < magnitudes.size and 0 < magnitudes[k - 1] - magnitudes[k] < gap:
        return None
    order = np.argsort(-np.abs(coefficients), axis=None, kind="stable")[:k]
    largest = np.zeros_like(coefficients)
    largest.flat[order] = coefficients.flat[order]
    if level == 0:
        return largest
    restored = pywt.waverecn(
        pywt.array_to_coeffs(largest, slices, output_format="wavedecn"), wavelet, mode="periodization"
    )
    return restored[tuple(slice(n) for n in x.shape)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wavelet", ORTHOGONAL)
def test_every_orthogonal_wavelet_matches_pywavelets(wavelet, dtype):
    rng = np.random.default_rng(len(wavelet))
    for grid, level in [((2, 2), 1), ((3, 5), 2), ((28, 28), 3), ((31, 32), 2), ((17,), 3), ((64,), 6), ((257,), 1)]:
        X = rng.random((3, *grid, 1)).astype(dtype)
        basis = WaveletBasis(wavelet, grid, level)
        k = max(1, basis.size // 7)
        coefficients, cleaned = basis.transform(X), basis.sparsify(X, [k])
        for i, x in enumerate(X[..., 0].astype(np.float64)):
            expected, _ = _reference_coefficients(x, wavelet, basis.level)
            scale = max(1, np.abs(expected).max())
            tolerance = TOLERANCE[dtype] * scale
            np.testing.assert_allclose(coefficients[i, 0], expected, atol=tolerance)
            expected = _reference_sparsify(x, wavelet, basis.level, k, gap=tolerance)
            if expected is not None:
                np.testing.assert_allclose(cleaned[i, ..., 0], expected, atol=tolerance)


@pytest.mark.parametrize("size", range(2, 258))
def test_every_size_matches_pywavelets(size):
    rng = np.random.default_rng(size)
    for wavelet, level in [("haar", 1), ("db5", 2), ("sym9", 9)]:
        X = rng.normal(size=(2, size, 1))
        basis = WaveletBasis(wavelet, (size,), level)
        assert basis.level == min(level, max_levels((size,)))
        for i in range(2):
            expected, _ = _reference_coefficients(X[i, :, 0], wavelet, basis.level)
            np.testing.assert_allclose(basis.transform(X)[i, 0], expected, atol=1e-12)
            expected = _reference_sparsify(X[i, :, 0], wavelet, basis.level, max(1, size // 3))
            np.testing.assert_allclose(basis.sparsify(X, [max(1, size // 3)])[i, :, 0], expected, atol=1e-12)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    level=st.integers(0, 7),
    n_channels=st.integers(1, 4),
    n_samples=st.integers(1, 40),
    wavelet=st.sampled_from(["haar", "db2", "coif1", "sym9", "db20"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    share=st.floats(0, 1),
)
def test_images_match_pywavelets_and_torch(height, width, level, n_channels, n_samples, wavelet, dtype, share):
    rng = np.random.default_rng(height * width)
    X = rng.normal(size=(n_samples, height, width, n_channels)).astype(dtype)
    basis = WaveletBasis(wavelet, (height, width), level)
    k = max(1, int(share * height * width))
    cleaned = basis.sparsify(X, [k] * n_channels, clip=(-0.5, 2))
    i, c = n_samples - 1, n_channels - 1
    tolerance = 5 * TOLERANCE[dtype]
    expected = _reference_sparsify(X[i, ..., c].astype(np.float64), wavelet, basis.level, k, gap=tolerance)
    if expected is None:
        return
    np.testing.assert_allclose(cleaned[i, ..., c], expected.clip(-0.5, 2), atol=tolerance)
    on_torch = basis.sparsify(torch.from_numpy(X), [k] * n_channels, clip=(-0.5, 2))
    np.testing.assert_allclose(cleaned[i, ..., c], on_torch[i, ..., c].numpy(), atol=tolerance)


@pytest.mark.parametrize("grid", [(28, 28), (32, 16), (64,), (29, 30), (7,)])
def test_inverse_and_adjoint(grid):
    rng = np.random.default_rng(0)
    basis = WaveletBasis("db4", grid, 2)
    X = rng.normal(size=(4, *grid, 2))
    C = rng.normal(size=(4, 2, *basis.shape))
    np.testing.assert_allclose(basis.synthesize(basis.transform(X)), X, atol=1e-12)
    adjoint = np.isclose(np.sum(basis.transform(X) * C), np.sum(X * basis.synthesize(C)), rtol=1e-10)
    assert adjoint == basis.is_orthonormal == all(n % 4 == 0 for n in grid)
    np.testing.assert_allclose(basis.transform(torch.from_numpy(X)).numpy(), basis.transform(X), atol=1e-12)
    np.testing.assert_allclose(basis.synthesize(torch.from_numpy(C)).numpy(), basis.synthesize(C), atol=1e-12)


def test_energy_is_preserved_and_the_error_is_the_dropped_part():
    X = np.random.default_rng(0).normal(size=(5, 16, 16, 1))
    basis = WaveletBasis("sym4", (16, 16), 3)
    coefficients, selected = basis.transform(X), basis.transform(X, [20])
    np.testing.assert_allclose(np.linalg.norm(coefficients), np.linalg.norm(X))
    dropped = np.linalg.norm(coefficients - selected)
    np.testing.assert_allclose(np.linalg.norm(X - basis.sparsify(X, [20])), dropped)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exactly_k_survive_ties_and_backends_agree_on_them(dtype):
    digits = (load_digits().images / 16).astype(dtype)[..., None]  # few grey levels: many equal coefficients
    basis = WaveletBasis("haar", (8, 8), 1)
    for k in (1, 5, 16):
        selected = basis.transform(digits, [k])
        available = np.count_nonzero(np.abs(basis.transform(digits)) > 1e-5, axis=(1, 2, 3))
        np.testing.assert_array_equal(
            np.count_nonzero(np.abs(selected) > 1e-5, axis=(1, 2, 3)), np.minimum(k, available)
        )
        on_torch = basis.transform(torch.from_numpy(digits), [k]).numpy()
        np.testing.assert_array_equal(np.abs(on_torch) > 1e-5, np.abs(selected) > 1e-5)
    constant = np.ones((1, 8, 8, 1), dtype)
    selected = basis.transform(constant, [3])
    assert np.flatnonzero(selected).tolist() == [0, 1, 2]
    assert largest_mask(torch.from_numpy(basis.transform(constant)), [3]).sum() == 3


def test_zero_signals_and_full_support():
    basis = WaveletBasis("db2", (8, 8), 2)
    zeros = np.zeros((2, 8, 8, 1))
    np.testing.assert_array_equal(basis.sparsify(zeros, [4]), 0)
    X = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    np.testing.assert_allclose(basis.sparsify(X, [64]), X, atol=1e-12)


def test_threads_do_not_change_the_result():
    X = np.random.default_rng(0).random((300, 28, 28, 1)).astype(np.float32)
    basis = WaveletBasis("coif1", (28, 28), 2)
    one, two = (basis.sparsify(X, [27], n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_dmey_is_not_orthonormal():
    assert not WaveletBasis("dmey", (64,), 1).is_orthonormal
    assert WaveletBasis("db38", (64,), 1).is_orthonormal


@pytest.mark.parametrize("wavelet", BIORTHOGONAL[:2] + ["rbio1.3"])
def test_biorthogonal_wavelets_are_refused(wavelet):
    with pytest.raises(ValueError, match=f"wavelet='{wavelet}' is not orthogonal.*haar, db1 to db.*sym2.*coif1.*dmey"):
        WaveletBasis(wavelet, (8, 8))


@pytest.mark.parametrize("wavelet", ["db99", "morl", 3, None])
def test_unknown_wavelets_are_refused(wavelet):
    with pytest.raises(ValueError, match="is not a discrete wavelet of PyWavelets. Orthogonal ones: haar, db1"):
        WaveletBasis(wavelet, (8, 8))


def test_gradients():
    basis = WaveletBasis("db2", (5, 6), 2)
    X = torch.randn((2, 5, 6, 2), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda T: basis.synthesize(basis.transform(T) ** 2), X)
    assert torch.autograd.gradcheck(lambda T: basis.sparsify(T, [4, 5]), X)


def test_pickle():
    basis = WaveletBasis("db2", (8, 8), 2)
    X = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    basis.transform(torch.from_numpy(X))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(basis)).analyze(X), basis.transform(X))


def test_integer_types_and_array_types():
    """One count for all channels or one a channel; lists, integers and empty batches."""
    X = np.random.default_rng(0).integers(0, 9, (3, 8, 8, 2))
    basis = WaveletBasis("haar", (8, 8))
    expected = basis.sparsify(X.astype(float), [27, 27])
    for k in (27, np.int32(27), (27, 27), np.array([27, 27])):
        for values in (X, X.tolist(), X.astype(float)):
            np.testing.assert_array_equal(basis.sparsify(values, k), expected)
            np.testing.assert_allclose(basis.synthesize(basis.transform(values, k)), expected, atol=1e-12)
        on_torch = basis.sparsify(torch.tensor(X, dtype=torch.float64), k)
        np.testing.assert_allclose(on_torch, expected, atol=1e-12)
    assert np.count_nonzero(basis.transform(X, 64)) > 0
    assert basis.sparsify(X[:0], 3).shape == (0, 8, 8, 2) and basis.transform(X[:0]).shape == (0, 2, 8, 8)
    assert basis.synthesize(np.zeros((0, 2, 8, 8))).shape == (0, 8, 8, 2)
    line = WaveletBasis("haar", (8,))
    np.testing.assert_array_equal(line.sparsify(X[:, 0], 3), line.sparsify(X[:, 0].astype(float), [3, 3]))


@pytest.mark.parametrize("of", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("ks", "message"),
    [
        (0, "ks must be from 1 to the 64 coefficients of a channel, got 0"),
        (65, "ks must be from 1 to the 64"),
        ([3, -1], "ks must be from 1 to the 64"),
        (0.5, "ks must be an integer or 2 integers, one per channel, got 0.5"),
        ([3], "2 integers, one per channel"),
        ("3", "ks must be an integer"),
        (True, "ks must be an integer"),
    ],
)
def test_invalid_counts_are_refused(ks, message, of):
    basis, X = WaveletBasis("haar", (8, 8)), of(np.ones((1, 8, 8, 2)))
    for method in (basis.sparsify, basis.transform):
        with pytest.raises(ValueError, match=message):
            method(X, ks)


def test_other_invalid_arguments_are_refused():
    basis, X = WaveletBasis("haar", (8, 8)), np.ones((1, 8, 8, 1))
    for method in (lambda X: basis.sparsify(X, 3), basis.transform):
        for wrong in (X[..., 0], X[:, :4], torch.ones(1, 8, 8)):
            with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 8, 8, n_channels\), got"):
                method(wrong)
    with pytest.raises(
        ValueError, match=r"coefficients must have shape \(n_samples, n_channels, 8, 8\), got \(1, 8, 8\)"
    ):
        basis.synthesize(np.ones((1, 8, 8)))
    for clip in (0.5, (1, 0), (0, np.nan), (0, 1, 2)):
        with pytest.raises(ValueError, match=r"clip must be None or \(lowest, highest\)"):
            basis.sparsify(X, 3, clip=clip)
    for grid in (8, (8.0, 8), (8, 0), (8, 8, 8)):
        with pytest.raises(ValueError, match="grid must be"):
            WaveletBasis("haar", grid)
    for level in (-1, 1.5, "a"):
        with pytest.raises(ValueError, match="level must be None or an integer >= 0"):
            WaveletBasis("haar", (8, 8), level)

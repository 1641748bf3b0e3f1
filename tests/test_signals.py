"""The signals room: layouts, checked input, batches, threads."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.exceptions import NotFittedError

from skrobust import PolarizingCoder, WaveletSparsifier
from skrobust.signals import (
    SignalLayout,
    SignalTransformer,
    allowed_threads,
    batch_slices,
    clip_values,
    count_of,
    is_tensor,
    kernel_threads,
)


class Identity(SignalTransformer):
    def __init__(self, image_shape=None):
        self.image_shape = image_shape

    def fit(self, X, y=None):
        self._read_signals(X, reset=True)
        return self

    def transform(self, X):
        signals = self._read_signals(X, reset=False)
        self.seen_ = signals.values
        return signals.restore(signals.values)


sizes = st.integers(1, 5)


@given(grid=st.one_of(st.tuples(sizes), st.tuples(sizes, sizes)), n_channels=sizes)
def test_layout_round_trip(grid, n_channels):
    layout = SignalLayout(grid, n_channels)
    X = np.arange(2 * layout.n_features).reshape(2, -1)
    signals = layout.place(X)
    assert signals.values.shape == (2, *grid, n_channels)
    np.testing.assert_array_equal(signals.restore(signals.values), X)


@pytest.mark.parametrize(
    ("sample_shape", "image_shape", "expected"),
    [
        ((12,), None, ((12,), 1)),
        ((12,), (3, 4), ((3, 4), 1)),
        ((12,), [2, 2, 3], ((2, 2), 3)),
        ((3, 4), None, ((3, 4), 1)),
        ((3, 4, 2), None, ((3, 4), 2)),
        ((3, 4), (3, 4), ((3, 4), 1)),
    ],
)
def test_layout_is_inferred(sample_shape, image_shape, expected):
    layout = SignalLayout.infer(sample_shape, image_shape)
    assert (layout.grid, layout.n_channels) == expected


@pytest.mark.parametrize(
    ("sample_shape", "image_shape", "message"),
    [
        ((12,), (3, 5), r"image_shape=\(3, 5\) holds 15 values, but X has 12 features"),
        ((3, 4), (4, 3), r"image_shape=\(4, 3\) disagrees with X, whose samples have shape \(3, 4\)"),
        ((2, 3, 4, 5), None, "Found array with dim 5"),
        ((12,), 12, "image_shape must be None"),
        ((12,), (12,), "image_shape must be None"),
        ((12,), (3, -4), "image_shape must be None"),
        ((12,), (3.0, 4.0), "image_shape must be None"),
    ],
)
def test_invalid_layouts_are_refused(sample_shape, image_shape, message):
    with pytest.raises(ValueError, match=message):
        SignalLayout.infer(sample_shape, image_shape)


@pytest.mark.parametrize("sample_shape", [(1, 28, 28), (3, 32, 32), (4, 16, 20), (3, 8, 8), (1, 8, 5)])
@pytest.mark.parametrize("of", [np.zeros, torch.zeros])
def test_channels_first_are_refused_unless_they_are_meant(sample_shape, of):
    X = of((2, *sample_shape))
    with pytest.raises(ValueError, match=r"channels-first layout; .* channels last: pass X\.transpose"):
        Identity().fit(X)
    meant = Identity(image_shape=sample_shape).fit(X)
    assert meant.transform(X).shape == meant.seen_.shape == (2, *sample_shape)
    rows = Identity(image_shape=(*sample_shape[1:], sample_shape[0])).fit(X.reshape(2, -1))
    with pytest.raises(ValueError, match="channels last: pass"):
        rows.transform(X)
    with pytest.raises(ValueError, match="channels last: pass"):
        Identity(image_shape=(*sample_shape[1:], sample_shape[0])).fit(X)


@pytest.mark.parametrize(
    "sample_shape",
    [(28, 28, 1), (3, 32, 3), (3, 3, 32), (4, 4, 16), (1, 1, 7), (1, 9, 3), (2, 8, 8), (4, 4, 4), (8, 1, 1)],
)
def test_other_images_are_read_channels_last(sample_shape):
    assert SignalLayout.infer(sample_shape) == SignalLayout(sample_shape[:2], sample_shape[2])


@pytest.mark.parametrize("shape", [(6, 8), (6, 4, 4), (6, 4, 4, 3)])
def test_output_has_the_layout_of_the_input(shape):
    X = np.random.default_rng(0).normal(size=shape)
    model = Identity().fit(X)
    assert model.n_features_in_ == np.prod(shape[1:])
    np.testing.assert_array_equal(model.transform(X), X)
    flat = X.reshape(6, -1)
    assert model.transform(flat).shape == flat.shape


@pytest.mark.parametrize("given_dtype", [np.float32, np.float64, np.float16, np.uint8, np.int64, bool])
@pytest.mark.parametrize("shape", [(3, 8), (3, 4, 4)])
def test_dtypes(given_dtype, shape):
    X = np.ones(shape, dtype=given_dtype)
    out = Identity().fit(X).transform(X)
    assert out.dtype == (np.float32 if given_dtype is np.float32 else np.float64)
    np.testing.assert_array_equal(out, X)  # converted, never rescaled


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 4), (5, 3, 2, 2)])
def test_memory_orders(shape, tmp_path):
    X = np.random.default_rng(0).normal(size=shape)
    path = tmp_path / "x.npy"
    np.save(path, X)
    wide = np.repeat(X, 2, axis=0)[::2]
    for other in (np.asfortranarray(X), wide, np.load(path, mmap_mode="r"), X.tolist()):
        np.testing.assert_array_equal(Identity().fit(other).transform(other), X)


def test_tensors_stay_tensors():
    X = torch.ones((3, 4, 4), dtype=torch.float32, requires_grad=True)
    model = Identity().fit(X)
    out = model.transform(X)
    assert is_tensor(out)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert X.grad.shape == X.shape
    assert model.transform(torch.ones((3, 16), dtype=torch.int64)).dtype == torch.float64
    assert isinstance(model.transform(np.ones((3, 16))), np.ndarray)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_bad_input(make):
    good = np.ones((3, 4, 4))
    model = Identity().fit(make(good))
    cases = {
        "NaN": np.where(np.arange(48).reshape(3, 4, 4) == 5, np.nan, 1.0),
        "infinity": np.where(np.arange(48).reshape(3, 4, 4) == 5, np.inf, 1.0),
        r"0 sample\(s\)": np.ones((0, 4, 4)),
        r"0 feature\(s\)": np.ones((3, 0, 4)),
        "expecting 16 features|features": np.ones((3, 15)),
        r"samples of shape \(2, 8\)": np.ones((3, 2, 8)),
        "Complex data": np.ones((3, 16), dtype=complex),
        "Expected 2D array|1D": np.ones(16),
    }
    for message, X in cases.items():
        with pytest.raises(ValueError, match=message):
            model.transform(make(X))
    with pytest.raises(NotFittedError):
        Identity().transform(make(good))


def test_a_refused_fit_leaves_the_estimator_unfitted():
    model = Identity(image_shape=(3, 3))
    for X in (np.ones((2, 3, 4)), np.ones((2, 12))):
        with pytest.raises(ValueError, match="image_shape"):
            model.fit(X)
        assert not hasattr(model, "n_features_in_")


def test_batches_stay_within_memory():
    with config_context(working_memory=1):
        slices = list(batch_slices(10, 2**18))
    assert [s.stop - s.start for s in slices] == [4, 4, 2]
    assert [s.stop - s.start for s in batch_slices(5, 2**40)] == [1] * 5


def test_threads_are_bounded_and_restored():
    before = allowed_threads()
    with kernel_threads(1):
        assert allowed_threads() == 1
        with kernel_threads():
            assert allowed_threads() == 1
        with kernel_threads(-1):
            assert allowed_threads() == before
        with kernel_threads(10**6):
            assert allowed_threads() == before
        with ThreadPoolExecutor(1) as pool:  # the bound is that of one thread
            assert pool.submit(allowed_threads).result() == before
    assert allowed_threads() == before
    with pytest.raises(RuntimeError), kernel_threads(1):
        raise RuntimeError
    assert allowed_threads() == before
    with pytest.raises(ValueError, match="n_jobs must be None or an integer other than 0, got 0"), kernel_threads(0):
        pass


@pytest.mark.parametrize("total", [1, 7, 100, 784, 3072, 150528])
def test_fractions_are_taken_as_written_in_decimal(total):
    """Every multiple of a hundredth, of a thousandth and of 1 / total, as a decimal fraction says it."""
    for denominator in (100, 1000, total):
        for numerator in range(1, denominator + 1, max(1, denominator // 500)):
            expected = max(1, Fraction(numerator, denominator) * total // 1)
            assert count_of(numerator / denominator, total) == expected
            assert count_of(np.float64(numerator / denominator), total) == expected
            assert count_of(np.float32(1), total) == total
    assert count_of(np.int64(5), total) == 5 and count_of(1e-9, total, least=0) == 0


def test_fractions_mean_the_same_everywhere():
    from sklearn.linear_model import LogisticRegression

    from skrobust import ConvSparseCoder, PatchDictionaryDenoiser, WaveletSparsifier
    from skrobust.attacks import JSMA
    from skrobust.pursuits import orthogonal_mp

    assert orthogonal_mp(np.ones((1, 100)), np.eye(100), n_nonzero_coefs=0.29).nnz == 29
    X = np.random.default_rng(0).random((1, 100))
    assert WaveletSparsifier("haar", n_nonzero_coefs=0.29).fit(X).n_nonzero_coefs_ == (29,)
    coder = ConvSparseCoder(dictionary=np.ones((1, 1, 1)), pursuit="omp", n_nonzero_coefs=0.29).fit(X)
    assert np.count_nonzero(coder.transform(X)) == 29
    denoiser = PatchDictionaryDenoiser(n_nonzero_coefs=0.29, patch_size=100, dictionary=np.eye(100), remove_mean=False)
    assert np.count_nonzero(denoiser.fit_transform(X)) == 29
    never_fooled = LogisticRegression().fit([[0.0] * 100, [1.0] * 100], [0, 1])
    never_fooled.coef_, never_fooled.intercept_ = np.ones((1, 100)), np.array([-1000.0])
    for attack, n_changed in ((JSMA(gamma=0.29, pairs=False), 29), (JSMA(gamma=0.58), 58), (JSMA(gamma=0.29), 28)):
        assert np.count_nonzero(attack.perturb(never_fooled, X, [0]) != X) == n_changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255), (0.1, 0.9), (-np.inf, 1)])
def test_clipped_values_and_their_derivative(low, high, dtype):
    unit = max(abs(end) for end in (low, high) if np.isfinite(end)) * torch.finfo(dtype).eps
    start = -5.0 if low == -np.inf else low
    values = [start - unit, start, (start + high) / 2, high, high + unit, high + 0.01 * abs(high), start - 0.01 * high]
    X = torch.tensor([values], dtype=dtype, requires_grad=True)
    clipped = clip_values(X, low, high)
    clipped.sum().backward()
    np.testing.assert_array_equal(clipped.detach(), X.detach().clamp(low, high))
    np.testing.assert_array_equal(X.grad, [[1, 1, 1, 1, 1, 0, float(low == -np.inf)]])
    with torch.no_grad():
        np.testing.assert_array_equal(clip_values(X, low, high), clipped.detach())
    np.testing.assert_array_equal(clip_values(X.detach().numpy(), low, high), clipped.detach())
    assert clip_values(X[:0], low, high).shape == (0, 7) and clip_values(X[0], low, high).shape == (7,)
    second = torch.func.vmap(torch.func.grad(lambda x: clip_values(x, low, high).sum()))(X.detach())
    assert second.shape == X.shape


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_data_frames_are_rows_not_images(container):
    pytest.importorskip(container)
    X = np.random.default_rng(0).random((5, 8, 8))
    front = WaveletSparsifier("haar").set_output(transform=container)
    for values in (X, X[..., None]):
        with pytest.raises(ValueError, match=rf"set_output\(transform='{container}'\) makes a table of rows, but Wave"):
            front.fit(values).transform(values)
        with pytest.raises(ValueError, match="Pass X as rows"):
            front.fit_transform(values)
    with config_context(transform_output=container), pytest.raises(ValueError, match="Pass X as rows"):
        WaveletSparsifier("haar").fit(X).transform(X)
    rows = WaveletSparsifier("haar", image_shape=(8, 8)).set_output(transform=container).fit_transform(X.reshape(5, -1))
    assert rows.shape == (5, 64) and list(rows.columns) == [f"x{k}" for k in range(64)]
    np.testing.assert_array_equal(np.asarray(rows), WaveletSparsifier("haar").fit_transform(X).reshape(5, -1))
    # Codes are rows whatever X is.
    codes = PolarizingCoder().set_output(transform=container).fit_transform(X)
    assert codes.shape == (5, 64) and codes.columns[0] == "polarizingcoder0"

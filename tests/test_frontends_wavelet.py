"""`WaveletSparsifier` as scikit-learn and torch users meet it."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import WaveletSparsifier, as_module

DIGITS = load_digits().data / 16
LABELS = load_digits().target


@parametrize_with_checks([WaveletSparsifier(), WaveletSparsifier("haar", n_nonzero_coefs=1, level=3, clip=(0, 1))])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@given(
    n_samples=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    n_channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.float32, np.float64, np.uint8, np.int32]),
    share=st.floats(0.01, 1),
)
def test_layouts_and_dtypes_agree(n_samples, height, width, n_channels, dtype, share):
    rng = np.random.default_rng(height + 10 * width)
    shape = (height, width) if n_channels is None else (height, width, n_channels)
    images = rng.integers(0, 200, size=(n_samples, *shape)).astype(dtype)
    rows = images.reshape(n_samples, -1)
    as_images = WaveletSparsifier("db2", n_nonzero_coefs=share).fit(images)
    as_rows = WaveletSparsifier("db2", n_nonzero_coefs=share, image_shape=shape).fit(rows)
    cleaned = as_images.transform(images)
    assert cleaned.shape == images.shape
    assert cleaned.dtype == (np.float32 if dtype is np.float32 else np.float64)
    np.testing.assert_array_equal(as_rows.transform(rows), cleaned.reshape(n_samples, -1))
    np.testing.assert_array_equal(as_images.transform(rows), cleaned.reshape(n_samples, -1))
    on_torch = as_images.transform(torch.from_numpy(images))
    assert on_torch.shape == images.shape
    tolerance = 1e-12 if cleaned.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(on_torch.numpy(), cleaned, atol=200 * tolerance)


@pytest.mark.parametrize(
    ("n_nonzero_coefs", "expected"),
    [(0.02, 15), (0.03, 23), (0.035, 27), (0.0001, 1), (1.0, 784), (1, 1), (784, 784), (np.int64(5), 5), (0.29, 227)],
)
def test_k_is_floor_of_rho_n(n_nonzero_coefs, expected):
    model = WaveletSparsifier(n_nonzero_coefs=n_nonzero_coefs).fit(np.zeros((1, 28, 28)))
    assert model.n_nonzero_coefs_ == (expected,)


def test_floor_forgives_rounding():
    # 0.29 * 100 is 28.999999999999996
    assert WaveletSparsifier(n_nonzero_coefs=0.29).fit(np.zeros((1, 100))).n_nonzero_coefs_ == (29,)


def test_one_k_per_channel():
    X = np.random.default_rng(0).random((4, 16, 16, 3))
    model = WaveletSparsifier("sym4", n_nonzero_coefs=(0.1, 3, 7)).fit(X)
    assert model.n_nonzero_coefs_ == (25, 3, 7)
    coefficients = model.transform_coefficients(X)
    assert sparse.issparse(coefficients)
    per_channel = coefficients.toarray().reshape(4, 3, -1)
    np.testing.assert_array_equal(np.count_nonzero(per_channel, axis=2), [[25, 3, 7]] * 4)
    np.testing.assert_array_equal(model.support(X).toarray(), coefficients.toarray() != 0)
    np.testing.assert_allclose(
        model.inverse_transform_coefficients(coefficients).reshape(X.shape), model.transform(X), atol=1e-12
    )
    dense = model.transform_coefficients(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(dense, coefficients.toarray(), atol=1e-12)


def test_ycbcr_constants_and_round_trip():
    X = np.random.default_rng(0).random((3, 8, 8, 3))
    everything = WaveletSparsifier(n_nonzero_coefs=1.0, color_space="ycbcr", clip=(0, 1)).fit(X)
    np.testing.assert_allclose(everything.transform(X), X, atol=1e-12)
    # JPEG (JFIF 1.02): cb = -0.168736 r - 0.331264 g + 0.5 b, cr = 0.5 r - 0.418688 g - 0.081312 b
    red = WaveletSparsifier("haar", n_nonzero_coefs=1.0, level=0, color_space="ycbcr").fit(X)
    pixel = red.transform_coefficients(np.broadcast_to([1.0, 0, 0], (1, 8, 8, 3))).toarray().reshape(3, 64)[:, 0]
    np.testing.assert_allclose(pixel, [0.299, -0.168736, 0.5], atol=1e-6)
    grey = np.repeat(X[..., :1], 3, axis=3)
    luma_alone = WaveletSparsifier("db2", n_nonzero_coefs=(0.2, 1, 1), color_space="ycbcr").fit(grey)
    np.testing.assert_allclose(
        luma_alone.transform(grey)[..., 0],
        WaveletSparsifier("db2", n_nonzero_coefs=0.2).fit(grey[..., 0]).transform(grey[..., 0]),
        atol=1e-12,
    )


def test_orthonormal_only_if_all_sizes_halve():
    X = np.zeros((1, 28, 28))
    assert WaveletSparsifier(level=2).fit(X).is_orthonormal_
    third = WaveletSparsifier(level=3).fit(X)
    assert not third.is_orthonormal_
    assert third.level_ == 3
    assert WaveletSparsifier(level=30).fit(X).level_ == 5


@pytest.mark.parametrize(
    ("shape", "level"),
    [((28, 28), 2), ((32, 32, 3), 5), ((8, 8), 3), ((224, 48), 4), ((7, 8), 1), ((1, 4), 0), ((6,), 1), ((64,), 6)],
)
def test_default_level_is_the_deepest_that_halves_all_sizes(shape, level):
    X = np.random.default_rng(0).random((2, *shape)) if len(shape) > 1 else np.zeros((2, *shape))
    model = WaveletSparsifier("haar").fit(X)
    assert model.level_ == level
    assert model.is_orthonormal_ == (level == 0 or all(n % 2**level == 0 for n in shape[:2]))


def test_default_level_keeps_images_that_level_1_erases():
    """At 3.5 % of the coefficients, level 1 cannot hold the brightness of each block of pixels."""
    y, x = np.mgrid[:32, :32] / 31
    X = (0.6 + 0.3 * np.sin(3 * x + 2 * y))[None]
    errors = []
    for level in (1, None):
        model = WaveletSparsifier("sym9", n_nonzero_coefs=0.035, level=level, clip=(0, 1)).fit(X)
        errors.append(np.sqrt(((model.transform(X) - X) ** 2).mean()))
    assert errors[0] > 0.3 and errors[1] < 0.05


@pytest.mark.parametrize("wavelet", ["haar", "db5", "coif1"])
@pytest.mark.parametrize("shape", [(7,), (7, 7), (7, 6, 3), (28, 28), (11, 13)])
@pytest.mark.parametrize("level", [None, 1, 2, 3])
def test_the_whole_fraction_is_the_identity(wavelet, shape, level):
    X = np.random.default_rng(0).random((3, *shape))
    model = WaveletSparsifier(wavelet, n_nonzero_coefs=1.0, level=level).fit(X)
    np.testing.assert_allclose(model.transform(X), X, atol=1e-9)
    np.testing.assert_allclose(model.transform(torch.tensor(X)), X, atol=1e-9)
    whole = model.transform_coefficients(X)
    assert whole.nnz <= 3 * sum(model.n_nonzero_coefs_)
    every = np.abs(model.basis_.transform(X.reshape(3, *model.basis_.grid, -1))) > 0
    assert every.any(axis=0).sum() <= sum(model.n_nonzero_coefs_)  # gaps between bands are no coefficients


def test_clip():
    model = WaveletSparsifier("db5", n_nonzero_coefs=0.1, clip=(0, 1), image_shape=(8, 8)).fit(DIGITS)
    free = clone(model).set_params(clip=None).fit(DIGITS).transform(DIGITS)
    assert free.min() < 0
    np.testing.assert_allclose(model.transform(DIGITS), free.clip(0, 1), atol=1e-15)


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"n_nonzero_coefs": 65}, np.ones((2, 64)), "n_nonzero_coefs=65 is more than the 64 coefficients"),
        ({"n_nonzero_coefs": 0}, np.ones((2, 64)), "n_nonzero_coefs"),
        ({"n_nonzero_coefs": 1.5}, np.ones((2, 64)), "n_nonzero_coefs"),
        ({"n_nonzero_coefs": (1, 2)}, np.ones((2, 8, 8, 3)), "has 2 entries, X has 3 channels"),
        ({"n_nonzero_coefs": (1, 2, "x")}, np.ones((2, 8, 8, 3)), "got 'x'"),
        ({"color_space": "ycbcr"}, np.ones((2, 8, 8)), "needs images of 3 channels"),
        ({"color_space": "hsv"}, np.ones((2, 8, 8, 3)), "color_space"),
        ({"clip": (1, 0)}, np.ones((2, 64)), r"clip must be None or \(lowest, highest\).*got \(1, 0\)"),
        ({"clip": "01"}, np.ones((2, 64)), "clip"),
        ({"wavelet": "bior2.2"}, np.ones((2, 64)), "wavelet='bior2.2' is not orthogonal"),
        ({"mode": "symmetric"}, np.ones((2, 64)), "mode"),
        ({"level": -1}, np.ones((2, 64)), "level"),
        ({"image_shape": (7, 8)}, np.ones((2, 64)), r"image_shape=\(7, 8\) holds 56 values, but X has 64"),
        ({"n_jobs": 0}, np.ones((2, 64)), "n_jobs must be None or an integer other than 0"),
    ],
)
def test_bad_parameters(parameters, X, message):
    with pytest.raises(ValueError, match=message):
        WaveletSparsifier(**parameters).fit(X).transform(X)


def test_in_a_pipeline_and_a_grid_search():
    pipeline = make_pipeline(WaveletSparsifier("haar", image_shape=(8, 8)), LinearSVC(max_iter=50, tol=1e-2))
    grid = {"waveletsparsifier__n_nonzero_coefs": [0.05, 0.5], "waveletsparsifier__wavelet": ["haar", "db2"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(DIGITS[:300], LABELS[:300])
    assert search.best_params_["waveletsparsifier__n_nonzero_coefs"] == 0.5
    assert search.best_score_ > 0.8


def test_names_and_containers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DIGITS[:5], columns=[f"pixel{i}" for i in range(64)])
    model = WaveletSparsifier(image_shape=(8, 8)).set_output(transform="pandas").fit(frame)
    assert list(model.transform(frame).columns) == list(frame.columns) == list(model.get_feature_names_out())
    copy = pickle.loads(pickle.dumps(model))
    pandas.testing.assert_frame_equal(copy.transform(frame), model.transform(frame))


# The gradient modes, each against its definition.


@pytest.fixture(scope="module")
def fitted():
    return WaveletSparsifier("db2", n_nonzero_coefs=0.2, clip=(0, 1), image_shape=(8, 8)).fit(DIGITS)


def _backward(fitted, gradient, X, upstream):
    T = torch.tensor(X, requires_grad=True)
    out = as_module(fitted, gradient=gradient)(T)
    out.backward(torch.tensor(upstream))
    return out.detach().numpy(), T.grad.numpy()


@pytest.mark.parametrize("gradient", ["exact", "identity", "projection", "smooth"])
def test_forward_is_exact_in_every_mode(fitted, gradient):
    out, _ = _backward(fitted, gradient, DIGITS[:50], np.ones((50, 64)))
    np.testing.assert_allclose(out, fitted.transform(DIGITS[:50]), atol=1e-9)
    module = as_module(fitted, gradient=gradient, dtype="float32")
    single = module(torch.tensor(DIGITS[:50], dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(single, fitted.transform(DIGITS[:50].astype(np.float32)), atol=1e-5)


def test_gradient_modes_are_as_documented(fitted):
    rng = np.random.default_rng(0)
    X, W = DIGITS[:20] + 0.01 * rng.normal(size=(20, 64)), rng.normal(size=(20, 64))
    support = fitted.support(X).toarray()
    coefficients = fitted.basis_.transform(W.reshape(20, 8, 8, 1)).reshape(20, 64)
    projected = fitted.inverse_transform_coefficients(coefficients * support)
    np.testing.assert_allclose(_backward(fitted, "projection", X, W)[1], projected, atol=1e-12)
    np.testing.assert_array_equal(_backward(fitted, "identity", X, W)[1], W)
    unclipped = fitted.inverse_transform_coefficients(fitted.transform_coefficients(X))
    inside = (unclipped >= 0) & (unclipped <= 1)
    clipped = fitted.basis_.transform((W * inside).reshape(20, 8, 8, 1)).reshape(20, 64)
    exact = fitted.inverse_transform_coefficients(clipped * support)
    np.testing.assert_allclose(_backward(fitted, "exact", X, W)[1], exact, atol=1e-12)
    out, skipped = _backward(fitted, "skip", X, W)
    np.testing.assert_array_equal(out, X)
    np.testing.assert_array_equal(skipped, W)


@pytest.mark.parametrize("color_space", [None, "ycbcr"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_on_an_end_of_the_range_keep_their_gradient(dtype, color_space):
    """A reconstruction that equals 0 or 1 lies a rounding inside or outside; the gradient must not depend on that."""
    channels = () if color_space is None else (3,)
    front = WaveletSparsifier("db2", n_nonzero_coefs=1.0, clip=(0, 1), color_space=color_space)
    X = (np.random.default_rng(0).random((20, 8, 8, *channels)) < 0.5).astype(str(dtype)[6:])
    front.fit(X)
    free = WaveletSparsifier("db2", n_nonzero_coefs=1.0, color_space=color_space).fit(X).transform(torch.tensor(X))
    outside = (free < 0) | (free > 1)
    assert float(outside.double().mean()) > 0.1
    weights = torch.tensor(np.random.default_rng(1).normal(size=X.shape), dtype=dtype)
    for function in (as_module(front, dtype=dtype), front.transform):
        T = torch.tensor(X, requires_grad=True)
        out = function(T)
        (out * weights).sum().backward()
        assert bool(((out >= 0) & (out <= 1)).all())
        np.testing.assert_allclose(T.grad, weights, atol=1e-4 if dtype == torch.float32 else 1e-12)


def test_exact_gradient_against_differences(fitted):
    X = torch.tensor(DIGITS[3:5] + 0.003 * np.random.default_rng(1).normal(size=(2, 64)), requires_grad=True)
    assert torch.autograd.gradcheck(as_module(fitted), X, eps=1e-7, atol=1e-5)


def test_smooth_gradient_sees_coefficients_that_are_not_kept(fitted):
    X, W = DIGITS[:20], np.random.default_rng(0).normal(size=(20, 64))
    gradient = _backward(fitted, "smooth", X, W)[1]
    off_support = fitted.basis_.transform(gradient.reshape(20, 8, 8, 1)).reshape(20, 64)[~fitted.support(X).toarray()]
    assert np.isfinite(gradient).all()
    assert np.abs(off_support).max() > 1e-3


def test_tensors_in_tensors_out(fitted):
    T = torch.tensor(DIGITS[:5], dtype=torch.float32, requires_grad=True)
    out = fitted.transform(T)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.detach().numpy(), fitted.transform(DIGITS[:5]), atol=1e-5)
    out.sum().backward()
    assert T.grad.abs().sum() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(fitted):
    T = torch.tensor(DIGITS, dtype=torch.float32, device="cuda")
    out = fitted.transform(T)
    assert out.device == T.device
    np.testing.assert_allclose(out.cpu().numpy(), fitted.transform(DIGITS), atol=1e-5)
    module = as_module(fitted, device="cuda")
    np.testing.assert_allclose(module(T.double()).cpu().numpy(), fitted.transform(DIGITS), atol=1e-9)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_n_nonzero_coefs_set_after_fit_takes_effect(as_tensor):
    X = np.random.default_rng(0).random((3, 8, 8))
    given = torch.tensor(X) if as_tensor else X
    model = WaveletSparsifier("haar", n_nonzero_coefs=0.5).fit(X)
    module = as_module(model)
    model.set_params(n_nonzero_coefs=5)
    expected = WaveletSparsifier("haar", n_nonzero_coefs=5).fit(X)
    assert model.n_nonzero_coefs_ == (5,)
    np.testing.assert_allclose(np.asarray(model.transform(given)), expected.transform(X), atol=1e-12)
    np.testing.assert_allclose(module(torch.tensor(X)).numpy(), expected.transform(X), atol=1e-12)
    model.set_params(n_nonzero_coefs=65)
    with pytest.raises(ValueError, match="n_nonzero_coefs=65 is more than the 64"):
        model.transform(X)

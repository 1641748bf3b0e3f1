"""`PolarizingCoder` as scikit-learn and torch users meet it."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import pywt
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse
from sklearn import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import as_module
from skrobust.estimators import PolarizingCoder

DIGITS = load_digits().data / 16
LABELS = load_digits().target


@parametrize_with_checks(
    [
        PolarizingCoder(),
        PolarizingCoder("average", n_thresholds=2, output="reconstruction"),
        PolarizingCoder("haar", levels="ternary"),
        PolarizingCoder("learned", n_components=4, signed=True, levels="ternary", random_state=0),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def reference_responses(atoms, X):
    """Inner products by loops; `atoms` is (n_filters, *kernel_size, n_channels) and a stride."""
    filters, stride = atoms
    filters = filters / np.abs(filters).sum(axis=tuple(range(1, filters.ndim)), keepdims=True)
    kernel = filters.shape[1:-1]
    positions = [range(0, size - k + 1, stride) for size, k in zip(X.shape[1:-1], kernel, strict=True)]
    rows = []
    for corner in np.ndindex(*[len(p) for p in positions]):
        place = tuple(slice(p[i], p[i] + k) for p, i, k in zip(positions, corner, kernel, strict=True))
        patches = X[(slice(None), *place)].reshape(len(X), -1)
        rows.append(patches @ filters.reshape(len(filters), -1).T)
    return np.concatenate(rows, axis=1)


def reference_codes(responses, thresholds, levels):
    """`thresholds` of shape (n_atoms, n_thresholds)."""
    above = (responses[:, :, None] > thresholds).astype(float)
    if levels == "ternary":
        above -= responses[:, :, None] < -thresholds
    return above.reshape(len(responses), -1)


@example(  # one position, which leaves the last values out
    shape=(1, 5), kernel=3, stride=3, n_filters=1, n_thresholds=1, levels="binary", dtype=np.float32, seed=0
)
@given(
    shape=st.sampled_from([(7,), (1, 5), (6, 9), (5, 8, 1), (6, 7, 3)]),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    n_filters=st.sampled_from([1, 3, 16, 37]),
    n_thresholds=st.integers(1, 3),
    levels=st.sampled_from(["binary", "ternary"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 100),
)
def test_filters_against_loops(shape, kernel, stride, n_filters, n_thresholds, levels, dtype, seed):
    rng = np.random.default_rng(seed)
    # Small integers, whose sums no float rounds, and thresholds between the sums.
    X = rng.integers(-8, 9, size=(5, *shape)).astype(dtype)
    grid, n_channels = (shape, 1) if len(shape) < 3 else (shape[:2], shape[2])
    sizes = tuple(min(kernel, n) for n in grid)
    filters = rng.choice([-3.0, -1.0, 1.0, 2.0], size=(n_filters, *sizes, n_channels))
    thresholds = np.sort(rng.integers(0, 40, size=(n_filters, n_thresholds)) / 7 + 1e-3, axis=1)
    coder = PolarizingCoder(filters, threshold=thresholds, stride=stride, levels=levels).fit(X)
    responses = reference_responses((filters, stride), X.reshape(5, *grid, n_channels).astype(float))
    n_positions = responses.shape[1] // n_filters
    expected = reference_codes(responses, np.tile(thresholds, (n_positions, 1)), levels)
    codes = coder.transform(X)
    assert codes.dtype == dtype
    assert codes.shape[1] == np.prod(coder.code_shape_)
    near = np.abs(np.abs(responses)[:, :, None] - np.tile(thresholds, (n_positions, 1))).reshape(5, -1) < 1e-5
    np.testing.assert_array_equal(codes[~near], expected[~near])
    np.testing.assert_allclose(coder.responses(X).reshape(5, -1), responses, atol=2e-5)
    on_torch = coder.transform(torch.from_numpy(X)).numpy()
    np.testing.assert_array_equal(on_torch[~near], expected[~near])


@given(
    shape=st.sampled_from([(9,), (4, 6), (6, 4, 3)]),
    wavelet=st.sampled_from(["haar", "db2", "sym4"]),
    level=st.integers(0, 3),
    levels=st.sampled_from(["binary", "ternary"]),
)
def test_wavelets_against_pywt(shape, wavelet, level, levels):
    X = np.random.default_rng(0).normal(size=(4, *shape))
    coder = PolarizingCoder(wavelet, level=level, threshold=0.13, levels=levels).fit(X)
    images = X[..., None] if len(shape) < 3 else X
    axes = tuple(range(1, images.ndim - 1))
    used = coder.switches_.atoms.basis.level

    def analyze(values):
        coefficients = pywt.wavedecn(values, wavelet, mode="periodization", level=used, axes=axes)
        return pywt.coeffs_to_array(coefficients, axes=axes)[0].reshape(len(values), -1)

    # The l1 norm of an atom is its response to its own signs; unit signals give its entries.
    units = np.eye(int(np.prod(shape))).reshape(-1, *images.shape[1:])
    norms = np.abs(analyze(units)).sum(axis=0)
    norms[norms < 1e-9] = 1  # an odd size's repeated last sample minus itself
    responses = analyze(images) / norms
    np.testing.assert_allclose(coder.responses(X).reshape(4, -1), responses, atol=1e-12)
    np.testing.assert_array_equal(
        coder.transform(X), reference_codes(responses, np.full((responses.shape[1], 1), 0.13), levels)
    )
    np.testing.assert_array_equal(coder.transform(torch.from_numpy(X)).numpy(), coder.transform(X))


@given(
    n_samples=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    n_channels=st.sampled_from([None, 1, 3]),
    dtype=st.sampled_from([np.float32, np.float64, np.uint8, np.int32]),
    output=st.sampled_from(["code", "reconstruction"]),
    dictionary=st.sampled_from(["pixel", "average"]),
)
def test_layouts_and_dtypes_agree(n_samples, height, width, n_channels, dtype, output, dictionary):
    rng = np.random.default_rng(height + 10 * width)
    shape = (height, width) if n_channels is None else (height, width, n_channels)
    images = rng.integers(0, 200, size=(n_samples, *shape)).astype(dtype)
    rows = images.reshape(n_samples, -1)
    params = {"threshold": [40.5, 99.5], "n_thresholds": 2, "output": output}
    params["threshold"] = np.tile(params["threshold"], (n_channels or 1, 1))
    as_images = PolarizingCoder(dictionary, **params).fit(images)
    as_rows = PolarizingCoder(dictionary, image_shape=shape, **params).fit(rows)
    result = as_images.transform(images)
    assert result.dtype == (np.float32 if dtype is np.float32 else np.float64)
    assert result.shape == (images.shape if output == "reconstruction" else (n_samples, np.prod(as_rows.code_shape_)))
    np.testing.assert_array_equal(as_rows.transform(rows), result.reshape(n_samples, -1))
    np.testing.assert_array_equal(as_images.transform(rows).reshape(n_samples, -1), result.reshape(n_samples, -1))
    on_torch = as_images.transform(torch.from_numpy(images))
    assert on_torch.shape == result.shape
    np.testing.assert_allclose(on_torch.numpy(), result, rtol=1e-4 if dtype is np.float32 else 1e-12)


def test_float32_pixels_have_the_code_of_float64():
    # 0.3 lies between two float32 numbers; no pixel may lie between it and its rounded form.
    single = np.float32(0.3)
    X = np.array([[np.nextafter(single, np.float32(0)), single, np.nextafter(single, np.float32(1))]])
    coder = PolarizingCoder(threshold=0.3).fit(X)
    np.testing.assert_array_equal(coder.transform(X), coder.transform(X.astype(np.float64)))
    np.testing.assert_array_equal(coder.transform(torch.from_numpy(X)).numpy(), [[0, 1, 1]])


def test_sparse_codes_and_threads():
    coder = PolarizingCoder("average", image_shape=(8, 8), levels="ternary", threshold=0.4).fit(DIGITS)
    codes = coder.transform(DIGITS)
    packed = clone(coder).set_params(sparse_output=True).fit(DIGITS).transform(DIGITS)
    assert sparse.issparse(packed)
    assert packed.format == "csr"
    np.testing.assert_array_equal(packed.toarray(), codes)
    for n_jobs in (1, 2):
        np.testing.assert_array_equal(coder.set_params(n_jobs=n_jobs).transform(DIGITS), codes)


def test_without_explicit_vectors():
    code = (
        "import numpy as np; from skrobust import PolarizingCoder;"
        "X = np.random.default_rng(0).random((5, 9, 9));"
        "c = PolarizingCoder(np.random.default_rng(1).random((20, 3, 2)), threshold=0.5).fit(X);"
        "print(c.transform(X).sum(axis=0).astype(int).tolist())"
    )
    results = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "SKROBUST_EXPLICIT_VECTORS": explicit},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for explicit in "01"
    ]
    assert results[0] == results[1]
    assert "1" in results[0]


# Dictionaries.


def test_given_atoms_of_all_shapes():
    rng = np.random.default_rng(0)
    X = rng.random((6, 8, 8, 3))
    whole = rng.normal(size=(5, 192))
    coder = PolarizingCoder(whole, threshold=0.01).fit(X)
    assert coder.code_shape_ == (1, 1, 5)
    np.testing.assert_array_equal(
        coder.transform(X), X.reshape(6, -1) @ (whole / np.abs(whole).sum(axis=1, keepdims=True)).T > 0.01
    )
    each_channel = PolarizingCoder(rng.random((2, 3, 3)), threshold=0.5).fit(X)
    assert each_channel.code_shape_ == (6, 6, 6)
    assert each_channel.components_.shape == (6, 3, 3, 3)
    assert PolarizingCoder(rng.random((2, 3, 3, 3)), threshold=0.5).fit(X).code_shape_ == (6, 6, 2)
    assert PolarizingCoder(rng.random((2, 3)), threshold=0.5, stride=2).fit(X[:, 0, :, 0]).code_shape_ == (3, 2)
    np.testing.assert_allclose(np.abs(each_channel.components_).sum(axis=(1, 2, 3)), 1)


@pytest.mark.parametrize("signed", [False, True])
def test_learned_filters(signed):
    params = {"signed": signed, "n_components": 6, "image_shape": (8, 8), "random_state": 0}
    coder = PolarizingCoder("learned", **params).fit(DIGITS)
    atoms = coder.components_
    assert atoms.shape == (6, 3, 3, 1)
    np.testing.assert_allclose(np.abs(atoms).sum(axis=(1, 2, 3)), 1)
    if signed:
        np.testing.assert_allclose(atoms.sum(axis=(1, 2, 3)), 0, atol=1e-9)
    else:
        assert atoms.min() >= 0
    again = PolarizingCoder("learned", **params).fit(DIGITS)
    np.testing.assert_array_equal(again.components_, atoms)
    np.testing.assert_array_equal(again.thresholds_, coder.thresholds_)
    # Learned filters fit the data: responses vary more than those of random filters of the same kind.
    random = np.random.default_rng(0).random((6, 3, 3, 1))
    if signed:
        random -= random.mean(axis=(1, 2), keepdims=True)
    other = PolarizingCoder(random, image_shape=(8, 8)).fit(DIGITS)
    assert coder.responses(DIGITS).std() > other.responses(DIGITS).std()


def test_learned_filters_need_structure():
    with pytest.raises(ValueError, match="no patch with any structure"):
        PolarizingCoder("learned", signed=True).fit(np.ones((3, 8, 8)))


# Reconstructions.


def test_reconstruction_of_pixels_is_the_mean_of_each_level():
    coder = PolarizingCoder(threshold=[[0.3, 0.6]], image_shape=(8, 8)).fit(DIGITS)
    rebuilt = coder.inverse_transform(coder.transform(DIGITS))
    level = np.digitize(DIGITS, [0.3, 0.6], right=True)
    for k in range(3):
        assert np.ptp(rebuilt[level == k]) < 1e-12
        assert abs(rebuilt[level == k].mean() - DIGITS[level == k].mean()) < 1 / 2048
    np.testing.assert_array_equal(clone(coder).set_params(output="reconstruction").fit_transform(DIGITS), rebuilt)
    np.testing.assert_array_equal(coder.inverse_transform(sparse.csr_array(coder.transform(DIGITS))), rebuilt)
    ternary = PolarizingCoder(threshold=0.2, levels="ternary").fit(DIGITS - 0.5)
    rebuilt = ternary.inverse_transform(ternary.transform(DIGITS - 0.5))
    assert len(np.unique(rebuilt.round(9))) == 3
    np.testing.assert_allclose(np.unique(rebuilt.round(9)), -np.unique(rebuilt.round(9))[::-1])


@pytest.mark.parametrize(("dictionary", "tolerance"), [("average", 0.2), ("haar", 0.05), ("db2", 0.05)])
def test_fine_thermometers_rebuild_the_image(dictionary, tolerance):
    smooth = np.sin(np.arange(10)[:, None] / 6 + np.random.default_rng(0).random((20, 1, 1)) * 6 + np.arange(10) / 8)
    params = {"image_shape": (10, 10), "output": "reconstruction"}
    grid = np.linspace(-1, 1, 200)
    coder = PolarizingCoder(dictionary, **params, threshold=0.0).fit(smooth.reshape(20, -1))
    n_groups = len(coder.thresholds_)
    coder.set_params(threshold=np.tile(grid, (n_groups, 1))).fit(smooth.reshape(20, -1))
    rebuilt = coder.transform(smooth.reshape(20, -1)).reshape(20, 10, 10)
    assert np.abs(rebuilt - smooth)[:, 1:-1, 1:-1].max() < tolerance


def test_reconstruction_keeps_the_layout_of_fit():
    images = DIGITS.reshape(-1, 8, 8)
    coder = PolarizingCoder("average").fit(images)
    codes = coder.transform(images)
    assert coder.inverse_transform(codes).shape == images.shape
    constant = PolarizingCoder("average", threshold=[[0.1, 0.4]]).fit(np.full((3, 8, 8), 0.3))
    np.testing.assert_allclose(constant.inverse_transform(constant.transform(np.full((1, 8, 8), 0.3))), 0.3, atol=1e-3)
    with pytest.raises(ValueError, match=r"codes must have shape \(n_samples, 36\), got \(1797, 64\)"):
        coder.inverse_transform(DIGITS)


# Messages, containers, pipelines.


@pytest.mark.parametrize(
    ("parameters", "X", "message"),
    [
        ({"dictionary": "pixels"}, np.ones((2, 64)), "dictionary='pixels' is neither one of 'pixel'"),
        ({"dictionary": "bior2.2"}, np.ones((2, 64)), "not orthogonal"),
        ({"dictionary": np.ones((3, 5))}, np.ones((2, 8, 8)), r"dictionary of shape \(3, 5\) does not fit signals"),
        ({"dictionary": np.ones((3, 9, 2))}, np.ones((2, 8, 8)), "no larger than the signal"),
        ({"dictionary": np.zeros((1, 64))}, np.ones((2, 64)), "Atom 0 of dictionary is zero"),
        ({"dictionary": [[np.nan] * 64]}, np.ones((2, 64)), "dictionary contains NaN"),
        ({"threshold": "otsu"}, np.ones((2, 64)), "threshold must be 'auto', a number or an array, got 'otsu'"),
        ({"threshold": [0.1, 0.2]}, np.ones((2, 64)), "fits neither the 1 groups"),
        ({"threshold": np.inf}, np.ones((2, 64)), "threshold contains NaN or infinity"),
        ({"threshold": -0.1, "levels": "ternary"}, np.ones((2, 64)), "needs thresholds >= 0, got -0.1"),
        ({"levels": "quaternary"}, np.ones((2, 64)), "levels"),
        ({"min_share": 0.6}, np.ones((2, 64)), "min_share"),
        ({"eps": -1}, np.ones((2, 64)), "eps"),
        ({"kernel_size": (3, 3), "dictionary": "average"}, np.ones((2, 64)), "kernel_size must be an integer"),
        ({"image_shape": (7, 8)}, np.ones((2, 64)), r"image_shape=\(7, 8\) holds 56 values, but X has 64"),
        ({"n_jobs": 0}, np.ones((2, 64)), "n_jobs must be None or an integer other than 0"),
    ],
)
def test_bad_parameters(parameters, X, message):
    with pytest.raises(ValueError, match=message):
        PolarizingCoder(**parameters).fit(X).transform(X)


def test_names_and_containers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(DIGITS[:5], columns=[f"pixel{i}" for i in range(64)])
    coder = PolarizingCoder("average", image_shape=(8, 8)).set_output(transform="pandas").fit(frame)
    codes = coder.transform(frame)
    assert list(codes.columns) == list(coder.get_feature_names_out()) == [f"polarizingcoder{i}" for i in range(36)]
    copy = pickle.loads(pickle.dumps(coder))
    pandas.testing.assert_frame_equal(copy.transform(frame), codes)
    coder.set_params(output="reconstruction")
    assert list(coder.transform(frame).columns) == list(frame.columns) == list(coder.get_feature_names_out())


def test_in_a_pipeline_and_a_grid_search():
    pipeline = make_pipeline(PolarizingCoder(image_shape=(8, 8)), LogisticRegression(max_iter=200))
    grid = {"polarizingcoder__threshold": [0.99, "auto"], "polarizingcoder__n_thresholds": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(DIGITS[:400], LABELS[:400])
    assert search.best_params_["polarizingcoder__threshold"] == "auto"
    assert search.best_score_ > 0.85


# The gradient modes, each against its definition.

KINDS = {
    "pixel": {"threshold": 0.42},
    "thermometer": {"threshold": [[0.2, 0.6]]},
    "average": {"dictionary": "average"},
    "signed": {"dictionary": "haar", "levels": "ternary", "threshold": 0.07},
}


def _backward(coder, gradient, X, upstream, temperature=None, annealed=None):
    module = as_module(coder, gradient=gradient)
    if temperature is not None:
        module.step.temperature = temperature
    module.step.anneal(annealed)
    T = torch.tensor(X, requires_grad=True)
    out = module(T)
    out.backward(torch.tensor(upstream))
    return out.detach().numpy(), T.grad.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["code", "reconstruction"])
def test_gradient_modes_are_as_documented(kind, output):
    coder = PolarizingCoder(**KINDS[kind], output=output, image_shape=(8, 8)).fit(DIGITS)
    rng = np.random.default_rng(0)
    X = DIGITS[:20] + 0.01 * rng.normal(size=(20, 64))
    expected = coder.transform(X)
    W = rng.normal(size=expected.shape)
    D = coder.responses(np.eye(64)).reshape(64, -1).T  # (n_atoms, n_features)
    n_thresholds = coder.thresholds_.shape[1]
    codes = coder.set_params(output="code").transform(X)
    coder.set_params(output=output)
    zero = coder.inverse_transform(np.zeros((1, codes.shape[1])))
    decoder = (coder.inverse_transform(np.eye(codes.shape[1])) - zero).T
    inner = W if output == "code" else W @ decoder

    def through(slope):
        """Backward pass if each code entry had that derivative in its response."""
        return (inner * slope).reshape(20, -1, n_thresholds).sum(axis=2) @ D

    out, zero = _backward(coder, "exact", X, W)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    assert not zero.any()
    out, identity = _backward(coder, "identity", X, W)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    np.testing.assert_allclose(identity, W if output == "reconstruction" else through(1.0), atol=1e-12)
    projection = _backward(coder, "projection", X, W)[1]
    np.testing.assert_allclose(projection, through(codes != 0), atol=1e-12)
    responses = np.repeat(X @ D.T, n_thresholds, axis=1)
    assert (coder.thresholds_ == coder.thresholds_[0]).all()
    t = np.tile(coder.thresholds_[0], len(D))

    def slope(u, width):
        s = 1 / (1 + np.exp(-(u - t) / width))
        return s * (1 - s) / width

    for widths in ([0.03], [0.02, 0.3]):
        total = np.mean([slope(responses, w) for w in widths], axis=0)
        if coder.levels == "ternary":
            total = total + np.mean([slope(-responses, w) for w in widths], axis=0)
        out, smooth = _backward(coder, "smooth", X, W, widths if len(widths) > 1 else widths[0])
        np.testing.assert_allclose(out, expected, atol=1e-12)
        np.testing.assert_allclose(smooth, through(total), atol=1e-10)
    # Annealing: one width, from the widest to the narrowest; half way, their geometric mean.
    for share, width in ((0.0, 0.32), (0.5, 0.08), (1.0, 0.02)):
        one = _backward(coder, "smooth", X, W, [0.1, 0.02, 0.32], share)[1]
        np.testing.assert_allclose(one, _backward(coder, "smooth", X, W, width)[1], atol=1e-10)
    out, skipped = _backward(coder, "skip", X, W)
    if output == "reconstruction":
        np.testing.assert_array_equal(out, X)
        np.testing.assert_array_equal(skipped, W)
    else:
        np.testing.assert_allclose(out, responses, atol=1e-12)
        np.testing.assert_allclose(skipped, through(1.0), atol=1e-12)


def test_module_in_float32():
    coder = PolarizingCoder("average", image_shape=(8, 8)).fit(DIGITS)
    codes = as_module(coder, dtype="float32")(torch.tensor(DIGITS, dtype=torch.float32)).numpy()
    assert np.mean(codes != coder.transform(DIGITS.astype(np.float32))) < 1e-3


def test_tensors_in_tensors_out():
    for output in ("code", "reconstruction"):
        coder = PolarizingCoder("average", output=output).fit(torch.tensor(DIGITS).reshape(-1, 8, 8))
        T = torch.tensor(DIGITS[:5], dtype=torch.float32, requires_grad=True)
        out = coder.transform(T)
        assert out.dtype == torch.float32
        out.sum().backward()
        assert not T.grad.any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    coder = PolarizingCoder("average", output="reconstruction", image_shape=(8, 8)).fit(DIGITS)
    out = coder.transform(torch.tensor(DIGITS, device="cuda"))
    assert out.is_cuda
    assert np.mean(np.abs(out.cpu().numpy() - coder.transform(DIGITS)) > 1e-9) < 1e-3

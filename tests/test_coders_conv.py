"""`ConvSparseCoder`: scikit-learn's checks, exact inverses, sparse output, pooling, and the bridge."""

import math
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from skrobust import ConvSparseCoder, as_module
from skrobust.estimators.shared.low_pass import LowPass
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_basis_pursuit, convolutional_omp

PURSUITS = ["bp", "omp", "thresholding"]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:60] / 16, y[:60]


def coder_for(pursuit="bp", **parameters):
    settings = {"kernel_size": 4, "n_epochs": 2, "image_shape": (8, 8), "random_state": 0, "tol": 1e-4}
    return ConvSparseCoder(6, pursuit=pursuit, **{**settings, **parameters})


@parametrize_with_checks(
    [
        ConvSparseCoder(n_epochs=1),
        ConvSparseCoder(4, pursuit="omp", output="reconstruction", n_epochs=1),
        ConvSparseCoder(4, pursuit="thresholding", pool="max", batch_size=5, n_epochs=1, highpass=2.0),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("pursuit", PURSUITS)
def test_codes_are_those_of_the_pursuit(pursuit, digits):
    X, _ = digits
    coder = coder_for(pursuit).fit(X)
    codes = coder.transform(X).reshape(-1, *coder.code_shape_)
    images, operator = X.reshape(-1, 8, 8, 1), ConvolutionalOperator(coder.components_, (8, 8, 1), padding="same")
    expected = {
        "bp": lambda: convolutional_basis_pursuit(images, operator, 0.1, tol=1e-4).codes,
        "omp": lambda: convolutional_omp(images, operator, n_nonzero_coefs=6),
        "thresholding": lambda: np.sign(operator.analyze(images)) * (abs(operator.analyze(images)) - 0.1).clip(0),
    }[pursuit]()
    np.testing.assert_allclose(codes, expected, atol=1e-12)
    rebuilt = coder.inverse_transform(coder.transform(X))
    np.testing.assert_allclose(rebuilt.reshape(images.shape), operator.synthesize(codes), atol=1e-12)
    front_end = clone(coder).set_params(output="reconstruction").fit(X)
    np.testing.assert_allclose(front_end.transform(X), rebuilt, atol=1e-12)


def test_learning_lowers_the_objective(digits):
    X, _ = digits
    coder = coder_for(n_epochs=8).fit(X)
    assert coder.n_iter_ == 8 and len(coder.objectives_) == 8
    assert coder.objectives_[-1] < coder.objectives_[0]
    assert coder.score(X) > coder_for(n_epochs=1).fit(X).score(X)
    # The recorded objective is under the atoms that the last epoch began with.
    np.testing.assert_allclose(-coder.score(X), coder.objectives_[-1], rtol=0.01)
    online = coder_for(n_epochs=3, batch_size=20).fit(X)
    assert online.score(X) > coder_for(n_epochs=1).fit(X).score(X)


def test_partial_fit(digits):
    X, _ = digits
    coder = coder_for()
    for _ in range(3):
        coder.partial_fit(X[:30]).partial_fit(X[30:])
    assert coder.n_iter_ == 6
    assert coder.score(X) > coder_for(n_epochs=1).fit(X).score(X)
    with pytest.raises(ValueError, match="features"):
        coder.partial_fit(X[:, :-1])
    fitted = coder_for().fit(X)
    before = fitted.score(X)
    assert fitted.partial_fit(X).partial_fit(X).score(X) > before  # goes on from there
    fixed = coder_for(dictionary=coder.components_).partial_fit(X)
    np.testing.assert_array_equal(fixed.partial_fit(X).components_, coder.components_)


def test_given_dictionary_and_init(digits):
    X, _ = digits
    atoms = np.random.default_rng(0).normal(size=(3, 2, 3))
    coder = coder_for(dictionary=atoms).fit(X)
    np.testing.assert_array_equal(coder.components_[..., 0], atoms)
    assert coder.code_shape_ == (8, 8, 3)
    begun = coder_for(init=atoms).fit(X)
    assert begun.components_.shape == (3, 2, 3, 1)
    for name in ("dictionary", "init"):
        with pytest.raises(ValueError, match=f"{name} of shape"):
            coder_for(**{name: np.ones((3, 9, 9))}).fit(X)


def test_sparse_output_and_names(digits):
    X, _ = digits
    coder = coder_for(positive=True).fit(X)
    dense = coder.transform(X)
    compact = coder.set_params(sparse_output=True).transform(X)
    assert compact.format == "csr" and compact.nnz == (dense != 0).sum() < dense.size / 4
    np.testing.assert_array_equal(compact.toarray(), dense)
    np.testing.assert_allclose(coder.inverse_transform(compact), coder.inverse_transform(dense), atol=1e-12)
    assert (dense >= 0).all()
    for kind in ("bsr", "coo", "csc", "lil"):
        rebuilt = coder.inverse_transform(compact.asformat(kind))
        np.testing.assert_allclose(rebuilt, coder.inverse_transform(dense), atol=1e-12)
    names = coder.get_feature_names_out()
    k, y, x = 3, 2, 7
    assert names[np.ravel_multi_index((y, x, k), coder.code_shape_)] == "atom3_y2_x7"
    signals = ConvSparseCoder(2, kernel_size=3, n_epochs=1, random_state=0).fit(X)
    assert list(signals.get_feature_names_out()[:3]) == ["atom0_x0", "atom1_x0", "atom0_x1"]


def test_sparse_output_makes_no_dense_array():
    X = np.random.default_rng(0).normal(size=(900, 16, 16)).astype(np.float32)
    coder = ConvSparseCoder(16, kernel_size=4, alpha=2.0, dictionary=X[:16, :4, :4] / 4, sparse_output=True, n_jobs=1)
    coder.fit(X)
    coder.inverse_transform(coder.transform(X))  # compiles first, outside the measured memory
    dense = 900 * math.prod(coder.code_shape_) * 4
    with config_context(working_memory=1):
        tracemalloc.start()
        compact = coder.transform(X)
        after_codes = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        coder.inverse_transform(compact)
        after_images = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert 0 < compact.nnz < 0.05 * 900 * math.prod(coder.code_shape_)
    # Among it a workspace of the synthesis for each thread, of 1.8 MB whatever the number of images: one here.
    assert max(after_codes, after_images) < dense / 3


@pytest.mark.parametrize(("size", "cells"), [(None, (1, 1)), (4, (2, 2)), (3, (3, 3))])
@pytest.mark.parametrize("kind", ["max", "sum"])
def test_pooling(digits, kind, size, cells):
    X, _ = digits
    codes = coder_for().fit(X).transform(X[:5]).reshape(5, 8, 8, 6)
    pooled = coder_for(pool=kind, pool_size=size).fit(X)
    features = pooled.transform(X[:5]).reshape(5, *cells, 6)
    step = 8 if size is None else size
    for y, x in np.ndindex(*cells):
        window = np.abs(codes[:, y * step : (y + 1) * step, x * step : (x + 1) * step]).reshape(5, -1, 6)
        np.testing.assert_allclose(features[:, y, x], getattr(window, kind)(axis=1), atol=1e-12)
    assert len(pooled.get_feature_names_out()) == np.prod(cells) * 6
    with pytest.raises(ValueError, match="cannot be inverted"):
        pooled.inverse_transform(pooled.transform(X[:5]))


def test_layouts_dtypes_and_colour():
    X = np.random.default_rng(0).random((6, 7, 9, 3)).astype(np.float32)
    coder = ConvSparseCoder(4, kernel_size=3, n_epochs=1, random_state=0).fit(X)
    assert coder.components_.shape == (4, 3, 3, 3) and coder.components_.dtype == np.float32
    codes = coder.transform(X)
    assert codes.dtype == np.float32 and codes.shape == (6, 7 * 9 * 4)
    assert coder.inverse_transform(codes).shape == X.shape
    rows = clone(coder).set_params(image_shape=(7, 9, 3)).fit(X.reshape(6, -1))
    np.testing.assert_array_equal(rows.transform(X.reshape(6, -1)), codes)


@pytest.mark.parametrize("padding", ["same", "full", "valid", "circular"])
def test_paddings_and_stride(digits, padding):
    X, _ = digits
    coder = coder_for(padding=padding, stride=2, n_epochs=1).fit(X)
    codes = coder.transform(X)
    assert codes.shape[1] == np.prod(coder.code_shape_) == len(coder.get_feature_names_out())
    assert coder.score(X) > -0.5 * (X**2).sum(axis=1).mean()  # better than nothing


@pytest.mark.parametrize("output", ["code", "reconstruction"])
@pytest.mark.parametrize("pursuit", PURSUITS)
def test_module_computes_the_same(pursuit, output, digits):
    X, _ = digits
    coder = coder_for(pursuit, output=output).fit(X)
    expected = coder.transform(X[:8])
    tensor = torch.as_tensor(X[:8])
    for gradient in ("exact", "identity", "projection", "smooth"):
        module = as_module(coder, gradient=gradient)
        values = tensor.clone().requires_grad_()
        result = module(values)
        np.testing.assert_allclose(result.detach(), expected, atol=1e-9)
        (slope,) = torch.autograd.grad((result * torch.linspace(-1, 1, result.shape[1])).sum(), values)
        assert torch.isfinite(slope).all() and slope.abs().max() > 0
    np.testing.assert_allclose(coder.transform(tensor).detach(), expected, atol=1e-9)
    single = as_module(coder, dtype=torch.float32)(tensor.float())
    np.testing.assert_allclose(single.detach(), expected, atol=1e-3)  # float32, to a gap of 1e-4


@pytest.mark.parametrize("pursuit", PURSUITS)
def test_exact_gradient_is_the_derivative(pursuit, digits):
    X, _ = digits
    coder = coder_for(pursuit, tol=1e-13, max_iter=200_000, output="reconstruction", alpha=0.4).fit(X)
    module = as_module(coder)
    x = torch.as_tensor(X[1:2]).requires_grad_()
    direction = torch.as_tensor(np.random.default_rng(0).normal(size=(1, 64)))
    weights = torch.as_tensor(np.random.default_rng(1).normal(size=(1, 64)))
    (slope,) = torch.autograd.grad((module(x) * weights).sum(), x)
    step = 3e-5  # the solution is piecewise linear
    with torch.no_grad():
        difference = (module(x + step * direction) - module(x - step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float((difference * weights).sum()), rel=1e-6)


def test_gradient_modes_differ_as_documented(digits):
    X, _ = digits
    x = torch.as_tensor(X[:2]).requires_grad_()
    front_end = coder_for(output="reconstruction").fit(X)
    (through,) = torch.autograd.grad(as_module(front_end, gradient="identity")(x).sum(), x)
    np.testing.assert_allclose(through, np.ones((2, 64)))
    skipped = as_module(front_end, gradient="skip")(x)
    np.testing.assert_array_equal(skipped.detach(), x.detach())
    coder = coder_for().fit(X)
    operator = ConvolutionalOperator(coder.components_, (8, 8, 1), padding="same")
    responses = operator.analyze(X[:2].reshape(2, 8, 8, 1)).reshape(2, -1)
    np.testing.assert_allclose(as_module(coder, gradient="skip")(x).detach(), responses, atol=1e-12)
    # Reconstruction is, up to the penalty, a projection: twice through it is once.
    projection = as_module(front_end, gradient="projection")
    (once,) = torch.autograd.grad((projection(x) * x.detach()).sum(), x)
    (twice,) = torch.autograd.grad((projection(x) * once).sum(), x)
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_pipeline_grid_search_pickle(digits):
    X, y = digits
    pipeline = make_pipeline(coder_for(pool="max", pool_size=4), LogisticRegression(max_iter=500))
    grid = {"convsparsecoder__alpha": [0.1, 0.3], "convsparsecoder__n_components": [3, 5]}
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2).fit(X, y)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(X), search.predict(X))


@pytest.mark.parametrize("grid", [(7,), (5, 6), (1, 4)])
def test_low_pass_minimises_its_objective(grid):
    values = np.random.default_rng(0).normal(size=(3, *grid, 2))
    weight, smooth = 3.0, LowPass(grid, 3.0)(values)
    # the normal equations, by dense differences
    pixels = np.arange(np.prod(grid)).reshape(grid)
    edges = [
        np.stack([np.delete(pixels, 0, axis).ravel(), np.delete(pixels, -1, axis).ravel()]) for axis in range(len(grid))
    ]
    differences = [np.eye(pixels.size)[a] - np.eye(pixels.size)[b] for a, b in edges]
    system = np.eye(pixels.size) + weight * sum(d.T @ d for d in differences)
    flat = values.reshape(3, -1, 2)
    np.testing.assert_allclose(smooth.reshape(3, -1, 2), np.linalg.solve(system, flat), atol=1e-12)
    np.testing.assert_allclose(LowPass(grid, weight)(torch.as_tensor(values)), smooth, atol=1e-12)
    assert LowPass(grid, weight)(values.astype(np.float32)).dtype == np.float32


def test_low_pass_agrees_with_sporco():
    signal = pytest.importorskip("sporco.signal")
    image = np.random.default_rng(0).random((20, 24))
    low, high = signal.tikhonov_filter(image, 5.0, npd=20)
    ours = LowPass((20, 24), 5.0)(image[None, ..., None])[0, ..., 0]
    # SPORCO mirrors 20 pixels beyond the edge, and works on a circle.
    np.testing.assert_allclose(ours, low, atol=1e-5 * np.ptp(image))
    np.testing.assert_allclose(image - ours, high, atol=1e-5 * np.ptp(image))


@pytest.mark.parametrize("pursuit", PURSUITS)
def test_highpass(pursuit, digits):
    X, _ = digits
    coder = coder_for(pursuit, highpass=2.0).fit(X)
    smooth = LowPass((8, 8), 2.0)(X.reshape(-1, 8, 8, 1)).reshape(X.shape)
    plain = coder_for(pursuit).fit(X - smooth)
    np.testing.assert_array_equal(coder.components_, plain.components_)
    codes = coder.transform(X)
    np.testing.assert_allclose(codes, plain.transform(X - smooth), atol=1e-12)
    assert coder.score(X) == pytest.approx(plain.score(X - smooth))
    front_end = clone(coder).set_params(output="reconstruction").fit(X)
    rebuilt = front_end.transform(X)
    np.testing.assert_allclose(rebuilt, coder.inverse_transform(codes) + smooth, atol=1e-12)
    for gradient in ("exact", "identity", "projection", "smooth"):
        values = torch.as_tensor(X[:5]).requires_grad_()
        result = as_module(front_end, gradient=gradient)(values)
        np.testing.assert_allclose(result.detach(), rebuilt[:5], atol=1e-9)
        (slope,) = torch.autograd.grad(result.sum(), values)
        assert torch.isfinite(slope).all()
    np.testing.assert_allclose(as_module(coder)(torch.as_tensor(X[:5])).detach(), codes[:5], atol=1e-9)
    online = coder_for(pursuit, highpass=2.0).partial_fit(X)
    np.testing.assert_allclose(
        online.partial_fit(X).components_,
        coder_for(pursuit).partial_fit(X - smooth).partial_fit(X - smooth).components_,
    )


def test_highpass_removes_smooth_images():
    rows, columns = np.mgrid[:20, :20] / 20
    ramp = (rows + columns)[None]
    coder = ConvSparseCoder(4, kernel_size=3, highpass=0.1, n_epochs=1, alpha=0.5, random_state=0).fit(ramp)
    assert not coder.transform(ramp).any()
    # The low-pass filter bends the ramp a little at the borders, where its gradient penalty ends.
    np.testing.assert_allclose(
        clone(coder).set_params(output="reconstruction").fit(ramp).transform(ramp), ramp, atol=0.02
    )


def test_device_and_threads(digits):
    X, _ = digits
    coder = coder_for(tol=1e-9, max_iter=50_000).fit(X)
    codes = coder.transform(X[:4])
    np.testing.assert_allclose(clone(coder).set_params(device="cpu").fit(X).transform(X[:4]), codes, atol=1e-5)
    layer = coder_for("thresholding").fit(X)
    np.testing.assert_allclose(
        clone(layer).set_params(device="cpu").fit(X).transform(X), layer.transform(X), atol=1e-12
    )
    one, two = coder_for(n_jobs=1).fit(X), coder_for(n_jobs=2).fit(X)
    np.testing.assert_array_equal(one.components_, two.components_)
    np.testing.assert_array_equal(one.transform(X), two.transform(X))


def test_errors(digits):
    X, _ = digits
    with pytest.raises(ValueError, match="positive=True needs pursuit"):
        coder_for("omp", positive=True).fit(X)
    with pytest.raises(ValueError, match="'alpha' parameter"):
        coder_for(alpha=0).fit(X)
    with pytest.raises(ValueError, match="'highpass' parameter"):
        coder_for(highpass=0.0).fit(X)
    for device in ("nonsense", 3.5):
        with pytest.raises(ValueError, match="device must be None or an available torch device"):
            coder_for(device=device).fit(X)
    with pytest.raises(ValueError, match="kernel_size must be"):
        coder_for(kernel_size=(2, 2, 2)).fit(X)
    with pytest.raises(NotFittedError):
        coder_for().transform(X)
    with pytest.raises(NotFittedError):
        coder_for().get_feature_names_out()
    fitted = coder_for(n_epochs=1).fit(X)
    with pytest.raises(ValueError, match="codes must have shape"):
        fitted.inverse_transform(np.ones((2, 5)))

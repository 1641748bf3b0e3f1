"""Pictures of convolutional codes."""

import matplotlib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

from skrobust import ConvSparseCoder
from skrobust.displays import CodeDisplay, DictionaryDisplay

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture(scope="module")
def rows():
    return (load_digits().data[:30] / 16).astype(np.float32)


def fitted(X, **parameters):
    settings = {"kernel_size": 3, "n_epochs": 1, "image_shape": (8, 8), "random_state": 0, "alpha": 0.3}
    return ConvSparseCoder(5, **{**settings, **parameters}).fit(X)


def test_shows_the_strongest_atoms_of_the_code(rows):
    coder = fitted(rows)
    codes = coder.transform(rows[3:4])
    display = CodeDisplay.from_estimator(coder, rows[3], n_atoms=3)
    maps = codes.reshape(8, 8, 5)
    np.testing.assert_array_equal(display.order_, np.argsort(-np.abs(maps).sum((0, 1)))[:3])
    assert len(display.axes_) == 5
    np.testing.assert_array_equal(display.axes_[2].images[0].get_array(), maps[..., display.order_[0]])
    np.testing.assert_allclose(display.image, rows[3].reshape(8, 8))
    np.testing.assert_allclose(display.reconstruction.ravel(), coder.inverse_transform(codes)[0], atol=1e-6)
    assert f"{np.count_nonzero(codes)} coefficients" in display.axes_[1].get_title(loc="left")


@pytest.mark.parametrize("change", [{"output": "reconstruction"}, {"pool": "max"}, {"sparse_output": True}])
def test_whatever_the_output(rows, change):
    coder, plain = fitted(rows, **change), fitted(rows)
    display = CodeDisplay.from_estimator(coder, rows[0])
    np.testing.assert_array_equal(display.codes, plain.transform(rows[:1]).reshape(8, 8, 5))
    assert {name: coder.get_params()[name] for name in change} == change  # left as it was


def test_colours_highpass_and_no_code_at_all():
    X = np.random.default_rng(0).random((4, 9, 7, 3)).astype(np.float32)
    coder = fitted(X, image_shape=None, highpass=2.0, positive=True)
    display = CodeDisplay.from_estimator(coder, X[0])
    assert display.image.shape == display.reconstruction.shape == (9, 7, 3)
    empty = CodeDisplay.from_estimator(fitted(X, image_shape=None, alpha=1e3), X[0])
    assert len(empty.order_) == 0 and len(empty.axes_) == 2


def test_spots_of_large_maps_are_seen():
    atoms = np.zeros((2, 3, 3))
    atoms[:, 1, 1] = 1, -1
    X = np.zeros((1, 150, 100), dtype=np.float32)
    X[0, 20, 30], X[0, 21, 30], X[0, 90, 99] = 1.0, -3.0, 2.0
    coder = ConvSparseCoder(dictionary=atoms, alpha=0.01, tol=1e-6).fit(X)
    display = CodeDisplay.from_estimator(coder, X[0])
    codes = coder.transform(X).reshape(150, 100, 2)
    for k, ax in zip(display.order_, display.axes_[2:], strict=True):
        drawn, expected = ax.images[0].get_array(), np.zeros((150, 100))
        for y, x in sorted(np.argwhere(codes[..., k]), key=lambda at: abs(codes[at[0], at[1], k])):
            expected[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = codes[y, x, k]
        np.testing.assert_array_equal(drawn, expected)


def test_axes_of_the_caller_and_refusals(rows):
    figure, axes = matplotlib.pyplot.subplots(1, 4)
    coder = fitted(rows)
    assert CodeDisplay.from_estimator(coder, rows[0], n_atoms=2, axes=axes).figure_ is figure
    with pytest.raises(ValueError, match="axes has 4 panels"):
        CodeDisplay.from_estimator(coder, rows[0], n_atoms=4, axes=axes)
    with pytest.raises(ValueError, match="n_atoms must be an integer >= 0, got -1"):
        CodeDisplay.from_estimator(coder, rows[0], n_atoms=-1)
    X = np.random.default_rng(0).random((4, 9, 7, 2))
    with pytest.raises(ValueError, match="of 1 or 3 channels"):
        CodeDisplay.from_estimator(fitted(X, image_shape=None), X[0])
    with pytest.raises(ValueError, match="must be one sample, got an array of shape"):
        CodeDisplay.from_estimator(fitted(X[..., :1], image_shape=None), X[..., :1])
    with pytest.raises(ValueError, match="draws images,"):
        CodeDisplay.from_estimator(fitted(rows, image_shape=None), rows[0])
    with pytest.raises(NotFittedError):
        CodeDisplay.from_estimator(ConvSparseCoder(), rows[0])


def test_atoms_of_a_coder_are_tiles_and_curves(rows):
    coder = fitted(rows)
    display = DictionaryDisplay.from_estimator(coder)
    np.testing.assert_array_equal(display.atoms, coder.components_[..., 0])
    assert len(display.ax_.images) == 1
    signals = fitted(rows, image_shape=None)
    curves = DictionaryDisplay.from_estimator(signals)
    assert curves.atoms.shape == (5, 3) and len(curves.ax_.lines) > 5
    colours = fitted(np.random.default_rng(0).random((4, 6, 6, 3)).astype(np.float32), image_shape=None)
    assert DictionaryDisplay.from_estimator(colours).ax_.images[0].get_array().ndim == 3

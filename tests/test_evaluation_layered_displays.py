"""Displays of layered dictionaries and pursuits, and the traces they draw."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skrobust import DeepPursuit, LayeredBasisPursuit, LayeredThresholding, PolarizingCoder
from skrobust.dictionaries import layered_coherence, pursuit_trace, reconstruction_errors
from skrobust.displays import CoherenceDisplay, PursuitTraceDisplay
from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit, layered_thresholding, multilayer_pursuit

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def chain(skip=None, dtype=np.float64):
    rng = np.random.default_rng(0)
    shape, operators = (6, 5, 2), []
    for n_atoms in (3, 4, 3):
        atoms = rng.normal(size=(n_atoms, 2, 2, shape[-1])).astype(dtype)
        atoms /= np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))
        operators.append(ConvolutionalOperator(atoms, shape))
        shape = operators[-1].code_shape
    return LayeredDictionary(operators, skip)


X = np.random.default_rng(1).normal(size=(7, 6, 5, 2))
FUNCTIONS = {"L-THR": layered_thresholding, "L-BP": layered_basis_pursuit, "deep": deep_pursuit}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("skip", [None, "residual"])
def test_errors_equal_those_of_the_dense_matrix(skip, dtype):
    layers, signals = chain(skip, dtype), X.astype(dtype)
    codes = deep_pursuit(signals, layers, 0.05, max_iter=7)
    dense = layers.to_dense()
    flat = np.concatenate([w.reshape(7, -1) for w in codes], axis=1)
    nothing = [np.zeros((7, *shape), dtype) for shape in layers.code_shapes]
    whole = np.concatenate([layers.target(k, signals, nothing).reshape(7, -1) for k in range(3)], axis=1)
    residuals = np.split(
        whole - flat @ dense.T, np.cumsum([np.prod(o.signal_shape) for o in layers.operators])[:-1], axis=1
    )
    errors, of_signals = reconstruction_errors(signals, layers, codes)
    for k in range(3):
        target = layers.target(k, signals, codes).reshape(7, -1)
        expected = np.linalg.norm(residuals[k], axis=1) / np.linalg.norm(target, axis=1)
        np.testing.assert_allclose(errors[:, k], expected, rtol=1e-4 if dtype == np.float32 else 1e-9)
    made = layers.reconstruct(codes)
    np.testing.assert_allclose(
        of_signals,
        np.linalg.norm((signals - made).reshape(7, -1), axis=1) / np.linalg.norm(signals.reshape(7, -1), axis=1),
        rtol=1e-4 if dtype == np.float32 else 1e-9,
    )
    of_tensors = reconstruction_errors(torch.tensor(signals), layers, [torch.tensor(w) for w in codes])
    np.testing.assert_allclose(of_tensors[0], errors, rtol=1e-4)


def test_zero_signals_have_zero_reconstructions():
    layers = chain()
    codes = [np.zeros((2, *shape)) for shape in layers.code_shapes]
    errors, of_signals = reconstruction_errors(np.zeros((2, *layers.data_shape)), layers, codes)
    assert not errors.any() and not of_signals.any()
    codes[2][0, 0, 0, 0] = 1.0
    errors, _ = reconstruction_errors(np.zeros((2, *layers.data_shape)), layers, codes)
    assert np.isinf(errors[0, 2]) and not errors[1].any()
    with pytest.raises(ValueError, match="codes has 2 entries for 3 layers"):
        reconstruction_errors(X, layers, codes[:2])


def test_traces_equal_the_errors_of_pursuits():
    layers = chain()
    for function in (layered_basis_pursuit, deep_pursuit, multilayer_pursuit):
        trace = pursuit_trace(function, X, layers, [0.05, 0.1, 0.05], iterations=(0, 3), positive=False)
        assert trace.errors.shape == (2, 7, 3) and trace.signal_errors.shape == (2, 7)
        codes = function(X, layers, [0.05, 0.1, 0.05], max_iter=3, positive=False)
        np.testing.assert_allclose(trace.errors[1], reconstruction_errors(X, layers, codes)[0])
    single = pursuit_trace(layered_thresholding, X, layers, 0.05)
    started = pursuit_trace(layered_basis_pursuit, X, layers, 0.05, iterations=[0])
    np.testing.assert_allclose(single.errors, started.errors)
    for wrong in ([], [-1], [0.5]):
        with pytest.raises(ValueError, match="iterations must be integers >= 0"):
            pursuit_trace(deep_pursuit, X, layers, 0.05, iterations=wrong)


def test_panels():
    display = PursuitTraceDisplay.from_pursuit(FUNCTIONS, X, chain(), 0.05, iterations=(0, 2, 5))
    assert len(display.axes_) == 4 and set(display.lines_) == set(FUNCTIONS)
    means = display.traces["deep"].errors.mean(axis=1)
    np.testing.assert_allclose([line.get_ydata() for line in display.lines_["deep"][:3]], means.T)
    np.testing.assert_array_equal(display.lines_["L-THR"][0].get_xdata(), [0, 5])
    low, high = display.axes_[0].get_ylim()
    assert low > 0 and high >= max(line.get_ydata().max() for lines in display.lines_.values() for line in lines)
    figure, axes = plt.subplots(2, 2)
    one = PursuitTraceDisplay.from_pursuit(deep_pursuit, X, chain(), 0.05, iterations=[1], axes=axes)
    assert one.figure_ is figure and list(one.traces) == ["deep_pursuit"]
    with pytest.raises(ValueError, match="axes has 3 entries for 4 panels"):
        one.plot(axes.ravel()[:3])


def test_estimators_are_traced_by_their_own_codes():
    images = np.random.default_rng(0).random((20, 6, 6))
    params = {"dictionaries": None, "padding": "same"}
    deep = DeepPursuit((3, 4), kernel_size=2, n_epochs=1, random_state=0, padding="same", skip=None).fit(images)
    params["dictionaries"] = deep.components_
    coders = {
        "L-THR": LayeredThresholding(**params).fit(images),
        "L-BP": LayeredBasisPursuit(**params).fit(images),
        "deep": deep,
    }
    display = PursuitTraceDisplay.from_estimator(coders, images, iterations=(0, 4))
    assert deep.max_iter == 20
    codes = DeepPursuit(**params, max_iter=4).fit(images).encode(images)
    layers = LayeredDictionary([ConvolutionalOperator(deep.components_[0], (6, 6, 1))])
    layers = LayeredDictionary(
        [*layers.operators, ConvolutionalOperator(deep.components_[1], layers.operators[0].code_shape)]
    )
    expected, _ = reconstruction_errors(images[..., None], layers, codes)
    np.testing.assert_allclose(display.traces["deep"].errors[1], expected)
    assert display.traces["L-THR"].iterations.tolist() == [0]
    np.testing.assert_allclose(display.traces["L-THR"].errors[0], display.traces["L-BP"].errors[0])
    single = PursuitTraceDisplay.from_estimator(deep, images, iterations=[2])
    assert list(single.traces) == ["DeepPursuit"]
    with pytest.raises(ValueError, match="tol=0.001: traces use fixed numbers"):
        PursuitTraceDisplay.from_estimator(DeepPursuit(**params, tol=1e-3).fit(images), images)
    measures = CoherenceDisplay.from_estimator(deep).measures["all layers"]
    assert measures.mutual_coherence == layered_coherence(layers).mutual_coherence


def test_bars():
    display = CoherenceDisplay.from_dictionary(chain("residual"))
    names = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert names == ["layer 1", "layer 2", "layer 3", "all layers,\nchain", "all layers,\nwith skips"]
    plain, skipping = layered_coherence(chain()), layered_coherence(chain("residual"))
    heights = [bar.get_height() for bar in display.bars_["frame potential"]]
    np.testing.assert_allclose(heights[3:], [plain.frame_potential, skipping.frame_potential])
    np.testing.assert_allclose(heights[:3], plain.layer_frame_potential)
    bounds = [segment[0, 1] for segment in display.bounds_.get_segments()]
    np.testing.assert_allclose(bounds, [*plain.layer_welch_bound, plain.welch_bound, skipping.welch_bound])
    figure, ax = plt.subplots()
    assert CoherenceDisplay({"mine": plain}).plot(ax).figure_ is figure


def test_other_estimators_are_refused():
    polar = PolarizingCoder().fit(np.eye(4))
    with pytest.raises(TypeError, match="CoherenceDisplay needs a fitted layered coder, got PolarizingCoder"):
        CoherenceDisplay.from_estimator(polar)
    with pytest.raises(TypeError, match="PursuitTraceDisplay needs a fitted layered coder"):
        PursuitTraceDisplay.from_estimator(polar, np.eye(4))
    with pytest.raises(NotFittedError):
        CoherenceDisplay.from_estimator(DeepPursuit())

"""Displays: contents and colours, from reports and from estimators."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline

from skrobust import WaveletSparsifier
from skrobust.attacks import FGSM
from skrobust.displays import ConfusionUnderAttackDisplay, PerturbationGalleryDisplay, RobustnessCurveDisplay
from skrobust.displays.drawing.style import BASELINE_COLOR, MODEL_COLORS
from skrobust.evaluation import Corruption, robustness_report
from skrobust.evaluation.report.images import image_layout, image_quality, restored
from skrobust.signals import SignalLayout


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def plain(data):
    X, y = data
    return LogisticRegression(C=0.1, max_iter=300).fit(X[:500], y[:500])


@pytest.fixture(scope="module")
def defended(data):
    X, y = data
    front_end = WaveletSparsifier("haar", n_nonzero_coefs=20, clip=(0, 1), image_shape=(8, 8))
    return make_pipeline(front_end, LogisticRegression(C=0.1, max_iter=300)).fit(X[:500], y[:500])


@pytest.fixture(scope="module")
def report(data, plain, defended):
    X, y = data
    params = {"eps": [0.05, 0.1, 0.2], "attacks": FGSM(), "n_examples": 5, "checks": False}
    return robustness_report({"wavelet": defended}, X[500:600], y[500:600], baseline={"plain": plain}, **params)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_curve_draws_the_reports_figures(report):
    display = RobustnessCurveDisplay.from_report(report)
    assert report.plot().get_xlabel() == display.ax_.get_xlabel()
    assert set(display.lines_) == {"wavelet", "plain"}
    for name, line in display.lines_.items():
        eps, accuracy, _, _ = report.curve(name)
        np.testing.assert_allclose(line.get_xdata(), eps)
        np.testing.assert_allclose(line.get_ydata(), 100 * accuracy)
    assert display.lines_["plain"].get_color() == BASELINE_COLOR
    assert display.lines_["wavelet"].get_color() == MODEL_COLORS[0]
    assert "l∞" in display.ax_.get_xlabel() and "n = 100" in display.ax_.get_title(loc="left")


def test_curve_from_estimator_on_given_axes(data, plain):
    X, y = data
    _, ax = plt.subplots()
    display = RobustnessCurveDisplay.from_estimator(plain, X[500:540], y[500:540], eps=[0.1], attacks=FGSM(), ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert len(display.lines_["model"].get_xdata()) == 2


def test_gallery_shows_clean_attacked_and_restored(report, defended):
    display = PerturbationGalleryDisplay.from_report(report)
    assert display.axes_.shape == (4, 5)  # clean; attacked and restored for the front end; attacked without one
    examples = report.examples
    assert examples.eps == 0.1
    wavelet, plain = examples.views
    assert np.abs(wavelet.attacked - examples.clean).max() <= 0.1 + 1e-12
    assert plain.restored is None
    flat = wavelet.attacked.reshape(5, 64)
    np.testing.assert_allclose(wavelet.restored.reshape(5, 64), defended[0].transform(flat))
    np.testing.assert_array_equal(wavelet.predicted, defended.predict(flat))
    np.testing.assert_array_equal(wavelet.predicted_clean, examples.truth)
    below = [ax.get_xlabel() for ax in display.axes_[1]]
    assert below == [str(answer) for answer in wavelet.predicted]


def test_gallery_from_estimator_and_its_error(data, plain):
    X, y = data
    display = PerturbationGalleryDisplay.from_estimator(plain, X[:60], y[:60], FGSM(eps=0.2), n_examples=3)
    assert display.axes_.shape == (2, 3) and display.examples.eps == 0.2
    empty = robustness_report(plain, X[:20], y[:20], eps=0.1, attacks=FGSM(), n_examples=0, checks=False)
    with pytest.raises(ValueError, match="has no images"):
        PerturbationGalleryDisplay.from_report(empty)


def test_confusion_matrices(data, plain, report):
    X, y = data
    X, y = X[500:600], y[500:600]
    display = ConfusionUnderAttackDisplay.from_estimator(plain, X, y, FGSM(eps=0.2))
    attacked = plain.predict(FGSM(eps=0.2).perturb(plain, X, y))
    np.testing.assert_allclose(display.attacked, confusion_matrix(y, attacked, normalize="true"))
    np.testing.assert_allclose(display.clean, confusion_matrix(y, plain.predict(X), normalize="true"))
    assert "FGSM, eps = 0.2" in display.axes_[1].get_title(loc="left")
    noisy = ConfusionUnderAttackDisplay.from_estimator(plain, X, y, Corruption("shot_noise", 5, 0))
    assert noisy.title == "shot noise, severity 5"
    display = ConfusionUnderAttackDisplay.from_report(report, model="plain", eps=0.2)
    shares = np.bincount(y, minlength=10) / len(y)
    assert np.diag(display.attacked) @ shares == pytest.approx(report.curve("plain")[1][-1])


def test_image_quality_against_scikit_image(data):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    rng = np.random.default_rng(0)
    for layout in (SignalLayout((12, 9)), SignalLayout((12, 9), 3)):
        clean = rng.random((4, layout.n_features))
        other = np.clip(clean + rng.normal(scale=0.1, size=clean.shape), 0, 1)
        psnr, ssim = image_quality(clean, other, layout)
        shape = layout.grid if layout.n_channels == 1 else layout.canonical_shape
        for k in range(4):
            a, b = clean[k].reshape(shape), other[k].reshape(shape)
            axis = None if layout.n_channels == 1 else -1
            assert psnr[k] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1))
            assert ssim[k] == pytest.approx(structural_similarity(a, b, data_range=1, channel_axis=axis))
    assert np.isinf(image_quality(clean, clean, layout)[0]).all()
    assert np.isnan(image_quality(np.zeros((1, 4)), np.ones((1, 4)), SignalLayout((2, 2)))[1]).all()


def test_layouts_and_restoration(data, plain, defended):
    X, _ = data
    assert image_layout(defended, (64,)).grid == (8, 8)
    assert image_layout(plain, (64,)).grid == (8, 8)
    assert image_layout(plain, (63,)) is None
    assert image_layout(plain, (12,), (3, 4)).grid == (3, 4)
    assert image_layout(plain, (5, 4, 3)).n_channels == 3
    assert restored(plain, X[:3]) is None
    np.testing.assert_allclose(restored(defended, X[:3]), defended[0].transform(X[:3]))

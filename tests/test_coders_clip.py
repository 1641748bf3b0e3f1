"""The clip of reconstructions: the same on arrays and tensors, and what each backward pass makes of it."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import (
    ConvSparseCoder,
    DeepPursuit,
    LayeredBasisPursuit,
    LayeredThresholding,
    MultilayerPursuit,
    PatchDictionaryDenoiser,
    PolarizingCoder,
    WaveletSparsifier,
    as_module,
)
from skrobust.certificates import NoCertificateError, certify

_FRONT = {"output": "reconstruction", "image_shape": (8, 8)}
_ATOMS = np.random.default_rng(0).normal(size=(4, 3, 3, 1)) / 3
_LAYERS = [_ATOMS, np.random.default_rng(1).normal(size=(3, 3, 3, 4)) / 6]
_CODERS = [
    PolarizingCoder("average", n_thresholds=3, **_FRONT),
    ConvSparseCoder(dictionary=_ATOMS, alpha=0.02, **_FRONT),
    ConvSparseCoder(dictionary=_ATOMS, pursuit="thresholding", alpha=0.02, highpass=5, **_FRONT),
    LayeredThresholding(dictionaries=_LAYERS, threshold=0.01, **_FRONT),
    LayeredBasisPursuit(dictionaries=_LAYERS, alpha=0.01, **_FRONT),
    DeepPursuit(dictionaries=_LAYERS, alpha=0.01, **_FRONT),
    MultilayerPursuit(dictionaries=_LAYERS, alpha=0.01, **_FRONT),
]
_FRONT_ENDS = [
    WaveletSparsifier("haar", n_nonzero_coefs=10, image_shape=(8, 8)),
    PatchDictionaryDenoiser(patch_size=4, n_nonzero_coefs=2, dictionary="dct", image_shape=(8, 8)),
]


def _name(estimator):
    return f"{type(estimator).__name__}-{getattr(estimator, 'pursuit', '')}".rstrip("-")


@pytest.fixture(scope="module")
def X():
    return load_digits().data[:20] / 16


def _with_a_clip_that_acts(front, X):
    """The front end fitted without a clip and with one, and the clip."""
    free = clone(front).fit(X)
    clip = tuple(np.quantile(free.transform(X), [0.3, 0.7]).tolist())
    return free, clone(front).set_params(clip=clip).fit(X), clip


@pytest.mark.parametrize("front", _CODERS + _FRONT_ENDS, ids=_name)
def test_every_front_end_and_reconstruction_is_clipped(front, X):
    free, fitted, clip = _with_a_clip_that_acts(front, X)
    clipped = fitted.transform(X)
    np.testing.assert_array_equal(clipped, free.transform(X).clip(*clip))
    np.testing.assert_allclose(fitted.transform(torch.tensor(X)).detach(), clipped, atol=1e-9)
    for gradient in ("exact", "identity", "projection", "smooth"):
        np.testing.assert_allclose(as_module(fitted, gradient=gradient)(torch.tensor(X)).detach(), clipped, atol=1e-9)
    narrow = fitted.transform(X.astype(np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, free.transform(X.astype(np.float32)).clip(*clip), rtol=1e-6)


@pytest.mark.parametrize("coder", _CODERS[1:], ids=_name)
def test_backward_passes_of_the_clip(coder, X):
    """Exact: zero gradient at pixels outside the range. Projection and identity: as without the clip."""
    free, fitted, clip = _with_a_clip_that_acts(coder, X)
    weights = torch.as_tensor(np.random.default_rng(2).normal(size=X.shape))

    def gradient_of(estimator, mode, weights):
        at = torch.tensor(X, requires_grad=True)
        (as_module(estimator, gradient=mode)(at) * weights).sum().backward()
        return at.grad

    rebuilt = torch.as_tensor(free.transform(X))
    inside = ((rebuilt > clip[0]) & (rebuilt < clip[1])).double()
    torch.testing.assert_close(
        gradient_of(fitted, "exact", weights), gradient_of(free, "exact", weights * inside), atol=1e-9, rtol=1e-6
    )
    for mode in ("projection", "identity", "smooth"):
        torch.testing.assert_close(gradient_of(fitted, mode, weights), gradient_of(free, mode, weights))


def test_codes_and_inverses_are_not_clipped(X):
    coder = ConvSparseCoder(dictionary=_ATOMS, alpha=0.02, image_shape=(8, 8), clip=(0.05, 0.15)).fit(X)
    free = clone(coder).set_params(clip=None).fit(X)
    codes = coder.transform(X)
    np.testing.assert_array_equal(codes, free.transform(X))
    np.testing.assert_array_equal(coder.inverse_transform(codes), free.inverse_transform(codes))


@pytest.mark.parametrize("front", _CODERS + _FRONT_ENDS, ids=_name)
@pytest.mark.parametrize("clip", [(1, 0), (0,), (0, float("nan"))])
def test_invalid_ranges_are_refused(front, clip, X):
    with pytest.raises(ValueError, match=r"clip must be None or \(lowest, highest\)"):
        clone(front).set_params(clip=clip).fit(X)


def test_certificates_refuse_a_clip_that_acts(X):
    y = load_digits().target[:20]
    model = make_pipeline(clone(_CODERS[0]).set_params(clip=(0.3, 0.4)), LogisticRegression()).fit(X, y)
    with pytest.raises(NoCertificateError, match=r"clip=\(0.3, 0.4\) may cut reconstructions, which can reach"):
        certify(model, X, y, 0.01)
    wide, free = (
        make_pipeline(clone(_CODERS[0]).set_params(clip=clip), LogisticRegression()).fit(X, y)
        for clip in ((-100, 100), None)
    )
    np.testing.assert_array_equal(certify(wide, X, y, 0.01).certified, certify(free, X, y, 0.01).certified)

"""Modules as torch expects: copies, pickles, moves, inference mode, and clear errors for input in another layout."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from modules_helpers import CLASSIFIERS, IMAGE, TRANSFORMERS, digits, fitted, transformed
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from skrobust import WaveletSparsifier, as_module
from skrobust.attacks import FGSM, PGD
from skrobust.bridge import register_module

every_module = pytest.mark.parametrize("name", [*TRANSFORMERS, *CLASSIFIERS])


def images(dtype=torch.float64):
    return torch.tensor(digits()[0][40:45], dtype=dtype)


def saved(module):
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)


@every_module
def test_copies_are_independent(name):
    X, module = images(), as_module(fitted(name))
    before = module(X).detach()
    twins = [copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved(module)]
    for buffer in module.buffers():
        buffer.zero_()
    for twin in twins:
        assert torch.equal(twin(X), before)


@every_module
def test_module_follows_its_dtype(name):
    X = images()
    single, module = as_module(fitted(name), dtype="float32"), as_module(fitted(name))
    before = single(X)
    torch.testing.assert_close(module.float()(X), before)  # float32, both
    assert before.dtype == torch.float32
    assert module.to("cpu", torch.float64)(X).dtype == torch.float64


@every_module
def test_inference_mode_leaves_no_trace(name):
    X = images()
    with torch.inference_mode():
        module = as_module(fitted(name))
        expected = module(X.clone())
    given = X.clone().requires_grad_(True)
    scores = module(given)
    scores.sum().backward()
    assert torch.equal(scores, expected) and given.grad is not None


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transform_in_inference_mode_leaves_no_trace(name):
    """Tensors that a transform keeps for later must take part in later backward passes."""
    model = pickle.loads(pickle.dumps(fitted(name)))
    with torch.inference_mode():
        model.transform(images())
    X = images().requires_grad_(True)
    codes = model.transform(X)
    codes = codes.to_dense() if codes.is_sparse else codes
    assert torch.isfinite(codes).all()
    if codes.requires_grad:
        codes.sum().backward()
        assert torch.isfinite(X.grad).all()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_channels_first_are_refused(name):
    X = images()
    module = as_module(fitted(name))
    assert torch.equal(module(X.reshape(-1, 8, 8, 1)).flatten(1), module(X))
    with pytest.raises(ValueError, match="channels last"):
        module(X.reshape(-1, 1, 8, 8))
    with pytest.raises(ValueError, match="channels last"):
        fitted(name).transform(X.numpy().reshape(-1, 1, 8, 8))
    with pytest.raises(ValueError, match="samples of shape"):
        module(X.reshape(-1, 4, 16))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_images_are_refused_where_rows_are_read(name):
    with pytest.raises(ValueError, match="Found array with dim 4"):
        as_module(fitted(name))(images().reshape(-1, 1, 8, 8))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_smooth_mode_has_the_forward_pass_of_the_estimator(name):
    if name == "WaveletSparsifier" or name.startswith("Polar"):
        pytest.skip("their own tests hold it")
    X = images()
    given = X.clone().requires_grad_(True)
    codes = as_module(fitted(name), gradient="smooth")(given)
    np.testing.assert_allclose(codes.detach(), transformed(name, X.numpy()), atol=1e-7)
    codes.square().sum().backward()
    assert bool(torch.isfinite(given.grad).all()) and bool(given.grad.any())


def test_dictionary_gradients():
    """Exact: least squares on the atoms chosen, by central differences; other modes differ from it and each other."""
    X = images().requires_grad_(True)
    model = fitted("KSVD")
    direction = torch.tensor(np.random.default_rng(0).normal(size=(5, 20)))
    gradients = {}
    for mode in ("exact", "projection", "identity", "smooth", "skip"):
        codes = as_module(model, gradient=mode)(X)
        gradients[mode] = torch.autograd.grad((codes * direction).sum(), X)[0]
    assert torch.equal(gradients["exact"], gradients["projection"])
    torch.testing.assert_close(gradients["identity"], direction @ torch.tensor(model.components_))
    assert torch.equal(gradients["identity"], gradients["skip"])
    assert not torch.allclose(gradients["smooth"], gradients["exact"])
    h, step = 1e-6, torch.tensor(np.random.default_rng(1).normal(size=X.shape))
    module = as_module(model)
    with torch.no_grad():
        slope = ((module(X + h * step) - module(X - h * step)) * direction).sum((1,)) / (2 * h)
    torch.testing.assert_close(slope, (gradients["exact"] * step).sum(1), rtol=1e-5, atol=1e-6)


class Holder(nn.Module):
    """A network of the user, behind a front end of ours."""

    def __init__(self, front, model):
        super().__init__()
        self.front, self.head = front, as_module(model)

    def forward(self, X):
        return self.head(self.front(X))


def held():
    X, y = digits()
    front = WaveletSparsifier("haar", n_nonzero_coefs=0.3, clip=(0, 1), **IMAGE)
    pipeline = make_pipeline(front, LogisticRegression(max_iter=200)).fit(X, y)
    return pipeline, Holder(as_module(pipeline[0]), pipeline[1]), X, y


def test_gradient_modes_reach_front_ends_inside_networks():
    pipeline, network, X, y = held()
    X_t = torch.tensor(X[:20])
    for mode in ("exact", "identity", "projection", "smooth", "skip"):
        gradients, scores = [], []
        for model in (pipeline, network, as_module(pipeline), nn.Sequential(network)):
            given = X_t.clone().requires_grad_(True)
            scores.append(as_module(model, gradient=mode)(given))
            gradients.append(torch.autograd.grad(scores[-1].square().sum(), given)[0])
        for other, gradient in zip(scores[1:], gradients[1:], strict=True):
            torch.testing.assert_close(other, scores[0])
            torch.testing.assert_close(gradient, gradients[0])
    attack = PGD(0.1, n_iter=5, gradient="worst", loss="margin", random_state=0)
    expected = attack.perturb(pipeline, X[:60], y[:60])
    np.testing.assert_allclose(attack.perturb(network, X[:60], y[:60]), expected, atol=1e-9)
    np.testing.assert_allclose(attack.perturb(as_module(pipeline), X[:60], y[:60]), expected, atol=1e-9)


def test_exact_keeps_the_mode_that_a_network_was_made_with():
    pipeline, _, X, _ = held()
    network = Holder(as_module(pipeline[0], gradient="identity"), pipeline[1])
    gradients = {}
    for mode in ("exact", "identity", "projection"):
        given = torch.tensor(X[:20]).requires_grad_(True)
        gradients[mode] = torch.autograd.grad(as_module(network, gradient=mode)(given).square().sum(), given)[0]
    assert torch.equal(gradients["exact"], gradients["identity"])
    assert not torch.equal(gradients["exact"], gradients["projection"])
    assert torch.equal(copy.deepcopy(as_module(network, gradient="identity"))(given), network(given))


class Halves(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X / 2


class Thirds(Halves):
    def transform(self, X):
        return X / 3


class Half(nn.Module):
    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor

    def forward(self, X):
        return X / self.divisor


@register_module(Halves)
def convert_halves(estimator, conversion):
    return Half(2)


@register_module(Thirds, smooth=True)
def convert_thirds(estimator, conversion):
    return Half(3)


def test_a_converter_that_ignores_the_mode_brings_a_warning():
    X, y = digits()
    model = make_pipeline(Halves(), LogisticRegression(max_iter=200)).fit(X, y)
    with pytest.warns(UserWarning, match="step 'halves'.*convert_halves does not read conversion.gradient"):
        as_module(model, gradient="identity")
    smooth = make_pipeline(Thirds(), LogisticRegression(max_iter=200)).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_module(model)
        as_module(smooth, gradient="identity")
        as_module(fitted("SVC"), gradient="smooth")


@pytest.mark.parametrize(
    ("output", "message"),
    [(lambda s: (s, s), "a tuple"), (lambda s: {"logits": s}, r"a dict with the keys \['logits'\]")],
)
def test_networks_that_return_no_tensor_are_refused(output, message):
    class Network(nn.Module):
        def forward(self, X):
            return output(X[:, :10])

    X, y = digits()
    for use in (lambda: as_module(Network())(images()), lambda: FGSM().perturb(Network(), X[:5], y[:5])):
        with pytest.raises(TypeError, match=f"Network returned {message}"):
            use()

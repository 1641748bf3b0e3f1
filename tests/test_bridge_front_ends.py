"""Front ends of a user's own: written in NumPy and registered in one line, or as a small torch module."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust import WaveletSparsifier, as_module
from skrobust.attacks import FAB, PGD, SemiWhiteBox
from skrobust.bridge import FrontEndModule, NoGradientError, register_array_front_end
from skrobust.evaluation import masking_checks

MODES = ("exact", "identity", "projection", "smooth", "skip")


@register_array_front_end
class Levels(TransformerMixin, BaseEstimator):
    """Pixels rounded to quarters."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        assert isinstance(X, np.ndarray)
        return np.round(4 * X) / 4


class Halved(Levels):
    def transform(self, X):
        return X[:, ::2]


register_array_front_end(Halved)


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


@pytest.fixture(scope="module")
def model(data):
    return make_pipeline(Levels(), LogisticRegression(max_iter=200)).fit(*data)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_works_in_every_mode(data, mode, dtype):
    X = data[0][:5]
    front = Levels().fit(X)
    result = as_module(front, gradient=mode, dtype=dtype)(torch.tensor(X))
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, (X if mode == "skip" else front.transform(X)).astype(result.numpy().dtype))
    images = torch.tensor(X.reshape(-1, 8, 8))  # whatever layout `transform` takes
    assert as_module(front, gradient=mode)(images).shape == images.shape


@pytest.mark.parametrize("mode", MODES)
def test_backward_is_the_identity_or_raises(data, model, mode):
    X = torch.tensor(data[0][:5], requires_grad=True)
    scores = as_module(model, gradient=mode)(X)
    if mode in ("identity", "skip"):
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), X)
        torch.testing.assert_close(gradient, torch.tensor(model[-1].coef_[:1]).expand_as(gradient))
        return
    with pytest.raises(NoGradientError, match=r"step 'levels' \(Levels\).*gradient='identity'"):
        scores.sum().backward()


def test_attacks(data, model):
    X, y = data[0][:60], data[1][:60]
    clean = model.score(X, y)
    settings = {"n_iter": 10, "loss": "margin", "random_state": 0}
    identity = PGD(0.15, gradient="identity", **settings).perturb(model, X, y)
    assert model.score(identity, y) < clean - 0.3
    np.testing.assert_array_equal(PGD(0.15, gradient="worst", **settings).perturb(model, X, y), identity)
    assert model.score(SemiWhiteBox(0.15).perturb(model, X, y), y) < clean
    fab = FAB(0.15, n_iter=5, gradient="worst", random_state=0).perturb(model, X, y)
    assert model.score(fab, y) < clean
    for mode in ("exact", "projection", "smooth"):
        with pytest.raises(NoGradientError, match="gradient='identity'"):
            PGD(0.15, gradient=mode, **settings).perturb(model, X, y)


def test_worst_keeps_the_modes_of_other_front_ends(data):
    """Each mode of a wavelet front end is tried through the array front end, so that worst is no worse than any."""
    X, y = data
    wavelets = WaveletSparsifier("haar", n_nonzero_coefs=0.2, image_shape=(8, 8))
    model = make_pipeline(Levels(), wavelets, LogisticRegression(max_iter=200)).fit(X, y)
    settings = {"n_iter": 5, "loss": "margin", "random_state": 0}
    alone = PGD(0.1, gradient="identity", **settings).perturb(model, X[:100], y[:100])
    worst = PGD(0.1, gradient="worst", **settings).perturb(model, X[:100], y[:100])
    broken_alone, broken = (model.predict(attacked) != y[:100] for attacked in (alone, worst))
    assert broken[broken_alone].all() and broken.sum() > broken_alone.sum()


def test_masking_checks_of_gradients_do_not_run(data, model):
    attacks = [PGD(n_iter=3, gradient="worst", random_state=0)]
    verdicts = masking_checks(model, data[0][:20], data[1][:20], eps=0.1, attacks=attacks, random_state=0)
    skipped = [verdict for verdict in verdicts if "gradient='identity'" in verdict.evidence]
    assert skipped and {verdict.status for verdict in skipped} == {"not run"}


def test_copies(data, model):
    X = torch.tensor(data[0][:5])
    module = as_module(model, gradient="identity")
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        given = X.clone().requires_grad_(True)
        scores = twin(given)
        scores.sum().backward()
        assert torch.equal(scores, module(X)) and given.grad is not None


def test_shapes_that_change(data):
    module = as_module(Halved().fit(data[0]), gradient="identity")
    with pytest.raises(ValueError, match=r"transform of Halved returned shape \(5, 32\) for X of shape \(5, 64\)"):
        module(torch.tensor(data[0][:5]))


def test_named_columns_reach_transform(data):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data[0], columns=[f"pixel{i}" for i in range(64)])

    @register_array_front_end
    class Named(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
            return self

        def transform(self, X):
            return X.assign(pixel0=0.0)

    cleaned = as_module(Named().fit(frame))(torch.tensor(data[0][:5]) + 1)
    assert not cleaned[:, 0].any() and torch.equal(cleaned[:, 1:], torch.tensor(data[0][:5, 1:]) + 1)


def test_no_transformer():
    for wrong in (LogisticRegression, Levels()):
        with pytest.raises(TypeError, match="takes a class with the method transform"):
            register_array_front_end(wrong)


def test_a_trace_calls_transform_anew(data):
    X = torch.tensor(data[0][:6])
    module = as_module(Levels().fit(data[0]), gradient="identity")
    trace = torch.jit.trace(module, X[:3], check_trace=False)
    given = X.clone().requires_grad_(True)
    cleaned = trace(given)
    cleaned.sum().backward()
    assert torch.equal(cleaned, module(X)) and torch.equal(given.grad, torch.ones_like(given))


class Shrink(FrontEndModule):
    """A coder in three methods: twice the values, of which those above a threshold are kept."""

    def observe(self, values):
        return 2 * values

    def exact(self, seen):
        return seen * (seen > 1)

    def relaxed(self, seen, codes):
        return seen * torch.sigmoid(seen - 1)


@pytest.mark.parametrize("rebuilds", [True, False])
def test_base_picks_the_mode(rebuilds):
    X = torch.tensor([[0.2, 0.7, 3.0]], requires_grad=True)
    slopes = {"exact": [0, 2, 0], "projection": [0, 2, 2], "identity": [1, 1, 1], "skip": [1, 1, 1]}
    if not rebuilds:
        slopes |= {"exact": [0, 2, 2], "identity": [2, 2, 2], "skip": [2, 2, 2]}
    values = {True: [0, 1.4, 2], False: [0, 1.4, 6]}[rebuilds]
    for mode in ("exact", "projection", "identity", "smooth", "skip"):
        result = Shrink(mode, rebuilds=rebuilds, clip=(0, 2))(X)
        (slope,) = torch.autograd.grad(result.sum(), X)
        expected = values if mode != "skip" else (X if rebuilds else 2 * X).tolist()[0]
        np.testing.assert_allclose(result.tolist()[0], expected, rtol=1e-6)
        if mode == "smooth":
            seen = (2 * X.detach()).requires_grad_(True)
            (expected,) = torch.autograd.grad(2 * (seen * torch.sigmoid(seen - 1)).sum(), seen)
            torch.testing.assert_close(slope, expected)
        else:
            assert slope.tolist() == [slopes[mode]]

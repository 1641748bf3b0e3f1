"""The door itself: registry, settings, errors, Pipelines."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from skrobust.bridge import (
    ClassifierModule,
    NoGradientError,
    TransformerModule,
    as_module,
    register_module,
    with_backward,
)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


class Halver(TransformerMixin, BaseEstimator):
    """A third-party front end that is left out by gradient="skip"."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X / 2


@register_module(Halver)
def convert_halver(estimator, conversion):
    class HalverModule(torch.nn.Module):
        def forward(self, X):
            return X if conversion.gradient == "skip" else X / 2

    return HalverModule()


def test_importing_the_bridge_loads_no_torch():
    code = "import sys, skrobust, skrobust.bridge; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_registered_third_party_step_and_gradient_setting(digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), Halver(), "passthrough", LinearSVC()).fit(X, y)
    X_t = torch.tensor(X)
    np.testing.assert_allclose(as_module(model).decision_function(X_t), model.decision_function(X), atol=1e-10)
    skipped = as_module(model, gradient="skip").decision_function(X_t)
    np.testing.assert_allclose(skipped, model[-1].decision_function(model[0].transform(X)), atol=1e-10)


def test_subclass_that_redefines_the_method_is_refused(digits):
    class Shifted(StandardScaler):
        def transform(self, X, copy=None):
            return super().transform(X) + 1

    class Renamed(StandardScaler):
        pass

    X, _ = digits
    with pytest.raises(NoGradientError, match="redefines transform of StandardScaler"):
        as_module(Shifted().fit(X))
    assert isinstance(as_module(Renamed().fit(X)), TransformerModule)


def test_step_without_gradient_is_named(digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=2)).fit(X, y)
    with pytest.raises(NoGradientError) as error:
        as_module(model)
    for params in ("'randomforestclassifier' (RandomForestClassifier)", "register_module", "Square", "transfer"):
        assert params in str(error.value)
    assert isinstance(error.value, TypeError)


def test_unfitted_models_are_refused(digits):
    with pytest.raises(NotFittedError):
        as_module(make_pipeline(StandardScaler(), LinearSVC()))
    search = GridSearchCV(LinearSVC(), {"C": [1]}, refit=False, cv=2).fit(*digits)
    with pytest.raises(ValueError, match="refit=True"):
        as_module(search)


@pytest.mark.parametrize(
    ("settings", "message"), [({"gradient": "bpda"}, "gradient must be one of"), ({"dtype": "int8"}, "dtype must be")]
)
def test_wrong_settings_are_named(digits, settings, message):
    with pytest.raises(ValueError, match=message):
        as_module(StandardScaler().fit(digits[0]), **settings)


def test_wrong_input_is_named(digits):
    X, y = digits
    module = as_module(make_pipeline(StandardScaler(), LinearSVC()).fit(X, y))
    with pytest.raises(TypeError, match="torch.as_tensor"):
        module(X)
    with pytest.raises(ValueError, match="X has 63 features, but Pipeline is expecting 64"):
        module(torch.tensor(X[:, 1:]))
    with pytest.raises(ValueError, match=r"Reshape one sample with X.reshape\(1, -1\)"):
        module.predict(torch.tensor(X[0]))
    with pytest.raises(ValueError, match="labels unknown to Pipeline: 11"):
        module.label_indices([1, 11])


def test_module_holds_buffers_in_eval_mode(digits):
    X, y = digits
    module = as_module(make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, y))
    assert isinstance(module, ClassifierModule)
    assert not module.training
    assert not list(module.parameters())
    assert {b.dtype for b in module.buffers()} == {torch.float64}
    assert as_module(module) is module


def test_dtype_follows_the_module(digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    single = as_module(model, dtype="float32")
    expected = model.decision_function(X)
    for X_t in (torch.tensor(X), torch.tensor(X, dtype=torch.float32), torch.tensor(X * 16).to(torch.int64)):
        scale = 16 if not X_t.is_floating_point() else 1
        assert single(X_t / scale).dtype == torch.float32
        np.testing.assert_allclose(single(X_t / scale), expected, atol=1e-4)  # float32, scores of about 10
    double = single.double()
    assert double(torch.tensor(X, dtype=torch.float32)).dtype == torch.float64
    X_t = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    assert torch.autograd.grad(as_module(model)(X_t).sum(), X_t)[0].dtype == torch.float32


def test_label_indices(digits):
    X, y = digits
    module = as_module(LinearSVC().fit(X, np.array(list("jihgfedcba"))[y]))
    np.testing.assert_array_equal(module.label_indices(np.array(["a", "j", "c"])), [0, 9, 2])


def test_network_is_used_as_it_is(digits):
    X, _ = digits
    network = torch.nn.Sequential(torch.nn.Linear(64, 5), torch.nn.Dropout(), torch.nn.BatchNorm1d(5))
    network[2].eval()
    module = as_module(network)
    X_t = torch.tensor(X, requires_grad=True)
    scores = module(X_t)
    assert network[1].training and not network[2].training
    np.testing.assert_array_equal(module.classes_, np.arange(5))
    with torch.no_grad():
        expected = network.eval()(torch.tensor(X, dtype=torch.float32))
    np.testing.assert_array_equal(scores.detach(), expected)
    np.testing.assert_array_equal(module.predict(X_t), expected.argmax(1))
    assert torch.autograd.grad(scores.sum(), X_t)[0].dtype == torch.float64
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(ValueError, match="at least two classes"):
        as_module(torch.nn.Linear(64, 1))(X_t)


def test_with_backward_is_exact_forward():
    surrogate = torch.tensor([1e-20, 3.0], dtype=torch.float64, requires_grad=True)
    value = torch.tensor([0.1, 1e20], dtype=torch.float64)
    result = with_backward(value, surrogate**2)
    assert torch.equal(result, value)
    np.testing.assert_allclose(torch.autograd.grad(result.sum(), surrogate)[0], [2e-20, 6.0])
    with pytest.raises(ValueError, match="shape"):
        with_backward(value, surrogate[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device(digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), SVC()).fit(X, y)
    module = as_module(model, device="cuda")
    assert module(torch.tensor(X)).device.type == "cuda"
    np.testing.assert_allclose(module.decision_function(torch.tensor(X)).cpu(), model.decision_function(X), atol=1e-9)
    np.testing.assert_array_equal(module.predict(torch.tensor(X)), model.predict(X))

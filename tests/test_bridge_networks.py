"""skorch networks behind the bridge."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skrobust.bridge import as_module

skorch = pytest.importorskip("skorch")


class Net(nn.Module):
    """A small network with dropout and batch norm, whose output is chosen."""

    def __init__(self, n_outputs=10, output="logits"):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, n_outputs)
        )
        self.output = output

    def forward(self, X):
        scores = self.layers(X)
        if self.output == "proba":
            return torch.softmax(scores, dim=1)
        if self.output == "pair":
            return scores, X
        if self.output == "sigmoid":
            return torch.sigmoid(scores)[:, 0]
        return scores


def digits(n_classes=10):
    X, y = load_digits(return_X_y=True)
    keep = np.flatnonzero(y < n_classes)[:300]
    return (X[keep] / 16).astype(np.float32), y[keep]


def train(kind, settings, n_classes=10):
    torch.manual_seed(0)
    X, y = digits(n_classes)
    net = kind(Net, max_epochs=3, lr=0.1, train_split=None, verbose=0, **settings)
    return net.fit(X, y.astype(np.float32) if kind is skorch.NeuralNetBinaryClassifier else y), X


@pytest.mark.parametrize(
    "settings",
    [
        {"criterion": nn.CrossEntropyLoss},
        {"criterion": nn.CrossEntropyLoss, "module__output": "pair"},
        {"module__output": "proba"},
    ],
)
def test_classifier_is_reproduced(settings):
    class FirstOutput(skorch.NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return super().get_loss(y_pred[0] if isinstance(y_pred, tuple) else y_pred, y_true, *args, **kwargs)

    net, X = train(FirstOutput, settings)
    net.module_.train()
    net.module_.zero_grad()
    module = as_module(net)
    X_t = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    proba = net.predict_proba(X)
    np.testing.assert_array_equal(module.classes_, np.arange(10))
    np.testing.assert_array_equal(module.predict(X_t), net.predict(X))
    np.testing.assert_allclose(module.predict_proba(X_t).detach(), proba, atol=1e-6)
    np.testing.assert_allclose(torch.softmax(module(X_t), 1).detach(), proba, atol=1e-6)
    gradient = torch.autograd.grad(nn.functional.cross_entropy(module(X_t), torch.zeros(len(X)).long()), X_t)[0]
    assert (gradient.abs().sum(1) > 0).all()
    assert all(p.requires_grad and p.grad is None for p in net.module_.parameters())


@pytest.mark.parametrize("threshold", [0.5, 0.9])
@pytest.mark.parametrize(
    "settings",
    [{"module__n_outputs": 1}, {"module__output": "sigmoid", "criterion": nn.BCELoss}],
    ids=["logit", "proba"],
)
def test_binary_classifier_is_reproduced(settings, threshold):
    net, X = train(skorch.NeuralNetBinaryClassifier, {**settings, "threshold": threshold}, n_classes=2)
    module = as_module(net)
    X_t = torch.tensor(X)
    np.testing.assert_array_equal(module.predict(X_t), net.predict(X))
    np.testing.assert_array_equal(module(X_t).argmax(1), net.predict(X))
    np.testing.assert_allclose(module.predict_proba(X_t).detach(), net.predict_proba(X), atol=1e-6)


def test_training_flags_survive():
    net, X = train(skorch.NeuralNetClassifier, {"criterion": nn.CrossEntropyLoss})
    net.module_.train()
    net.module_.layers[1].eval()
    module = as_module(net)
    first = module(torch.tensor(X))
    assert net.module_.training and not net.module_.layers[1].training
    torch.testing.assert_close(first, module(torch.tensor(X)), rtol=0, atol=0)  # no dropout


def test_network_in_a_pipeline():
    class Single(StandardScaler):
        def fit(self, X, y=None):
            return super().fit(X.astype(np.float32))

    torch.manual_seed(0)
    X, y = digits()
    net = skorch.NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, max_epochs=2, train_split=None, verbose=0)
    model = make_pipeline(Single(), net).fit(X, y)
    module = as_module(model)
    np.testing.assert_array_equal(module.predict(torch.tensor(X)), model.predict(X))
    np.testing.assert_allclose(module.predict_proba(torch.tensor(X)).detach(), model.predict_proba(X), atol=1e-5)


def test_skorch_is_loaded_only_with_its_estimators():
    code = (
        "import sys, numpy as np; from sklearn.svm import SVC; from skrobust import as_module;"
        "as_module(SVC().fit(np.eye(4), [0, 1, 0, 1])); sys.exit('skorch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

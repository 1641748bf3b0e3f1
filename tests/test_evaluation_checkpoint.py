"""Checkpoints recognise equal models by parameters and code, in every process."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline

from skrobust import WaveletSparsifier, as_module
from skrobust.attacks import FGSM
from skrobust.evaluation import robustness_report
from skrobust.signals.fingerprint import fingerprint

LOADED = """
import pickle, sys, torch, skorch
from skrobust.signals.fingerprint import fingerprint
with open(sys.argv[1], "rb") as file:
    print(fingerprint(pickle.load(file)))
"""


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:300] / 16, y[:300]


MODELS = {
    "logistic": lambda: LogisticRegression(max_iter=50),
    "forest": lambda: RandomForestClassifier(3, random_state=0),
    "MLP": lambda: MLPClassifier((5,), max_iter=3, random_state=0),
    "front end": lambda: make_pipeline(WaveletSparsifier("haar", image_shape=(8, 8)), LogisticRegression(max_iter=50)),
    "search": lambda: GridSearchCV(LogisticRegression(max_iter=20), {"C": [0.1, 1]}, cv=2),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")
def test_equal_models_are_one(name):
    X, y = digits()
    model = MODELS[name]().fit(X, y)
    known = fingerprint(model)
    model.predict(X)  # what was only looked at is the same
    if name == "front end":
        model[0].transform(torch.tensor(X))
    assert fingerprint(model) == known
    assert fingerprint(pickle.loads(pickle.dumps(model))) == known
    assert fingerprint(MODELS[name]().fit(X, y)) == known
    assert fingerprint(MODELS[name]().fit(X[:200], y[:200])) != known


def test_networks_count_by_parameters_and_settings():
    def network(stride=1):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2, stride=stride), torch.nn.BatchNorm2d(2))

    known = fingerprint(network())
    assert fingerprint(network().eval()) == known
    assert fingerprint(network(stride=2)) != known
    other = network()
    other[1].running_mean += 1e-6
    assert fingerprint(other) != known
    module = as_module(WaveletSparsifier("haar", image_shape=(8, 8)).fit(digits()[0]))
    assert fingerprint(module) == fingerprint(pickle.loads(pickle.dumps(module)))


def test_functions_count_by_their_code():
    assert fingerprint(lambda x: x + 1) != fingerprint(lambda x: x + 2)
    assert fingerprint(np.array(["a", None], dtype=object)) == fingerprint(np.array(["a", None], dtype=object))
    assert fingerprint({1: "a", 2: "b"}) == fingerprint({2: "b", 1: "a"})
    assert fingerprint([1, 2]) != fingerprint([12])
    assert fingerprint(np.zeros(4)) != fingerprint(np.zeros((2, 2)))
    assert fingerprint(np.random.RandomState(0)) == fingerprint(np.random.RandomState(0))


def trained(seed):
    skorch = pytest.importorskip("skorch")
    X, y = digits()
    torch.manual_seed(seed)
    net = skorch.NeuralNetClassifier(
        torch.nn.Sequential(torch.nn.Linear(64, 10)),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )
    return net.fit(X.astype(np.float32), y)


def test_skorch_networks_are_one_in_any_process(tmp_path):
    net = trained(0)
    known = fingerprint(net)
    assert fingerprint(trained(0)) == known
    assert fingerprint(trained(1)) != known
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(net))
    params = [sys.executable, "-c", LOADED, str(tmp_path / "net.pkl")]
    assert subprocess.run(params, capture_output=True, text=True, check=True).stdout.split()[-1] == known


def test_report_goes_on_with_an_equal_skorch_network(tmp_path):
    X, y = digits()
    X = X.astype(np.float32)
    params = {"eps": 0.1, "attacks": FGSM(), "checkpoint": tmp_path / "kept.npz", "checks": False, "baseline": None}
    first = robustness_report(trained(0), X[:40], y[:40], **params)
    again = robustness_report(trained(0), X[:40], y[:40], **params)
    np.testing.assert_array_equal(first.worst_right("model"), again.worst_right("model"))
    with pytest.raises(ValueError, match="other models"):
        robustness_report(trained(1), X[:40], y[:40], **params)

"""Models and data for the tests of the attacks."""

import functools

import numpy as np
import torch
from scipy.fft import dct
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import attacks
from skrobust.bridge import register_module, with_backward

# On models this small a second thread only waits for the first, and on a busy machine spins.
torch.set_num_threads(1)


# Few steps: the properties hold for any number.
ATTACKS = {
    "FGSM": attacks.FGSM(),
    "PGD": attacks.PGD(n_iter=4, n_restarts=2, random_state=0),
    "PGD momentum": attacks.PGD(n_iter=4, momentum=0.9, loss="dlr", random_state=0),
    "PGD worst": attacks.PGD(n_iter=3, gradient="worst", random_state=0),
    "PGD skip": attacks.PGD(n_iter=3, gradient="skip", random_state=0),
    "IterativeFGSM": attacks.IterativeFGSM(n_iter=4),
    "MomentumIterativeFGSM": attacks.MomentumIterativeFGSM(n_iter=4),
    "LocallyLinear": attacks.LocallyLinear(),
    "IterativeLocallyLinear": attacks.IterativeLocallyLinear(n_iter=3),
    "IterativeLocallyLinear last": attacks.IterativeLocallyLinear(n_iter=3, keep="last"),
    "SemiWhiteBox": attacks.SemiWhiteBox(),
    "WhiteBox": attacks.WhiteBox(),
    "WhiteBox paper": attacks.WhiteBox(iterated_projections="paper", n_iter=4),
    "WhiteBox code": attacks.WhiteBox(iterated_projections="code", n_iter=4, keep="last"),
    "RandomNoise": attacks.RandomNoise(n_restarts=3, random_state=0),
    "Square": attacks.Square(n_iter=20, n_restarts=2, random_state=0),
    "APGD": attacks.APGD(n_iter=6, n_restarts=2, random_state=0),
    "APGD targeted": attacks.APGD(n_iter=5, loss="targeted_dlr", n_targets=2, random_state=0),
    "FAB": attacks.FAB(n_iter=5, n_targets=2, n_restarts=2, random_state=0),
    "FMN": attacks.FMN(n_iter=5),
    "DDN": attacks.DDN(n_iter=5),
    "PDPGD": attacks.PDPGD(n_iter=5),
    "SigmaZero": attacks.SigmaZero(n_iter=5),
    "JSMA": attacks.JSMA(theta=0.4, gamma=0.1, n_targets=2),
    "JSMA one": attacks.JSMA(theta=-0.4, gamma=0.05, n_targets=2, pairs=False),
    "CarliniWagner": attacks.CarliniWagner(n_iter=30, learning_rate=0.1, binary_search_steps=2, initial_const=1.0),
    "CornerSearch": attacks.CornerSearch(n_iter=4, n_targets=2, gradient="worst"),
    "HopSkipJump": attacks.HopSkipJump(n_iter=2, n_eval_init=10, random_state=0),
    "Transfer": attacks.Transfer(attacks.PGD(n_iter=4, random_state=0), None),
    "Cascade": attacks.Cascade(n_iter=3, n_queries=5, n_targets=2, random_state=0),
}


def make_attack(name, model=None, **params):
    """A copy of an attack with those of `params` that it has; Transfer attacks from the model itself."""
    attack = clone(ATTACKS[name])
    if name == "Transfer":
        attack = attacks.Transfer(attack.attack, model)
    known = attack.get_params()
    inner = {f"attack__{word}": value for word, value in params.items() if f"attack__{word}" in known}
    return attack.set_params(**{word: value for word, value in params.items() if word in known}, **inner)


@functools.cache
def digits():
    """Training and test halves of the digits on [0, 1]."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    X.flags.writeable = False
    return X[:1200], y[:1200], X[1200:1400], y[1200:1400]


class TopK(TransformerMixin, BaseEstimator):
    """A small front end with all backward passes: the K largest DCT coefficients, then clipped to [0, 1]."""

    def __init__(self, k=5):
        self.k = k

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        self.basis_ = dct(np.eye(X.shape[1]), norm="ortho", axis=0)
        return self

    def project(self, W, X):
        """Project the rows of `W` on the basis vectors selected at the rows of `X`."""
        codes = X @ self.basis_.T
        selected = np.zeros_like(codes)
        np.put_along_axis(selected, np.argsort(-np.abs(codes), axis=1, kind="stable")[:, : self.k], 1, axis=1)
        return ((W @ self.basis_.T) * selected) @ self.basis_

    def transform(self, X):
        X = np.asarray(X)
        return np.clip(self.project(X, X), 0, 1)


@register_module(TopK)
def _convert(estimator, conversion):
    return TopKModule(conversion.tensor(estimator.basis_), estimator.k, conversion.gradient)


class TopKModule(torch.nn.Module):
    def __init__(self, basis, k, gradient):
        super().__init__()
        self.register_buffer("basis", basis)
        self.k, self.gradient = k, gradient

    def forward(self, X):
        if self.gradient == "skip":
            return X
        codes = X @ self.basis.T
        selected = torch.zeros_like(codes).scatter_(1, codes.abs().topk(self.k, dim=1).indices, 1.0)
        projected = (codes * selected) @ self.basis
        if self.gradient == "smooth":
            return (
                codes * torch.sigmoid(20 * (codes.abs() - codes.abs().topk(self.k, dim=1).values[:, -1:]))
            ) @ self.basis
        value = projected.clamp(0, 1)
        surrogate = {"exact": value, "identity": X, "projection": projected}[self.gradient]
        return with_backward(value, surrogate)


@functools.cache
def binary_svm():
    """LinearSVC for the digits 3 and 7, labels as strings."""
    X, y, X_test, y_test = digits()
    train, test = np.isin(y, [3, 7]), np.isin(y_test, [3, 7])
    names = np.array(["", "", "", "three", "", "", "", "seven"])
    model = LinearSVC(random_state=0).fit(X[train], names[y[train]])
    return model, X_test[test], names[y_test[test]]


@functools.cache
def logistic():
    """Ten-class logistic regression with integer labels."""
    X, y, X_test, y_test = digits()
    return LogisticRegression(C=10, max_iter=2000).fit(X, y), X_test, y_test


@functools.cache
def raw_logistic():
    """Logistic regression on digits as bytes from 0 to 16, labels as Python strings."""
    X, y, X_test, y_test = digits()
    names = np.array([f"digit {k}" for k in range(10)], dtype=object)
    X, X_test = (np.rint(images * 16).astype(np.uint8) for images in (X, X_test))
    return LogisticRegression(max_iter=3000).fit(X, names[y]), X_test, names[y_test]


@functools.cache
def defended(kind="svm"):
    """A top-K front end before a linear classifier: binary ("svm") or of ten classes ("logistic")."""
    X, y, X_test, y_test = digits()
    if kind == "svm":
        train, test = np.isin(y, [3, 7]), np.isin(y_test, [3, 7])
        return make_pipeline(TopK(6), LinearSVC(random_state=0)).fit(X[train], y[train]), X_test[test], y_test[test]
    return make_pipeline(TopK(12), LogisticRegression(C=10, max_iter=2000)).fit(X, y), X_test, y_test


@functools.cache
def network():
    """A small convolutional network for digits of shape (8, 8), trained for a second."""
    torch.manual_seed(0)
    X, y, X_test, y_test = digits()
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8)),
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 10),
    )
    images, labels = torch.tensor(X, dtype=torch.float32).reshape(-1, 8, 8), torch.tensor(y)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(images), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return net.eval(), X_test.astype(np.float32).reshape(-1, 8, 8), y_test


def margins(model, X, y):
    """``max_{j != y} s_j - s_y`` by the model's own decision function."""
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            scores, classes = model(torch.as_tensor(X, dtype=torch.float32)).double().numpy(), np.arange(10)
    else:
        scores, classes = model.decision_function(X), model.classes_
    if scores.ndim == 1:
        scores = np.stack([-scores / 2, scores / 2], axis=1)
    own = np.asarray(y)[:, None] == classes
    return np.where(own, -np.inf, scores).max(axis=1) - np.where(own, scores, -np.inf).max(axis=1)


def predict(model, X):
    """Labels, whether `model` is an estimator or a network."""
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.as_tensor(X, dtype=torch.float32)).argmax(1).numpy()
    return model.predict(X)


def norm_of(delta, norm):
    """Norms of the samples of an array, in float64."""
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    return np.linalg.norm(np.asarray(delta, dtype=np.float64).reshape(len(delta), -1), ord=order, axis=1)

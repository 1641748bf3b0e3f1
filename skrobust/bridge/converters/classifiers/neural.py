"""Multi-layer perceptrons."""

import torch
from sklearn.neural_network import MLPClassifier

from skrobust.bridge.modules import ClassifierStep
from skrobust.bridge.registry import register_module

from .linear import multilabel
from .links import SOFTMAX

_ACTIVATIONS = {"identity": lambda X: X, "logistic": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}


class MLPStep(ClassifierStep):
    """A perceptron; its decision function is the input of the logistic or softmax function of the output."""

    def __init__(self, coefs, intercepts, activation, classes):
        super().__init__(classes)
        self.activation = activation
        self.n_layers = len(coefs)
        for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
            self.register_buffer(f"coef_{i}", coef)
            self.register_buffer(f"intercept_{i}", intercept)

    def decision_function(self, X):
        for i in range(self.n_layers):
            if i > 0:
                X = _ACTIVATIONS[self.activation](X)
            X = X @ getattr(self, f"coef_{i}") + getattr(self, f"intercept_{i}")
        return X[:, 0] if X.shape[1] == 1 else X

    def predict_proba(self, X):
        return SOFTMAX.proba(self.decision_function(X))

    def predict_log_proba(self, X):
        return SOFTMAX.log_proba(self.decision_function(X))


@register_module(MLPClassifier)
def convert_mlp(estimator, conversion):
    if multilabel(estimator):
        raise conversion.multilabel(estimator)
    return MLPStep(
        [conversion.tensor(coef) for coef in estimator.coefs_],
        [conversion.tensor(intercept) for intercept in estimator.intercepts_],
        estimator.activation,
        conversion.classes(estimator),
    )

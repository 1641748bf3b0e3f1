"""Linear classifiers."""

import torch
from sklearn import linear_model
from sklearn.svm import LinearSVC
from sklearn.utils.metaestimators import available_if

from ._modules import ClassifierStep, binary_proba
from ._registry import register_module


class LinearStep(ClassifierStep):
    """Scores X W' + b.

    Parameters
    ----------
    coef : Tensor of shape (n_scores, n_features)
        One row for two classes.
    intercept : Tensor of shape (n_scores,)
    classes : ndarray of shape (n_classes,)
    proba : callable or None
        From the decision function to probabilities, where the estimator has them.
    """

    def __init__(self, coef, intercept, classes, proba=None):
        super().__init__(classes)
        self.register_buffer("coef", coef)
        self.register_buffer("intercept", intercept)
        self._proba = proba

    def decision_function(self, X):
        decision = X @ self.coef.T + self.intercept
        return decision[:, 0] if decision.shape[1] == 1 else decision

    @available_if(lambda self: self._proba is not None)
    def predict_proba(self, X):
        return self._proba(self.decision_function(X))

    @available_if(lambda self: self._proba is not None)
    def predict_log_proba(self, X):
        if self._proba is softmax_proba:
            return torch.log_softmax(self(X), dim=1)
        return super().predict_log_proba(X)


def softmax_proba(decision):
    """Multinomial probabilities; the logistic one for two classes."""
    if decision.ndim == 1:
        return binary_proba(torch.sigmoid(decision))
    return torch.softmax(decision, dim=1)


def one_vs_rest_proba(decision):
    """Logistic probability of each class against the rest, normalised to sum 1."""
    if decision.ndim == 1:
        return binary_proba(torch.sigmoid(decision))
    return normalized_rows(torch.sigmoid(decision))


def modified_huber_proba(decision):
    """Probabilities of the modified Huber loss: the decision clipped to [-1, 1], brought to [0, 1], normalised."""
    proba = (decision.clamp(-1, 1) + 1) / 2
    return binary_proba(proba) if decision.ndim == 1 else normalized_rows(proba)


def normalized_rows(proba):
    """Rows divided by their sums; rows of zeros become uniform."""
    total = proba.sum(dim=1, keepdim=True)
    return torch.where(total == 0, 1 / proba.shape[1], proba / torch.where(total == 0, 1, total))


def linear_step(estimator, conversion, proba=None):
    """The module of an estimator with ``coef_``, ``intercept_`` and ``classes_``."""
    classes = conversion.classes(estimator)
    coef = conversion.tensor(estimator.coef_)
    if coef.ndim == 1:
        coef = coef[None]
    if coef.shape[0] != (1 if len(classes) == 2 else len(classes)):
        raise ValueError(
            f"{conversion.describe(estimator)} has coef_ of shape {tuple(coef.shape)} for {len(classes)} classes: "
            "it was fitted on multilabel targets, which as_module does not take. Fit one classifier a label."
        )
    intercept = conversion.tensor(estimator.intercept_).reshape(-1).expand(coef.shape[0]).clone()
    return LinearStep(coef, intercept, classes, proba)


_PLAIN = ["RidgeClassifier", "RidgeClassifierCV", "Perceptron", "PassiveAggressiveClassifier"]


# PassiveAggressiveClassifier is on its way out of scikit-learn.
@register_module(LinearSVC, *(getattr(linear_model, name) for name in _PLAIN if hasattr(linear_model, name)))
def convert_linear_classifier(estimator, conversion):
    return linear_step(estimator, conversion)


@register_module(linear_model.LogisticRegression)
def convert_logistic_regression(estimator, conversion):
    # Before scikit-learn 1.8 `multi_class` could ask for one-vs-rest, and liblinear always did.
    one_vs_rest = getattr(estimator, "multi_class", None) == "ovr" or estimator.solver == "liblinear"
    return linear_step(estimator, conversion, one_vs_rest_proba if one_vs_rest else softmax_proba)


@register_module(linear_model.SGDClassifier)
def convert_sgd_classifier(estimator, conversion):
    proba = {"log_loss": one_vs_rest_proba, "modified_huber": modified_huber_proba}.get(estimator.loss)
    return linear_step(estimator, conversion, proba)

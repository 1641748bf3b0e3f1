"""Linear classifiers."""

from sklearn import linear_model
from sklearn.svm import LinearSVC
from sklearn.utils.metaestimators import available_if

from skrobust.bridge.modules import ClassifierStep
from skrobust.bridge.registry import register_module

from .links import MODIFIED_HUBER, MULTINOMIAL, ONE_VS_REST, SOFTMAX


class LinearStep(ClassifierStep):
    """Scores X W' + b, one row of `coef` for two classes; `link`, if given, maps them to probabilities."""

    def __init__(self, coef, intercept, classes, link=None):
        super().__init__(classes)
        self.register_buffer("coef", coef)
        self.register_buffer("intercept", intercept)
        self._link = link

    def decision_function(self, X):
        decision = X @ self.coef.T + self.intercept
        return decision[:, 0] if decision.shape[1] == 1 else decision

    @available_if(lambda self: self._link is not None)
    def predict_proba(self, X):
        return self._link.proba(self.decision_function(X))

    @available_if(lambda self: self._link is not None)
    def predict_log_proba(self, X):
        return self._link.log_proba(self.decision_function(X))


def multilabel(estimator):
    """Whether a ridge classifier or perceptron was fitted on several labels per sample."""
    binarizer = getattr(estimator, "_label_binarizer", None)
    return binarizer is not None and binarizer.y_type_.startswith("multilabel")


def linear_step(estimator, conversion, link=None):
    """The module of an estimator with ``coef_``, ``intercept_`` and ``classes_``."""
    if multilabel(estimator):
        raise conversion.multilabel(estimator)
    classes = conversion.classes(estimator)
    coef = conversion.tensor(estimator.coef_)
    if coef.ndim == 1:
        coef = coef[None]
    intercept = conversion.tensor(estimator.intercept_).reshape(-1).expand(coef.shape[0]).clone()
    return LinearStep(coef, intercept, classes, link)


_PLAIN = ["RidgeClassifier", "RidgeClassifierCV", "Perceptron", "PassiveAggressiveClassifier"]


# scikit-learn has deprecated PassiveAggressiveClassifier.
@register_module(LinearSVC, *(getattr(linear_model, name) for name in _PLAIN if hasattr(linear_model, name)))
def convert_linear_classifier(estimator, conversion):
    return linear_step(estimator, conversion)


@register_module(linear_model.LogisticRegression)
def convert_logistic_regression(estimator, conversion):
    # Before scikit-learn 1.8 `multi_class` chose the link; the solver liblinear always uses one-vs-rest.
    multi_class = getattr(estimator, "multi_class", None)
    link = SOFTMAX
    if multi_class == "multinomial":
        link = MULTINOMIAL
    elif multi_class == "ovr" or estimator.solver == "liblinear":
        link = ONE_VS_REST
    return linear_step(estimator, conversion, link)


@register_module(linear_model.SGDClassifier)
def convert_sgd_classifier(estimator, conversion):
    link = {"log_loss": ONE_VS_REST, "modified_huber": MODIFIED_HUBER}.get(estimator.loss)
    return linear_step(estimator, conversion, link)

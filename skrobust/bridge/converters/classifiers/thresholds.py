"""Binary classifiers with a decision threshold of their own."""

import math

import torch
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.utils.metaestimators import available_if

from skrobust.bridge.modules import ClassifierStep, two_columns
from skrobust.bridge.registry import register_module


class ThresholdStep(ClassifierStep):
    """A binary classifier whose class scores cross where the output of `method` is `threshold`; `positive` is the
    position of the class that is predicted at and above it.
    """

    def __init__(self, step, method, threshold, positive):
        super().__init__(step.classes_)
        self.step = step
        self.method = method
        self.threshold = threshold
        self.positive = positive

    def forward(self, X):
        if self.method == "predict_proba":
            # In log-odds, which do not saturate.
            logs = self.step.predict_log_proba(X)
            margin = logs[:, self.positive] - logs[:, 1 - self.positive] - _log_odds(self.threshold)
        else:
            margin = self._response(X) - self.threshold
        return two_columns(margin if self.positive == 1 else -margin)

    def _response(self, X):
        if self.method == "predict_proba":
            return self.step.predict_proba(X)[:, self.positive]
        decision = self.step.decision_function(X)
        return decision if self.positive == 1 else -decision

    def decision_function(self, X):
        return self.step.decision_function(X)

    @available_if(lambda self: hasattr(self.step, "predict_proba"))
    def predict_proba(self, X):
        return self.step.predict_proba(X)

    @available_if(lambda self: hasattr(self.step, "predict_proba"))
    def predict_log_proba(self, X):
        return self.step.predict_log_proba(X)

    def predict_indices(self, X):
        chosen = self._response(X) >= self.threshold
        return torch.where(chosen, self.positive, 1 - self.positive).cpu().numpy()


def _log_odds(probability):
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability))


@register_module(FixedThresholdClassifier)
def convert_fixed(estimator, conversion):
    # Without fit, FixedThresholdClassifier uses the fitted classifier that it was given.
    inner = getattr(estimator, "estimator_", estimator.estimator)
    method = _method(estimator, inner)
    threshold = estimator.threshold
    if threshold == "auto":
        threshold = 0.5 if method == "predict_proba" else 0.0
    return _threshold_step(inner, method, threshold, estimator.pos_label, conversion)


@register_module(TunedThresholdClassifierCV)
def convert_tuned(estimator, conversion):
    method = _method(estimator, estimator.estimator_)
    positive = estimator._curve_scorer._get_pos_label()
    return _threshold_step(estimator.estimator_, method, estimator.best_threshold_, positive, conversion)


def _method(estimator, inner):
    if estimator.response_method != "auto":
        return estimator.response_method
    return "predict_proba" if hasattr(inner, "predict_proba") else "decision_function"


def _threshold_step(inner, method, threshold, pos_label, conversion):
    step = conversion(inner, name="estimator", role="classifier")
    positive = 1 if pos_label is None else list(step.classes_).index(pos_label)
    return ThresholdStep(step, method, float(threshold), positive)

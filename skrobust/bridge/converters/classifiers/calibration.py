"""Calibrated classifiers."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.calibration import CalibratedClassifierCV
from torch import nn

from skrobust.bridge.autograd import with_backward
from skrobust.bridge.modules import ClassifierStep, ProbabilityStep, binary_proba
from skrobust.bridge.registry import register_module

from .ensembles import embedded, mean_log_proba
from .links import normalized_rows


class Isotonic(nn.Module):
    """Linear interpolation between `knots`, constant beyond them.

    It is flat nearly everywhere, so the backward pass uses the slope of the line from its first to its last knot.
    """

    def __init__(self, knots, values):
        super().__init__()
        self.register_buffer("knots", knots)
        self.register_buffer("values", values)

    def forward(self, T):
        if len(self.knots) == 1:
            return self.values.expand(T.shape) + 0 * T
        inside = T.clamp(self.knots[0], self.knots[-1])
        upper = torch.searchsorted(self.knots, inside.detach()).clamp(1, len(self.knots) - 1)
        lower = upper - 1
        slope = (self.values[upper] - self.values[lower]) / (self.knots[upper] - self.knots[lower])
        secant = (self.values[-1] - self.values[0]) / (self.knots[-1] - self.knots[0])
        return with_backward(self.values[lower] + slope * (inside - self.knots[lower]), secant * T)


class OneVsRestCalibration(ClassifierStep):
    """A classifier and one calibration curve for each of its classes; `positions` is the column of each curve among
    `classes`.
    """

    def __init__(self, response, curves, positions, classes):
        super().__init__(classes)
        self.response = response
        self.curves = nn.ModuleList(curves)
        self.positions = positions

    def _calibrated(self, X):
        response = self.response(X)
        return torch.stack([curve(response[:, i]) for i, curve in enumerate(self.curves)], dim=1)

    def predict_proba(self, X):
        proba = self._calibrated(X)
        if self.n_classes == 2:
            proba = binary_proba(proba[:, 0])
        else:
            proba = normalized_rows(embedded(proba, self.positions, self.n_classes, 0), 1 / self.n_classes)
        return torch.where((proba > 1) & (proba <= 1 + 1e-5), 1, proba)


class SigmoidCalibration(OneVsRestCalibration):
    """Platt's calibration: curves 1 / (1 + exp(a t + b)), with slopes a and offsets b, whose logarithms do not
    underflow.
    """

    def __init__(self, response, slopes, offsets, positions, classes):
        super().__init__(response, [], positions, classes)
        self.register_buffer("slopes", slopes)
        self.register_buffer("offsets", offsets)

    def _logits(self, X):
        return -(self.response(X)[:, : len(self.slopes)] * self.slopes + self.offsets)

    def _calibrated(self, X):
        return torch.sigmoid(self._logits(X))

    def predict_log_proba(self, X):
        logits = self._logits(X)
        if self.n_classes == 2:
            return F.logsigmoid(torch.stack((-logits[:, 0], logits[:, 0]), dim=1))
        logs = embedded(F.logsigmoid(logits), self.positions, self.n_classes, -torch.inf)
        return torch.log_softmax(logs, dim=1).clamp_min(np.log(torch.finfo(logs.dtype).tiny))


class TemperatureCalibration(ClassifierStep):
    """softmax(beta * logits)."""

    def __init__(self, response, beta, has_decision, classes):
        super().__init__(classes)
        self.response = response
        self.beta = beta
        self.has_decision = has_decision

    def _logits(self, X):
        response = self.response(X)
        if not self.has_decision:
            proba = binary_proba(response[:, 0]) if response.shape[1] == 1 else response
            return self.beta * torch.log(proba + 1e-12)
        if response.shape[1] == 1:
            response = torch.cat((-response, response), dim=1)
        return self.beta * response

    def predict_proba(self, X):
        return torch.softmax(self._logits(X), dim=1)

    def predict_log_proba(self, X):
        return torch.log_softmax(self._logits(X), dim=1)


class Response(nn.Module):
    """Input of the calibration: the decision function, else probabilities; one column for two classes."""

    def __init__(self, step, has_decision):
        super().__init__()
        self.step = step
        self.has_decision = has_decision

    def forward(self, X):
        if self.has_decision:
            decision = self.step.decision_function(X)
            return decision[:, None] if decision.ndim == 1 else decision
        proba = self.step.predict_proba(X)
        return proba[:, 1:] if proba.shape[1] == 2 else proba


class CalibratedStep(ProbabilityStep):
    """The mean of several calibrated classifiers."""

    def __init__(self, members, classes):
        super().__init__(classes)
        self.members = nn.ModuleList(members)

    def predict_proba(self, X):
        return sum(member.predict_proba(X) for member in self.members) / len(self.members)

    def predict_log_proba(self, X):
        return mean_log_proba([member.predict_log_proba(X) for member in self.members])


@register_module(CalibratedClassifierCV)
def convert_calibrated(estimator, conversion):
    classes = conversion.classes(estimator)
    members = [
        _convert_member(member, classes, conversion, name=f"calibrated_classifiers_[{i}]")
        for i, member in enumerate(estimator.calibrated_classifiers_)
    ]
    return CalibratedStep(members, classes)


def _convert_member(member, classes, conversion, name):
    has_decision = hasattr(member.estimator, "decision_function")
    response = Response(conversion(member.estimator, name=name, role="classifier"), has_decision)
    curves = member.calibrators
    if member.method == "temperature":
        return TemperatureCalibration(response, float(curves[0].beta_), has_decision, classes)
    positions = np.searchsorted(classes, member.estimator.classes_).tolist()
    if member.method == "sigmoid":
        slopes, offsets = (conversion.tensor([getattr(curve, name) for curve in curves]) for name in ("a_", "b_"))
        return SigmoidCalibration(response, slopes, offsets, positions, classes)
    modules = [
        Isotonic(conversion.tensor(curve.X_thresholds_), conversion.tensor(curve.y_thresholds_)) for curve in curves
    ]
    return OneVsRestCalibration(response, modules, positions, classes)

"""Many classes from binary classifiers: one-vs-rest, one-vs-one, output codes."""

import numpy as np
import torch
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier, _ConstantPredictor
from sklearn.utils.metaestimators import available_if
from torch import nn

from skrobust.bridge.modules import ClassifierStep, binary_proba
from skrobust.bridge.registry import register_module

from .links import normalized_rows
from .one_vs_one import PairAggregation


class BinaryScore(nn.Module):
    """The number by which scikit-learn compares binary classifiers: decision function, else positive probability."""

    def __init__(self, step, has_decision):
        super().__init__()
        self.step = step
        self.has_decision = has_decision

    def forward(self, X):
        return self.step.decision_function(X) if self.has_decision else self.step.predict_proba(X)[:, 1]


class ConstantStep(ClassifierStep):
    """Takes the place of a binary classifier whose targets are all equal, as in scikit-learn."""

    def __init__(self, value):
        super().__init__(np.arange(2))
        self.register_buffer("value", value)

    def decision_function(self, X):
        return self.value.expand(X.shape[0])

    def predict_proba(self, X):
        return binary_proba(self.decision_function(X))


class OneVsRestStep(ClassifierStep):
    """One binary classifier per class; class scores are their decision functions, or log-probabilities."""

    def __init__(self, steps, has_decision, has_proba, classes):
        super().__init__(classes)
        self.steps = nn.ModuleList(steps)
        self.has_decision = has_decision
        self.has_proba = has_proba

    def forward(self, X):
        if self.has_decision:
            return super().forward(X)
        if len(self.steps) == 1:
            return self.steps[0].predict_log_proba(X)
        return torch.stack([step.predict_log_proba(X)[:, 1] for step in self.steps], dim=1)

    def decision_function(self, X):
        if not self.has_decision:
            return super().decision_function(X)
        if len(self.steps) == 1:
            return self.steps[0].decision_function(X)
        return torch.stack([step.decision_function(X) for step in self.steps], dim=1)

    @available_if(lambda self: self.has_proba)
    def predict_proba(self, X):
        proba = torch.stack([step.predict_proba(X)[:, 1] for step in self.steps], dim=1)
        return binary_proba(proba[:, 0]) if len(self.steps) == 1 else normalized_rows(proba, 0)


class OneVsOneStep(ClassifierStep):
    """One binary classifier per pair of classes, aggregated as scikit-learn does."""

    def __init__(self, scores, threshold, classes, like):
        super().__init__(classes)
        self.scores = nn.ModuleList(scores)
        self.threshold = threshold
        self.aggregation = PairAggregation(len(classes), like, threshold)

    def _aggregate(self, X):
        second_wins = np.stack([score.step.predict_indices(X) for score in self.scores], axis=1) == 1
        confidences = torch.stack([score(X) for score in self.scores], dim=1)
        return self.aggregation(torch.as_tensor(second_wins, device=confidences.device), confidences)

    def forward(self, X):
        scores = self._aggregate(X)
        if self.n_classes > 2:
            return scores
        half = (scores[:, 1] - self.threshold) / 2
        return torch.stack((-half, half), dim=1)

    def decision_function(self, X):
        scores = self._aggregate(X)
        return scores if self.n_classes > 2 else scores[:, 1]


class OutputCodeStep(ClassifierStep):
    """The class whose code word is nearest; class scores are negative squared distances."""

    def __init__(self, scores, code_book, classes):
        super().__init__(classes)
        self.scores = nn.ModuleList(scores)
        self.register_buffer("code_book", code_book)

    def forward(self, X):
        outputs = torch.stack([score(X) for score in self.scores], dim=1)
        return -(outputs[:, None] - self.code_book).square().sum(dim=2)


@register_module(_ConstantPredictor, role="classifier")
def convert_constant(estimator, conversion):
    return ConstantStep(conversion.tensor(estimator.y_).reshape(-1)[0])


@register_module(OneVsRestClassifier)
def convert_one_vs_rest(estimator, conversion):
    if estimator.multilabel_:
        raise conversion.multilabel(estimator)
    first = estimator.estimators_[0]
    return OneVsRestStep(
        _convert_all(estimator, conversion),
        hasattr(first, "decision_function"),
        hasattr(first, "predict_proba"),
        conversion.classes(estimator),
    )


@register_module(OneVsOneClassifier)
def convert_one_vs_one(estimator, conversion):
    if estimator.pairwise_indices_ is not None:
        raise conversion.no_gradient(estimator, "it works on a precomputed kernel matrix")
    threshold = 0.0 if hasattr(estimator.estimators_[0], "decision_function") else 0.5
    like = conversion.tensor(np.zeros(0))
    return OneVsOneStep(_binary_scores(estimator, conversion), threshold, conversion.classes(estimator), like)


@register_module(OutputCodeClassifier)
def convert_output_code(estimator, conversion):
    return OutputCodeStep(
        _binary_scores(estimator, conversion),
        conversion.tensor(estimator.code_book_),
        conversion.classes(estimator),
    )


def _convert_all(estimator, conversion):
    return [conversion(sub, name=f"estimators_[{i}]", role="classifier") for i, sub in enumerate(estimator.estimators_)]


def _binary_scores(estimator, conversion):
    steps = _convert_all(estimator, conversion)
    return [
        BinaryScore(step, hasattr(sub, "decision_function"))
        for step, sub in zip(steps, estimator.estimators_, strict=True)
    ]

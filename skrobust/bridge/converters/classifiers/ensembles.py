"""Voting, stacking and bagging."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from torch import nn

from skrobust.bridge.autograd import with_backward
from skrobust.bridge.converters.structure.pipelines import PipelineStep
from skrobust.bridge.modules import ClassifierStep, ProbabilityStep
from skrobust.bridge.registry import register_module


def mean_log_proba(logs, weights=None):
    """Logarithm of the weighted mean of probabilities given by their logarithms, without underflow."""
    if weights is None:
        weights = [1] * len(logs)
    total = math.fsum(weights)
    shifted = [log + math.log(weight / total) for log, weight in zip(logs, weights, strict=True)]
    return torch.logsumexp(torch.stack(shifted), dim=0)


def embedded(values, positions, n_classes, missing):
    """Columns of `values` put at `positions` among `n_classes`; the others are `missing`."""
    if list(positions) == list(range(n_classes)):
        return values
    full = values.new_full((values.shape[0], n_classes), missing)
    return full.index_copy(1, torch.as_tensor(positions, device=values.device), values)


def votes(step, X, positions, n_classes):
    """One-hot predictions of shape (n_samples, n_classes).

    Their derivative is zero, so the backward pass uses that of the softmax of the scores.
    """
    scores = step(X)
    one_hot = F.one_hot(torch.as_tensor(step.predict_indices(X), device=scores.device), scores.shape[1])
    shares = with_backward(one_hot.to(scores.dtype), torch.softmax(scores, dim=1))
    return embedded(shares, positions, n_classes, 0)


class HardVotingStep(ClassifierStep):
    """Class scores are the weighted votes."""

    def __init__(self, steps, weights, classes):
        super().__init__(classes)
        self.steps = nn.ModuleList(steps)
        self.weights = weights

    def forward(self, X):
        return sum(
            weight * votes(step, X, range(self.n_classes), self.n_classes)
            for step, weight in zip(self.steps, self.weights, strict=True)
        )


class SoftVotingStep(ProbabilityStep):
    """The weighted mean of probabilities."""

    def __init__(self, steps, weights, classes):
        super().__init__(classes)
        self.steps = nn.ModuleList(steps)
        self.weights = weights

    def predict_proba(self, X):
        terms = zip(self.steps, self.weights, strict=True)
        return sum(weight * step.predict_proba(X) for step, weight in terms) / math.fsum(self.weights)

    def predict_log_proba(self, X):
        return mean_log_proba([step.predict_log_proba(X) for step in self.steps], self.weights)


class Outputs(nn.Module):
    """Outputs of several classifiers side by side, as voting and stacking pass them to the final estimator.

    Each step contributes the output of its method; with `drop_first` only the second of two probabilities. With
    `passthrough` X itself comes last.
    """

    def __init__(self, steps, methods, *, drop_first, passthrough=False):
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.methods = methods
        self.drop_first = drop_first
        self.passthrough = passthrough

    def forward(self, X):
        outputs = []
        for step, method in zip(self.steps, self.methods, strict=True):
            output = getattr(step, method)(X)
            if output.ndim == 1:
                output = output[:, None]
            elif self.drop_first and method == "predict_proba" and output.shape[1] == 2:
                output = output[:, 1:]
            outputs.append(output)
        if self.passthrough:
            outputs.append(X)
        return torch.cat(outputs, dim=1)


class StackingStep(PipelineStep):
    """First-layer outputs, then the final classifier, whose classes are 0, 1, ..."""

    def __init__(self, transform, classifier, classes):
        super().__init__(transform, classifier)
        self._classes = classes

    @property
    def classes_(self):
        return self._classes


class BaggingStep(ProbabilityStep):
    """The mean of probabilities or votes of classifiers that read different features.

    `features` are those that each step reads (None: all), `positions` the classes of each step among all. With `voting`
    the members vote, because they have no probabilities; with `has_decision` the decision function is the mean of the
    members'.
    """

    def __init__(self, steps, features, positions, classes, *, voting, has_decision):
        super().__init__(classes)
        self.steps = nn.ModuleList(steps)
        self.positions = positions
        self.voting = voting
        self.has_decision = has_decision
        for i, chosen in enumerate(features):
            self.register_buffer(f"features_{i}", chosen)

    def _members(self, X):
        for i, (step, positions) in enumerate(zip(self.steps, self.positions, strict=True)):
            chosen = getattr(self, f"features_{i}")
            yield step, X if chosen is None else X[:, chosen], positions

    def predict_proba(self, X):
        outputs = [
            votes(step, X_i, positions, self.n_classes)
            if self.voting
            else embedded(step.predict_proba(X_i), positions, self.n_classes, 0)
            for step, X_i, positions in self._members(X)
        ]
        return sum(outputs) / len(outputs)

    def predict_log_proba(self, X):
        lowest = math.log(torch.finfo(X.dtype).tiny)
        return mean_log_proba(
            [
                embedded(step.predict_log_proba(X_i), positions, self.n_classes, lowest)
                for step, X_i, positions in self._members(X)
            ]
        )

    def forward(self, X):
        return self.predict_proba(X) if self.voting else self.predict_log_proba(X)

    def decision_function(self, X):
        if not self.has_decision:
            return super().decision_function(X)
        return sum(step.decision_function(X_i) for step, X_i, _ in self._members(X)) / len(self.steps)


@register_module(VotingClassifier, role="classifier")
def convert_voting(estimator, conversion):
    names = [name for name, sub in estimator.estimators if not isinstance(sub, str)]
    weights = estimator.weights or [1] * len(estimator.estimators)
    weights = [
        weight for weight, (_, sub) in zip(weights, estimator.estimators, strict=True) if not isinstance(sub, str)
    ]
    weighted = [(n, sub, w) for n, sub, w in zip(names, estimator.estimators_, weights, strict=True) if w != 0]
    steps = [conversion(sub, name=name, role="classifier") for name, sub, _ in weighted]
    kind = HardVotingStep if estimator.voting == "hard" else SoftVotingStep
    return kind(steps, [float(weight) for *_, weight in weighted], conversion.classes(estimator))


@register_module(VotingClassifier, role="transformer")
def convert_voting_transform(estimator, conversion):
    if estimator.voting == "hard" or not estimator.flatten_transform:
        raise conversion.no_gradient(estimator, "its transform has one only with voting='soft', flatten_transform=True")
    steps = [conversion(sub, role="classifier") for sub in estimator.estimators_]
    return Outputs(steps, ["predict_proba"] * len(steps), drop_first=False)


@register_module(StackingClassifier, role="transformer")
def convert_stacking_transform(estimator, conversion):
    names = [name for name, sub in estimator.estimators if not isinstance(sub, str)]
    for name, sub, method in zip(names, estimator.estimators_, estimator.stack_method_, strict=True):
        if method == "predict":
            raise conversion.no_gradient(
                estimator, f"it stacks the labels that {name!r} ({type(sub).__name__}) predicts"
            )
    steps = [
        conversion(sub, name=name, role="classifier") for name, sub in zip(names, estimator.estimators_, strict=True)
    ]
    return Outputs(
        steps,
        list(estimator.stack_method_),
        drop_first=len(conversion.classes(estimator)) == 2,
        passthrough=estimator.passthrough,
    )


@register_module(StackingClassifier, role="classifier")
def convert_stacking(estimator, conversion):
    return StackingStep(
        convert_stacking_transform(estimator, conversion),
        conversion(estimator.final_estimator_, name="final_estimator", role="classifier"),
        conversion.classes(estimator),
    )


@register_module(BaggingClassifier)
def convert_bagging(estimator, conversion):
    voting = not all(hasattr(sub, "predict_proba") for sub in estimator.estimators_)
    steps = [
        conversion(sub, name=f"estimators_[{i}]", role="classifier") for i, sub in enumerate(estimator.estimators_)
    ]
    everything = np.arange(estimator.n_features_in_)
    features = [
        None if np.array_equal(chosen, everything) else conversion.indices(chosen)
        for chosen in estimator.estimators_features_
    ]
    return BaggingStep(
        steps,
        features,
        # Members were fitted on the positions of the labels among all classes.
        [np.asarray(sub.classes_, dtype=np.int64).tolist() for sub in estimator.estimators_],
        conversion.classes(estimator),
        voting=voting,
        has_decision=hasattr(estimator, "decision_function"),
    )

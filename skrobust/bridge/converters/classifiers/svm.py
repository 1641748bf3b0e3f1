"""Support vector classifiers with kernels."""

import numpy as np
import torch
from sklearn.svm import SVC, NuSVC
from sklearn.utils.metaestimators import available_if
from torch import nn

from skrobust.bridge.autograd import with_backward
from skrobust.bridge.modules import ClassifierStep, two_columns
from skrobust.bridge.registry import register_module

from .coupling import couple_pairs
from .kernels import make_kernel
from .one_vs_one import PairAggregation


class LinearDecisions(nn.Module):
    """Pairwise decisions of a linear kernel, of shape (n_samples, n_pairs)."""

    def __init__(self, coef, intercept):
        super().__init__()
        self.register_buffer("coef", coef)
        self.register_buffer("intercept", intercept)

    def forward(self, X):
        return X @ self.coef.T + self.intercept


class KernelDecisions(nn.Module):
    """Pairwise decisions from kernel values, of shape (n_samples, n_pairs).

    `dual_coef`, of shape (n_classes - 1, n_vectors), is that of libsvm, with `n_support` vectors of each class in turn.
    For a vector of class i, row j (j < i) or j - 1 (j > i) is its coefficient in the decision between i and j.
    """

    def __init__(self, kernel, dual_coef, intercept, n_support):
        super().__init__()
        self.kernel = kernel
        self.register_buffer("dual_coef", dual_coef)
        self.register_buffer("intercept", intercept)
        self.n_support = n_support
        self.pairs = np.triu_indices(len(n_support), k=1)

    def forward(self, X):
        values = self.kernel(X)
        if self.dual_coef.shape[0] == 1:
            return values @ self.dual_coef.T + self.intercept
        parts = zip(values.split(self.n_support, dim=1), self.dual_coef.split(self.n_support, dim=1), strict=True)
        shares = torch.stack([part @ coef.T for part, coef in parts], dim=1)
        first, second = self.pairs
        return shares[:, first, second - 1] + shares[:, second, first] + self.intercept


class SVCStep(ClassifierStep):
    """C- and nu-support vector classification, one against one.

    `decisions` maps X to pairwise decisions: positive for the first class of a pair; for two classes, for the second.
    `shape`, "ovr" or "ovo", is that of the decision function for more than two classes; class scores are always "ovr".
    With `break_ties` predictions follow the decision function rather than the first of the most voted classes. Without,
    where the two differ, the score of the predicted class is raised to 0.001 above the highest. `sigmoids` are Platt's
    A and B of each pair, or None.
    """

    def __init__(self, decisions, classes, *, shape, break_ties, sigmoids, like):
        super().__init__(classes)
        self.decisions = decisions
        self.shape = shape
        self.break_ties = break_ties
        self.aggregation = PairAggregation(len(classes), like)
        slope, offset = (None, None) if sigmoids is None else sigmoids
        self.register_buffer("slope", slope)
        self.register_buffer("offset", offset)

    def forward(self, X):
        decisions = self.decisions(X)
        if self.n_classes == 2:
            return two_columns(decisions[:, 0])
        scores = self._scores(decisions)
        return scores if self.break_ties else with_backward(self._as_predicted(scores, decisions), scores)

    def decision_function(self, X):
        decisions = self.decisions(X)
        if self.n_classes == 2:
            return decisions[:, 0]
        return decisions if self.shape == "ovo" else self._scores(decisions)

    def _scores(self, decisions):
        return self.aggregation(decisions < 0, -decisions)

    def _as_predicted(self, scores, decisions):
        """`scores` whose argmax is the prediction, also where votes tie and confidence prefers another class."""
        votes = self.aggregation.votes(decisions <= 0)
        # With equal votes the first class wins. torch.argmax does not say which it returns, so later classes get less.
        later = torch.arange(self.n_classes, dtype=votes.dtype, device=votes.device) / (2 * self.n_classes)
        predicted = (votes - later).argmax(dim=1, keepdim=True)
        best = scores.amax(dim=1, keepdim=True)
        own = scores.gather(1, predicted)
        return scores.scatter(1, predicted, torch.where(own < best, best + 1e-3, own))

    @available_if(lambda self: self.slope is not None)
    def predict_proba(self, X):
        decisions = self.decisions(X)
        if self.n_classes == 2:
            decisions = -decisions
        return couple_pairs(torch.sigmoid(-(decisions * self.slope + self.offset)), self.n_classes)

    def predict_indices(self, X):
        decisions = self.decisions(X).detach()
        if self.n_classes == 2:
            return (decisions[:, 0] >= 0).to(torch.int64).cpu().numpy()
        scores = self._scores(decisions) if self.break_ties else self.aggregation.votes(decisions <= 0)
        return np.argmax(scores.cpu().numpy(), axis=1)


@register_module(SVC, NuSVC)
def convert_svc(estimator, conversion):
    if callable(estimator.kernel) or estimator.kernel == "precomputed":
        kind = "a callable" if callable(estimator.kernel) else "'precomputed'"
        raise conversion.no_gradient(estimator, f"its kernel is {kind}, which has no known torch form")
    intercept = conversion.tensor(estimator.intercept_)
    if estimator.kernel == "linear":
        decisions = LinearDecisions(conversion.tensor(estimator.coef_), intercept)
    else:
        decisions = KernelDecisions(
            make_kernel(
                estimator.kernel,
                conversion.tensor(estimator.support_vectors_),
                gamma=estimator._gamma,  # the value of "scale" and "auto" in fit
                coef0=estimator.coef0,
                degree=estimator.degree,
            ),
            conversion.tensor(estimator.dual_coef_),
            intercept,
            [int(n) for n in estimator.n_support_],
        )
    has_proba = hasattr(estimator, "predict_proba") and estimator._probA.size > 0
    sigmoids = (conversion.tensor(estimator._probA), conversion.tensor(estimator._probB)) if has_proba else None
    return SVCStep(
        decisions,
        conversion.classes(estimator),
        shape=estimator.decision_function_shape,
        break_ties=estimator.break_ties,
        sigmoids=sigmoids,
        like=intercept,
    )

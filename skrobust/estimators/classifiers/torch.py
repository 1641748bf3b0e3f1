"""The classifiers as torch modules."""

from contextlib import contextmanager

import torch
from sklearn.utils.metaestimators import available_if

from skrobust.bridge import ClassifierStep, as_module, as_one_node
from skrobust.bridge.modules import NetworkStep

from .sparse_step import SparseModules


class TorchClassifierStep(NetworkStep):
    """Scores of a fitted `TorchClassifier`, through its front end."""

    def __init__(self, estimator, conversion):
        super().__init__(estimator.network_, len(estimator.classes_), conversion.gradient)
        self.labels = estimator.classes_
        self.layout, self.takes_rows = estimator._layout, estimator.takes_rows_
        self.front_end = None
        if estimator.front_end_ is not None:
            self.front_end = conversion(estimator.front_end_, name="front_end", role="transformer")

    @property
    def classes_(self):
        return self.labels

    def forward(self, X):
        values = X if self.front_end is None else self.front_end(X)
        values = values.flatten(1) if self.takes_rows else self.layout.place(values).values
        return super().forward(values)

    def predict_proba(self, X):
        return self(X).softmax(1)


class AdaptiveStep(ClassifierStep):
    """`AdaptiveSparsity`: its classifier, run twice: for residuals, then with the sparsity that follows from them.

    Attributes
    ----------
    fixed : Tensor of no dimension or None
        The residual of all samples, in place of those of X.
    """

    fixed = None

    def __init__(self, estimator, inner):
        super().__init__(estimator.classes_)
        self.inner = inner
        self.sparse = SparseModules(inner, estimator.estimator_, estimator.param_name)
        self.batch, self.line = estimator.batch, estimator.line()
        low, high = estimator.values_.min(), estimator.values_.max()
        self.range = float(low), float(high)

    def residuals(self, X):
        """Residual of each sample."""
        return self.sparse.residuals(self.inner, X)

    def sparsities(self, X):
        """Value of the parameter for each sample, differentiable in X."""
        if self.fixed is None:
            residuals = self.residuals(X)
            if self.batch == "all":
                residuals = residuals.mean().expand(len(X))
        else:
            residuals = self.fixed.to(X).expand(len(X))
        intercept, slope = self.line
        return (intercept + slope * residuals).clamp(*self.range)

    @contextmanager
    def adapted(self, X):
        """Context in which the classifier has the sparsities of X."""
        with self.sparse.set_to(self.sparsities(X)):
            yield self.inner

    def _scores(self, X):
        with self.adapted(X) as inner:
            return inner(X)

    def forward(self, X):
        return as_one_node(self._scores, X)

    def decision_function(self, X):
        with self.adapted(X) as inner:
            return inner.decision_function(X)

    @available_if(lambda self: hasattr(self.inner, "predict_proba"))
    def predict_proba(self, X):
        with self.adapted(X) as inner:
            return inner.predict_proba(X)

    def predict_indices(self, X):
        with self.adapted(X) as inner:
            return inner.predict_indices(X)


def convert(estimator, conversion):
    """The module of a fitted `AdaptiveSparsity`."""
    if isinstance(estimator.estimator_, torch.nn.Module):
        return AdaptiveStep(estimator, as_module(estimator.estimator_, gradient=conversion.gradient).step)
    return AdaptiveStep(estimator, conversion(estimator.estimator_, name="estimator", role="classifier"))

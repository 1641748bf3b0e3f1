"""`AdaptiveSparsity` as a torch module: residuals, from them sparsities, from them scores."""

from contextlib import contextmanager

import torch
from sklearn.utils.metaestimators import available_if

from skrobust.bridge import ClassifierStep, as_module, as_one_node

from .sparse_step import SparseModules


class AdaptiveStep(ClassifierStep):
    """The module of the classifier, run twice: for residuals, then with the sparsity that follows from them.

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

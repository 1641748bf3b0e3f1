"""Discriminant analysis."""

import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from skrobust.bridge.converters.transformers.decomposition import Projection
from skrobust.bridge.modules import ClassifierStep
from skrobust.bridge.registry import register_module

from .linear import linear_step
from .links import SOFTMAX


@register_module(LinearDiscriminantAnalysis, role="classifier")
def convert_lda(estimator, conversion):
    return linear_step(estimator, conversion, SOFTMAX)


@register_module(LinearDiscriminantAnalysis, role="transformer")
def convert_lda_transform(estimator, conversion):
    if estimator.solver == "lsqr":
        raise conversion.no_gradient(estimator, "it has no transform with solver='lsqr'; use 'svd' or 'eigen'")
    mean = conversion.tensor(estimator.xbar_) if estimator.solver == "svd" else None
    return Projection(conversion.tensor(estimator.scalings_[:, : estimator._max_components].T), mean)


class QDAStep(ClassifierStep):
    """Log-posteriors of Gaussian classes, up to a constant; `whitenings` are R S^(-1/2) of each class, `offsets` the
    log-prior minus half the log-determinant.
    """

    def __init__(self, means, whitenings, offsets, classes):
        super().__init__(classes)
        self.register_buffer("means", means)
        self.register_buffer("offsets", offsets)
        for i, whitening in enumerate(whitenings):
            self.register_buffer(f"whitening_{i}", whitening)

    def decision_function(self, X):
        norms = [
            ((X - mean) @ getattr(self, f"whitening_{i}")).square().sum(dim=1) for i, mean in enumerate(self.means)
        ]
        scores = self.offsets - torch.stack(norms, dim=1) / 2
        return scores[:, 1] - scores[:, 0] if self.n_classes == 2 else scores

    def predict_proba(self, X):
        return SOFTMAX.proba(self.decision_function(X))

    def predict_log_proba(self, X):
        return SOFTMAX.log_proba(self.decision_function(X))


@register_module(QuadraticDiscriminantAnalysis)
def convert_qda(estimator, conversion):
    scalings = [conversion.tensor(scaling) for scaling in estimator.scalings_]
    rotations = [conversion.tensor(rotation) for rotation in estimator.rotations_]
    log_determinants = torch.stack([scaling.log().sum() for scaling in scalings])
    return QDAStep(
        conversion.tensor(estimator.means_),
        [rotation / scaling.sqrt() for rotation, scaling in zip(rotations, scalings, strict=True)],
        conversion.tensor(estimator.priors_).log() - log_determinants / 2,
        conversion.classes(estimator),
    )

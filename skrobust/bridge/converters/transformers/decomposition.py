"""Linear maps learned from data: PCA and similar, random projections."""

import numpy as np
from sklearn import decomposition, random_projection
from torch import nn

from skrobust.bridge.registry import register_module


class Projection(nn.Module):
    """(X - mean) W' / scale; a None leaves its operation out."""

    def __init__(self, components, mean=None, scale=None):
        super().__init__()
        self.register_buffer("components", components)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, X):
        if self.mean is not None:
            X = X - self.mean
        X = X @ self.components.T
        return X if self.scale is None else X / self.scale


@register_module(decomposition.PCA, decomposition.IncrementalPCA)
def convert_pca(estimator, conversion):
    scale = None
    if estimator.whiten:
        scale = np.sqrt(estimator.explained_variance_)
        scale = conversion.tensor(np.maximum(scale, np.finfo(scale.dtype).eps))
    return Projection(conversion.tensor(estimator.components_), conversion.tensor(estimator.mean_), scale)


@register_module(
    decomposition.TruncatedSVD, random_projection.GaussianRandomProjection, random_projection.SparseRandomProjection
)
def convert_uncentered_projection(estimator, conversion):
    return Projection(conversion.tensor(estimator.components_))


@register_module(decomposition.FastICA)
def convert_fast_ica(estimator, conversion):
    mean = conversion.tensor(estimator.mean_) if estimator.whiten else None
    return Projection(conversion.tensor(estimator.components_), mean)


@register_module(decomposition.FactorAnalysis)
def convert_factor_analysis(estimator, conversion):
    # The posterior mean of the factors, as in FactorAnalysis.transform.
    loadings = estimator.components_
    weighted = loadings / estimator.noise_variance_
    covariance = np.linalg.inv(np.eye(len(loadings)) + weighted @ loadings.T)
    return Projection(conversion.tensor(covariance.T @ weighted), conversion.tensor(estimator.mean_))

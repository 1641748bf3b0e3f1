"""Features selected, multiplied, or mapped by a kernel."""

import math

import numpy as np
import torch
from sklearn.decomposition import KernelPCA
from sklearn.feature_selection import RFE, SelectorMixin
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.preprocessing import PolynomialFeatures
from torch import nn

from skrobust.bridge.converters.classifiers.kernels import make_kernel
from skrobust.bridge.converters.structure.pipelines import PipelineStep
from skrobust.bridge.registry import register_module


class Selection(nn.Module):
    """Some features of X."""

    def __init__(self, indices):
        super().__init__()
        self.register_buffer("indices", indices)

    def forward(self, X):
        return X[:, self.indices]


class Products(nn.Module):
    """Products of features: row i of `factors` lists those of output i; the index n_features stands for 1."""

    def __init__(self, factors):
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, X):
        X = torch.cat((X, X.new_ones((X.shape[0], 1))), dim=1)
        product = X[:, self.factors[:, 0]]
        for i in range(1, self.factors.shape[1]):
            product = product * X[:, self.factors[:, i]]
        return product


class RandomCosines(nn.Module):
    """sqrt(2 / n_components) cos(X W + b)."""

    def __init__(self, weights, offset):
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("offset", offset)

    def forward(self, X):
        return math.sqrt(2 / len(self.offset)) * torch.cos(X @ self.weights + self.offset)


class KernelMap(nn.Module):
    """K(X) W', with the kernel matrix centred in feature space where `means`, of its columns in fit, are given."""

    def __init__(self, kernel, weights, means=None):
        super().__init__()
        self.kernel = kernel
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)

    def forward(self, X):
        K = self.kernel(X)
        if self.means is not None:
            K = K - self.means - K.mean(dim=1, keepdim=True) + self.means.mean()
        return K @ self.weights.T


@register_module(SelectorMixin, role="transformer")
def convert_selector(estimator, conversion):
    return Selection(conversion.indices(np.flatnonzero(estimator.get_support())))


@register_module(RFE, role="classifier")
def convert_feature_elimination(estimator, conversion):
    return PipelineStep(
        convert_selector(estimator, conversion), conversion(estimator.estimator_, name="estimator", role="classifier")
    )


@register_module(PolynomialFeatures)
def convert_polynomial(estimator, conversion):
    powers = estimator.powers_
    degree = max(1, int(powers.sum(axis=1).max(initial=0)))
    factors = np.full((len(powers), degree), estimator.n_features_in_)
    for row, power in zip(factors, powers, strict=True):
        features = np.repeat(np.arange(len(power)), power)
        row[: len(features)] = features
    return Products(conversion.indices(factors))


@register_module(RBFSampler)
def convert_rbf_sampler(estimator, conversion):
    return RandomCosines(conversion.tensor(estimator.random_weights_), conversion.tensor(estimator.random_offset_))


@register_module(Nystroem)
def convert_nystroem(estimator, conversion):
    params = {"gamma": None, "coef0": 1.0, "degree": 3, **(estimator.kernel_params or {})}
    params.update({k: getattr(estimator, k) for k in list(params) if getattr(estimator, k, None) is not None})
    if params["gamma"] is None:
        params["gamma"] = 1 / estimator.n_features_in_
    kernel = _checked_kernel(estimator, conversion, estimator.components_, **params)
    return KernelMap(kernel, conversion.tensor(estimator.normalization_))


@register_module(KernelPCA)
def convert_kernel_pca(estimator, conversion):
    kernel = _checked_kernel(
        estimator,
        conversion,
        estimator.X_fit_,
        gamma=estimator.gamma_ or 0.0,
        coef0=estimator.coef0,
        degree=estimator.degree,
    )
    # Components of the null space have eigenvalue zero and stay zero.
    scale = np.sqrt(np.where(estimator.eigenvalues_ > 0, estimator.eigenvalues_, np.inf))
    weights = (estimator.eigenvectors_ / scale).T
    return KernelMap(kernel, conversion.tensor(weights), conversion.tensor(estimator._centerer.K_fit_rows_))


def _checked_kernel(estimator, conversion, vectors, *, gamma, coef0, degree):
    name = estimator.kernel
    kernel = None
    if isinstance(name, str):
        kernel = make_kernel(name, conversion.tensor(vectors), gamma=gamma, coef0=coef0, degree=degree)
    if kernel is None:
        raise conversion.no_gradient(estimator, f"its kernel {name!r} has no known torch form")
    return kernel

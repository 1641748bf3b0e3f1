"""Kernel functions between samples and fixed vectors."""

import torch
from torch import nn


class Kernel(nn.Module):
    """Kernel matrix between samples and given vectors, of shape (n_samples, n_vectors)."""

    def __init__(self, vectors):
        super().__init__()
        self.register_buffer("vectors", vectors)


class RBFKernel(Kernel):
    """exp(-gamma ||x - s||^2), by one matrix product, without an array of shape (n_samples, n_vectors, n_features)."""

    def __init__(self, vectors, gamma):
        # Distances do not depend on the origin; centring at the mean vector reduces cancellation in float32.
        origin = vectors.mean(dim=0)
        super().__init__(vectors - origin)
        self.register_buffer("origin", origin)
        self.register_buffer("squares", self.vectors.square().sum(dim=1))
        self.gamma = gamma

    def forward(self, X):
        X = X - self.origin
        exponent = torch.addmm(self.squares, X, self.vectors.T, alpha=-2) + X.square().sum(dim=1, keepdim=True)
        return torch.exp(-self.gamma * exponent)


class PolynomialKernel(Kernel):
    """(gamma x.s + coef0)^degree."""

    def __init__(self, vectors, gamma, coef0, degree):
        super().__init__(vectors)
        self.gamma, self.coef0, self.degree = gamma, coef0, degree

    def forward(self, X):
        return (self.gamma * (X @ self.vectors.T) + self.coef0) ** self.degree


class SigmoidKernel(Kernel):
    """tanh(gamma x.s + coef0)."""

    def __init__(self, vectors, gamma, coef0):
        super().__init__(vectors)
        self.gamma, self.coef0 = gamma, coef0

    def forward(self, X):
        return torch.tanh(self.gamma * (X @ self.vectors.T) + self.coef0)


class LinearKernel(Kernel):
    """x.s."""

    def forward(self, X):
        return X @ self.vectors.T


def make_kernel(name, vectors, *, gamma, coef0, degree):
    """The kernel that scikit-learn calls `name`, or None if it is not one of libsvm's four."""
    gamma, coef0 = float(gamma), float(coef0)
    if name == "linear":
        return LinearKernel(vectors)
    if name == "rbf":
        return RBFKernel(vectors, gamma)
    if name in ("poly", "polynomial"):
        return PolynomialKernel(vectors, gamma, coef0, degree)
    if name == "sigmoid":
        return SigmoidKernel(vectors, gamma, coef0)
    return None

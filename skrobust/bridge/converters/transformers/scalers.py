"""Scalers and FunctionTransformer."""

import torch
from sklearn import preprocessing
from torch import nn

from skrobust.bridge.registry import register_module
from skrobust.signals import clip_values


class Affine(nn.Module):
    """(X - shift) / scale * factor + offset, clipped to `bounds`; a None leaves its operation out."""

    def __init__(self, *, shift=None, scale=None, factor=None, offset=None, bounds=None):
        super().__init__()
        for name, value in (("shift", shift), ("scale", scale), ("factor", factor), ("offset", offset)):
            self.register_buffer(name, value)
        self.bounds = bounds

    def forward(self, X):
        if self.shift is not None:
            X = X - self.shift
        if self.scale is not None:
            X = X / self.scale
        if self.factor is not None:
            X = X * self.factor
        if self.offset is not None:
            X = X + self.offset
        return X if self.bounds is None else clip_values(X, *self.bounds)


class RowNormalizer(nn.Module):
    """Each sample divided by its norm; samples of norm zero stay unchanged."""

    _ORDERS = {"l1": 1, "l2": 2, "max": torch.inf}

    def __init__(self, norm):
        super().__init__()
        self.order = self._ORDERS[norm]

    def forward(self, X):
        norms = torch.linalg.vector_norm(X, self.order, dim=1, keepdim=True)
        return X / torch.where(norms < 10 * torch.finfo(X.dtype).eps, 1, norms)


@register_module(preprocessing.StandardScaler)
def convert_standard_scaler(estimator, conversion):
    return Affine(
        shift=conversion.tensor(estimator.mean_) if estimator.with_mean else None,
        scale=conversion.tensor(estimator.scale_) if estimator.with_std else None,
    )


@register_module(preprocessing.MinMaxScaler)
def convert_min_max_scaler(estimator, conversion):
    return Affine(
        factor=conversion.tensor(estimator.scale_),
        offset=conversion.tensor(estimator.min_),
        bounds=tuple(estimator.feature_range) if estimator.clip else None,
    )


@register_module(preprocessing.MaxAbsScaler)
def convert_max_abs_scaler(estimator, conversion):
    # The oldest scikit-learn that we support has no parameter `clip`.
    return Affine(
        scale=conversion.tensor(estimator.scale_), bounds=(-1, 1) if getattr(estimator, "clip", False) else None
    )


@register_module(preprocessing.RobustScaler)
def convert_robust_scaler(estimator, conversion):
    return Affine(
        shift=conversion.tensor(estimator.center_) if estimator.with_centering else None,
        scale=conversion.tensor(estimator.scale_) if estimator.with_scaling else None,
    )


@register_module(preprocessing.Normalizer)
def convert_normalizer(estimator, conversion):
    return RowNormalizer(estimator.norm)

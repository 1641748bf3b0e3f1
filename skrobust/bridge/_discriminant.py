"""Discriminant analysis."""

from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ._linear import linear_step, softmax_proba
from ._registry import register_module


@register_module(LinearDiscriminantAnalysis, role="classifier")
def convert_lda(estimator, conversion):
    return linear_step(estimator, conversion, softmax_proba)

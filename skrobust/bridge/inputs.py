"""Checks of what an estimator accepts, without calling it. Does not import torch."""

from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import validation

# Attributes in which meta-estimators hold other estimators, to which they pass X unchecked.
_HELD = ("best_estimator_", "estimator", "estimators", "estimators_", "transformer_list")


def check_feature_names(model, X):
    """Refuse a data frame whose columns are not those of `fit`, in their order, with scikit-learn's own message."""
    if hasattr(X, "columns") and hasattr(model, "feature_names_in_"):
        validation._check_feature_names(model, X, reset=False)


def active_steps(pipeline):
    """Name and estimator of each step of a Pipeline that is not left out by None or "passthrough"."""
    return [(name, step) for name, step in pipeline.steps if step is not None and not isinstance(step, str)]


def takes_rows_only(estimator):
    """Whether `estimator` takes only 2-D X: all steps of scikit-learn do, except those that pass X on."""
    while isinstance(estimator, Pipeline):
        steps = active_steps(estimator)
        if not steps:
            return False
        _, estimator = steps[0]
    if isinstance(estimator, FunctionTransformer) or any(hasattr(estimator, name) for name in _HELD):
        return False
    return type(estimator).__module__.startswith("sklearn.")

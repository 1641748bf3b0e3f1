"""Pipelines, and wrappers of another estimator: searches and frozen estimators."""

from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from torch import nn

from skrobust.bridge.inputs import active_steps
from skrobust.bridge.modules import ClassifierStep
from skrobust.bridge.registry import register_module

try:
    from sklearn.frozen import FrozenEstimator
except ImportError:  # scikit-learn < 1.6
    FrozenEstimator = None


class PipelineStep(ClassifierStep):
    """Transformers, then a classifier."""

    def __init__(self, transform, classifier):
        nn.Module.__init__(self)
        self.transform = transform
        self.classifier = classifier

    @property
    def classes_(self):
        return self.classifier.classes_

    def forward(self, X):
        return self.classifier(self.transform(X))

    def decision_function(self, X):
        return self.classifier.decision_function(self.transform(X))

    @available_if(lambda self: hasattr(self.classifier, "predict_proba"))
    def predict_proba(self, X):
        return self.classifier.predict_proba(self.transform(X))

    @available_if(lambda self: hasattr(self.classifier, "predict_log_proba"))
    def predict_log_proba(self, X):
        return self.classifier.predict_log_proba(self.transform(X))

    def predict_indices(self, X):
        return self.classifier.predict_indices(self.transform(X))


@register_module(Pipeline, role="classifier")
def convert_classifier_pipeline(estimator, conversion):
    *transformers, (name, classifier) = active_steps(estimator)
    return PipelineStep(
        _chain(transformers, conversion),
        conversion(classifier, name=name, role="classifier"),
    )


@register_module(Pipeline, role="transformer")
def convert_transformer_pipeline(estimator, conversion):
    return _chain(active_steps(estimator), conversion)


def _chain(steps, conversion):
    return nn.Sequential(*(conversion(step, name=name, role="transformer") for name, step in steps))


def _convert_search(estimator, conversion):
    if not hasattr(estimator, "best_estimator_"):
        raise ValueError(
            f"{conversion.describe(estimator)} has no best_estimator_ to convert: fit it with refit=True, or pass the "
            "fitted estimator itself."
        )
    return conversion(estimator.best_estimator_, role=conversion.role)


def _convert_frozen(estimator, conversion):
    return conversion(estimator.estimator, role=conversion.role)


for _role in ("classifier", "transformer"):
    register_module(BaseSearchCV, role=_role)(_convert_search)
    if FrozenEstimator is not None:
        register_module(FrozenEstimator, role=_role)(_convert_frozen)

"""skorch networks. Imported when an estimator of skorch is converted, not before."""

import math

import torch
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier

from skrobust.bridge.modules import NetworkStep, finite_log, two_columns
from skrobust.bridge.registry import register_module


class SkorchStep(NetworkStep):
    """The network inside a skorch classifier, called as skorch calls it; `gradient` says how front ends within are
    differentiated.
    """

    def __init__(self, net, n_classes, gradient):
        super().__init__(net.module_, n_classes, gradient)
        self._net = net
        self._nonlinearity = net._get_predict_nonlinearity()

    def infer(self, X):
        with self.running():
            output = self._net.infer(self.cast(X))
        return output[0] if isinstance(output, tuple) else output

    def predict_proba(self, X):
        return self._nonlinearity(self.infer(X))


class SkorchClassifierStep(SkorchStep):
    def forward(self, X):
        scores = self.check_scores(self.infer(X))
        # With NLLLoss the network returns probabilities, of which skorch takes the logarithm.
        criterion = getattr(self._net, "criterion_", None)
        return finite_log(scores) if isinstance(criterion, torch.nn.NLLLoss) else scores


class SkorchBinaryStep(SkorchStep):
    """Its decision function is the logit, less that of the threshold at which skorch predicts class 1."""

    def decision_function(self, X):
        threshold = self._net.threshold
        return self._logit(X) - math.log(threshold / (1 - threshold))

    def _logit(self, X):
        output = self.infer(X)
        if isinstance(self._net.criterion_, torch.nn.BCELoss):
            return finite_log(output) - finite_log(1 - output)
        return output

    def forward(self, X):
        return two_columns(self.decision_function(X))


@register_module(NeuralNetClassifier)
def convert_classifier(estimator, conversion):
    # skorch predicts positions, whatever labels it has seen.
    return SkorchClassifierStep(estimator, len(estimator.classes_), conversion.gradient)


@register_module(NeuralNetBinaryClassifier)
def convert_binary_classifier(estimator, conversion):
    return SkorchBinaryStep(estimator, 2, conversion.gradient)

"""Naive Bayes classifiers whose likelihood is a differentiable function of X."""

import math

import numpy as np
import torch
from sklearn import naive_bayes

from skrobust.bridge.modules import ProbabilityStep
from skrobust.bridge.registry import register_module


class _NaiveBayesStep(ProbabilityStep):
    """Posteriors from `joint_log_likelihood`; class scores are their logarithms."""

    def predict_log_proba(self, X):
        return torch.log_softmax(self.joint_log_likelihood(X), dim=1)

    def predict_proba(self, X):
        return torch.softmax(self.joint_log_likelihood(X), dim=1)

    def predict_indices(self, X):
        return np.argmax(self.joint_log_likelihood(X).detach().cpu().numpy(), axis=1)


class GaussianStep(_NaiveBayesStep):
    def __init__(self, means, variances, priors, classes):
        super().__init__(classes)
        self.register_buffer("means", means)
        self.register_buffer("variances", variances)
        self.register_buffer("offsets", priors.log() - (2 * math.pi * variances).log().sum(dim=1) / 2)

    def joint_log_likelihood(self, X):
        # Class by class, because expanding the square loses precision where variances are tiny, and is no faster.
        distances = [
            ((X - mean).square() / variance).sum(dim=1)
            for mean, variance in zip(self.means, self.variances, strict=True)
        ]
        return self.offsets - torch.stack(distances, dim=1) / 2


class LogLinearStep(_NaiveBayesStep):
    """Likelihoods whose logarithm is linear in X."""

    def __init__(self, weights, offsets, classes):
        super().__init__(classes)
        self.register_buffer("weights", weights)
        self.register_buffer("offsets", offsets)

    def joint_log_likelihood(self, X):
        return X @ self.weights.T + self.offsets


@register_module(naive_bayes.GaussianNB)
def convert_gaussian(estimator, conversion):
    return GaussianStep(
        conversion.tensor(estimator.theta_),
        conversion.tensor(estimator.var_),
        conversion.tensor(estimator.class_prior_),
        conversion.classes(estimator),
    )


@register_module(naive_bayes.MultinomialNB)
def convert_multinomial(estimator, conversion):
    return _log_linear(estimator, conversion, estimator.feature_log_prob_, estimator.class_log_prior_)


@register_module(naive_bayes.ComplementNB)
def convert_complement(estimator, conversion):
    return _log_linear(estimator, conversion, estimator.feature_log_prob_, np.zeros(len(estimator.classes_)))


@register_module(naive_bayes.BernoulliNB)
def convert_bernoulli(estimator, conversion):
    if estimator.binarize is not None:
        raise conversion.no_gradient(
            estimator, f"it thresholds X at binarize={estimator.binarize!r} (only binarize=None is differentiable)"
        )
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    offsets = estimator.class_log_prior_ + absent.sum(axis=1)
    return _log_linear(estimator, conversion, estimator.feature_log_prob_ - absent, offsets)


def _log_linear(estimator, conversion, weights, offsets):
    return LogLinearStep(conversion.tensor(weights), conversion.tensor(offsets), conversion.classes(estimator))

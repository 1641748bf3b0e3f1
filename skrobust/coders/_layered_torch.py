"""Layered coders as torch modules, with the backward passes that an attacker may choose."""

import warnings

import torch
from torch import nn

from skrobust.bridge import as_one_node, with_backward
from skrobust.pursuits import implicit_pursuit
from skrobust.pursuits._conv_pursuit_torch import with_support_gradient
from skrobust.pursuits._layered_pursuit import per_layer
from skrobust.pursuits._smooth_torch import smooth_shrink, smooth_steps
from skrobust.signals._tensors import is_exporting

from ._clip_torch import finish_reconstruction


class LayeredCoderModule(nn.Module):
    """The codes of a fitted layered coder.

    Gradient modes. "exact": through all iterations, or with `tol` the derivative of the solution. "projection": layer
    by layer that of least squares on the support found. "identity": of the cascade of correlations without any
    threshold, of the image in place of reconstructions. "smooth": of a cascade of smooth pursuits, so that atoms
    outside the support have a gradient. "skip": correlations in place of codes, forward and backward; images in place
    of reconstructions.
    """

    def __init__(self, estimator, gradient):
        super().__init__()
        self.estimator, self.gradient = estimator, gradient
        self.layout = estimator._layout
        self.rebuilds = estimator.output == "reconstruction"
        # Operators make tensors of their atoms for each dtype and device that they meet, and keep them.
        self.layers = estimator.layers_

    def forward(self, X):
        if self.gradient == "skip" and self.rebuilds:
            return X
        signals = self.layout.place(X)
        if self.gradient != "skip" and getattr(self.estimator, "tol", None) is not None:
            result = as_one_node(self.features, signals.values)
        else:
            result = self.features(signals.values)
        return signals.restore(result) if self.rebuilds else result

    def features(self, values):
        """Features, or reconstructions on the grid, of signals on their grid."""
        codes = self.encode(values)
        if self.rebuilds:
            rebuilt = self.layers.synthesize(codes)
            return finish_reconstruction(rebuilt, values, self.estimator.clip, self.gradient)
        parts = codes if self.estimator.per_layer else codes[-1:]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def encode(self, values):
        """Codes of all layers of signals on their grid."""
        layers = self.layers
        estimator, penalties = self.estimator, per_layer("penalty", self.estimator._penalties, layers, values)
        if self.gradient == "skip":
            return _cascade(values, layers, lambda j, correlations, target: correlations)
        if self.gradient == "exact" or is_exporting():
            return self._differentiable(values, layers, penalties)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = estimator._pursue(values, layers, penalties, estimator._steps)
        if self.gradient == "identity":
            return _cascade(values, layers, lambda j, correlations, target: with_backward(codes[j], correlations))
        if self.gradient == "projection":
            return _cascade(
                values,
                layers,
                lambda j, correlations, target: (
                    with_backward(codes[j], correlations * (codes[j] != 0))
                    if estimator._pursuit == "thresholding"
                    else with_support_gradient(target, layers.operators[j], codes[j])
                ),
            )

        def smooth(j, correlations, target):
            if estimator._pursuit == "thresholding":
                return with_backward(codes[j], smooth_shrink(correlations, penalties[j], estimator.positive))
            return with_backward(
                codes[j], smooth_steps(target, layers.operators[j], codes[j], penalties[j], estimator.positive)
            )

        return _cascade(values, layers, smooth)

    def _differentiable(self, values, layers, penalties):
        estimator = self.estimator
        if getattr(estimator, "tol", None) is None:
            return estimator._pursue(values, layers, penalties, estimator._steps)
        with estimator._shortfalls.gathered(type(estimator).__name__):
            return self._to_gap(values, layers, penalties)

    def _to_gap(self, values, layers, penalties):
        estimator = self.estimator
        options = {"positive": estimator.positive, "tol": estimator.tol, "max_iter": estimator.max_iter}
        if estimator._pursuit == "deep":
            from skrobust.pursuits import implicit_deep_pursuit

            return implicit_deep_pursuit(values, layers, penalties, **options)
        codes = []
        for j, operator in enumerate(layers.operators):
            if is_exporting():
                codes.append(implicit_pursuit(layers.target(j, values, codes), operator, penalties[j], **options))
                continue
            strength = float(penalties[j].mean())
            weights = penalties[j] / strength if penalties[j].ndim else None
            codes.append(
                implicit_pursuit(layers.target(j, values, codes), operator, strength, weights=weights, **options)
            )
        return codes


def _cascade(values, layers, code):
    """Codes of all layers, each made by ``code(layer, correlations, target)``."""
    codes = []
    for j, operator in enumerate(layers.operators):
        target = layers.target(j, values, codes)
        codes.append(code(j, operator.analyze(target), target))
    return codes

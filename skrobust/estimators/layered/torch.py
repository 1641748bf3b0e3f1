"""Layered coders as torch modules, with the backward passes that an attacker may choose."""

import torch

from skrobust.bridge import FrontEndModule, with_backward
from skrobust.pursuits import implicit_pursuit
from skrobust.pursuits.implicit.conv import with_support_gradient
from skrobust.pursuits.layered.cascade import per_layer
from skrobust.pursuits.proximal.smooth import smooth_shrink, smooth_steps
from skrobust.signals.tensors import is_exporting


class LayeredCoderModule(FrontEndModule):
    """The codes of a fitted layered coder.

    Gradient modes. "exact": through all iterations, or with `tol` the derivative of the solution. "projection": layer
    by layer that of least squares on the support found. "identity": of the cascade of correlations without any
    threshold, of the image in place of reconstructions. "smooth": of a cascade of smooth pursuits, so that atoms
    outside the support have a gradient. "skip": correlations in place of codes, forward and backward; images in place
    of reconstructions.
    """

    def __init__(self, estimator, gradient):
        super().__init__(
            gradient,
            layout=estimator._layout,
            rebuilds=estimator.output == "reconstruction",
            clip=estimator.clip,
            one_node=getattr(estimator, "tol", None) is not None,
        )
        self.estimator = estimator
        # Operators make tensors of their atoms for each dtype and device that they meet, and keep them.
        self.layers = estimator.layers_

    def exact(self, seen):
        estimator = self.estimator
        if getattr(estimator, "tol", None) is None:
            return self.encode(seen)
        with estimator._shortfalls.gathered(type(estimator).__name__):
            return self._to_gap(seen, self.layers, self._penalties(seen))

    def encode(self, seen):
        return self.estimator._pursue(seen, self.layers, self._penalties(seen), self.estimator._steps)

    def undefended(self, seen):
        correlations = []
        for j, operator in enumerate(self.layers.operators):
            correlations.append(operator.analyze(self.layers.target(j, seen, correlations)))
        return correlations

    def projected(self, seen, codes):
        def project(operator, target, found, penalty):
            if self.estimator._pursuit == "thresholding":
                return operator.analyze(target) * (found != 0)
            return with_support_gradient(target, operator, found)

        return self._cascade(seen, codes, project)

    def relaxed(self, seen, codes):
        def relax(operator, target, found, penalty):
            if self.estimator._pursuit == "thresholding":
                return smooth_shrink(operator.analyze(target), penalty, self.estimator.positive)
            return smooth_steps(target, operator, found, penalty, self.estimator.positive)

        return self._cascade(seen, codes, relax)

    def features(self, codes):
        parts = codes if self.estimator.per_layer else codes[-1:]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def rebuild(self, codes, values):
        return self.layers.reconstruct(codes)

    def _penalties(self, seen):
        return per_layer("penalty", self.estimator._penalties, self.layers, seen)

    def _cascade(self, seen, codes, surrogate):
        """The codes of all layers, each with the derivative of its surrogate, which sees those below it."""
        followed, penalties = [], self._penalties(seen)
        for j, operator in enumerate(self.layers.operators):
            target = self.layers.target(j, seen, followed)
            followed.append(with_backward(codes[j], surrogate(operator, target, codes[j], penalties[j])))
        return followed

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

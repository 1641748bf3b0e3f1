"""Layered coders as torch modules, with the backward passes that an attacker may choose."""

import torch

from skrobust.bridge import FrontEndModule, with_backward
from skrobust.pursuits import implicit_deep_pursuit, implicit_pursuit
from skrobust.pursuits.implicit.conv import with_support_gradient
from skrobust.pursuits.layered.cascade import per_layer
from skrobust.pursuits.penalties.layers import OverLayers
from skrobust.pursuits.proximal.smooth import smooth_shrink, smooth_steps
from skrobust.signals.tensors import is_exporting

from .plan import one_a_layer


class LayeredCoderModule(FrontEndModule):
    """The codes of a fitted layered coder.

    Gradient modes. "exact": through all iterations, or with `tol` the derivative of the solution. "projection": layer
    by layer that of least squares on the support found. "identity": of the cascade of correlations without any
    threshold, of the image in place of reconstructions. "smooth": of a cascade of smooth pursuits, so that atoms
    outside the support have a gradient; under the l1 norm, whatever the penalty. "skip": correlations in place of
    codes, forward and backward; images in place of reconstructions.
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
        with estimator._convergence_log.warning_once(type(estimator).__name__):
            return self._to_gap(seen, self.layers, self._strengths(seen))

    def encode(self, seen):
        estimator = self.estimator
        return estimator._pursue(seen, self.layers, self._strengths(seen), estimator.penalty, estimator._steps)

    def undefended(self, seen):
        correlations = []
        for j, operator in enumerate(self.layers.operators):
            correlations.append(operator.analyze(self.layers.target(j, seen, correlations)))
        return correlations

    def projected(self, seen, codes):
        def project(operator, target, found, strength, positive):
            if self.estimator._pursuit == "thresholding":
                return operator.analyze(target) * (found != 0)
            return with_support_gradient(target, operator, found)

        return self._cascade(seen, codes, project)

    def relaxed(self, seen, codes):
        def relax(operator, target, found, strength, positive):
            if self.estimator._pursuit == "thresholding":
                return smooth_shrink(operator.analyze(target), strength, positive)
            return smooth_steps(target, operator, found, strength, positive)

        return self._cascade(seen, codes, relax)

    def features(self, codes):
        parts = codes if self.estimator.per_layer else codes[-1:]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def rebuild(self, codes, values):
        return self.layers.reconstruct(codes)

    def _strengths(self, seen):
        return per_layer(self.estimator._strength, self.estimator._strengths, self.layers, seen)

    def _positive(self):
        """Whether the codes of each layer are >= 0, by the coder or by its penalties."""
        penalties, n_layers = self.estimator._penalties(), self.layers.n_layers
        each = [penalties.penalty] * n_layers if isinstance(penalties, OverLayers) else penalties
        return [getattr(penalty, "positive", False) for penalty in each]

    def _cascade(self, seen, codes, surrogate):
        """The codes of all layers, each with the derivative of its surrogate, which sees those below it."""
        followed, strengths, positive = [], self._strengths(seen), self._positive()
        for j, operator in enumerate(self.layers.operators):
            target = self.layers.target(j, seen, followed)
            followed.append(with_backward(codes[j], surrogate(operator, target, codes[j], strengths[j], positive[j])))
        return followed

    def _to_gap(self, values, layers, strengths):
        estimator = self.estimator
        options = {"positive": estimator.positive, "tol": estimator.tol, "max_iter": estimator.max_iter}
        if estimator._pursuit == "deep":
            return implicit_deep_pursuit(values, layers, strengths, penalty=estimator.penalty, **options)
        codes, penalties = [], one_a_layer("penalty", estimator.penalty, layers.n_layers)
        for operator, strength, penalty in zip(layers.operators, strengths, penalties, strict=True):
            weights = None
            if not is_exporting():
                weights = strength / strength.mean() if strength.ndim else None
                strength = float(strength.mean())
            target = layers.target(len(codes), values, codes)
            codes.append(implicit_pursuit(target, operator, strength, penalty=penalty, weights=weights, **options))
        return codes

"""Layered coders as torch modules, with the backward passes that an attacker may choose."""

from functools import partial

import torch

from skrobust.bridge import FrontEndModule, with_backward
from skrobust.bridge.recall import recalled_pursuit
from skrobust.pursuits import implicit_deep_pursuit, implicit_pursuit
from skrobust.pursuits.implicit.conv import with_support_gradient
from skrobust.pursuits.layered.cascade import per_layer
from skrobust.pursuits.penalties.layers import OverLayers
from skrobust.pursuits.proximal.smooth import smooth_shrink, smooth_steps
from skrobust.signals.tensors import is_exporting

from .plan import one_per_layer


class LayeredCoderModule(FrontEndModule):
    """The codes of a fitted layered coder.

    Gradient modes. "exact": through all iterations, or with `tol` the derivative of the solution. "projection": layer
    by layer, that of least squares on the support. "identity": that of the cascade of correlations without
    thresholds, or of the image in place of reconstructions. "smooth": that of a cascade of smooth pursuits, so that
    atoms outside the support have a gradient; uses the l1 norm for any penalty. "skip": correlations in place of
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
        # Operators cache their atoms as tensors for each dtype and device.
        self.layers = estimator.layers_

    def exact(self, seen):
        estimator = self.estimator
        if getattr(estimator, "tol", None) is None:
            return self.encode(seen)
        with estimator._convergence_log.warning_once(type(estimator).__name__):
            return self._to_gap(seen, self.layers, self._alphas(seen))

    def encode(self, seen):
        estimator = self.estimator
        return estimator._pursue(seen, self.layers, self._alphas(seen), estimator.penalty, estimator._steps)

    def undefended(self, seen):
        correlations = []
        for j, operator in enumerate(self.layers.operators):
            correlations.append(operator.analyze(self.layers.target(j, seen, correlations)))
        return correlations

    def projected(self, seen, codes):
        def project(operator, target, layer_codes, alpha, positive):
            if self.estimator._pursuit == "thresholding":
                return operator.analyze(target) * (layer_codes != 0)
            return with_support_gradient(target, operator, layer_codes)

        return self._cascade(seen, codes, project)

    def relaxed(self, seen, codes):
        def relax(operator, target, layer_codes, alpha, positive):
            if self.estimator._pursuit == "thresholding":
                return smooth_shrink(operator.analyze(target), alpha, positive)
            return smooth_steps(target, operator, layer_codes, alpha, positive)

        return self._cascade(seen, codes, relax)

    def features(self, codes):
        parts = codes if self.estimator.per_layer else codes[-1:]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def rebuild(self, codes, values):
        return self.layers.reconstruct(codes)

    def _alphas(self, seen):
        return per_layer(self.estimator._alpha_name, self.estimator._alphas, self.layers, seen)

    def _positive(self):
        """Whether the codes of each layer are >= 0, by the coder or by its penalties."""
        penalties, n_layers = self.estimator._penalties(), self.layers.n_layers
        per_layer_penalties = [penalties.penalty] * n_layers if isinstance(penalties, OverLayers) else penalties
        return [getattr(penalty, "positive", False) for penalty in per_layer_penalties]

    def _cascade(self, seen, codes, surrogate):
        """The codes of all layers, each with the derivative of its surrogate, which depends on the codes below."""
        results, alphas, positive = [], self._alphas(seen), self._positive()
        for j, operator in enumerate(self.layers.operators):
            target = self.layers.target(j, seen, results)
            results.append(with_backward(codes[j], surrogate(operator, target, codes[j], alphas[j], positive[j])))
        return results

    def _to_gap(self, values, layers, alphas):
        estimator = self.estimator
        options = {"positive": estimator.positive, "max_iter": estimator.max_iter}
        if estimator._pursuit == "deep":
            options["tol"] = estimator.tol
            return implicit_deep_pursuit(values, layers, alphas, penalty=estimator.penalty, **options)
        codes, penalties = [], one_per_layer("penalty", estimator.penalty, layers.n_layers)
        for operator, alpha, penalty in zip(layers.operators, alphas, penalties, strict=True):
            weights = None
            if not is_exporting():
                weights = alpha / alpha.mean() if alpha.ndim else None
                alpha = float(alpha.mean())
            target = layers.target(len(codes), values, codes)
            options |= {"penalty": penalty, "weights": weights}
            solve = partial(_solve, target, operator, alpha, options)
            codes.append(recalled_pursuit((id(estimator), len(codes)), target, solve, estimator.tol))
        return codes


def _solve(target, operator, alpha, options, init, tol):
    return implicit_pursuit(target, operator, alpha, init=init, tol=tol, **options)

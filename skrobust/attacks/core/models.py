"""The attacked model: class scores, and for white-box attacks their gradients."""

from contextlib import nullcontext

import numpy as np
import torch

from skrobust.bridge import as_module, with_backward
from skrobust.bridge.front_ends import identity_for_arrays
from skrobust.bridge.recall import Recall
from skrobust.signals.tensors import to_numpy

# Refinements within each step of ``gradient="iterated"``, as published.
N_PROJECTIONS = 20

# Gradient modes whose forward pass is the model's own.
_EXACT_FORWARD = ("exact", "identity", "projection", "iterated")


class GradientModel:
    """The model that a `GradientAttack` attacks: class scores and their gradients.

    Attacks use ``model.scores(x)`` and ``model.gradient(x, objective)``. The `objective` maps scores of shape
    (n_samples, n_classes) to one value per sample; ``goal.margin`` is one.

    Pursuits inside the model start from the codes of the last pass and stop at a larger gap, see `Recall`. Scores that
    decide whether an image is misclassified therefore come from ``model.exact_scores(x)``, those of the model itself.

    Computations have the dtype and device of `like`. With "iterated" the backward pass is that of "projection", and
    `unprojected` is the same model without projection. With "skip" the scores, too, are those of the model without its
    front ends. Scores and gradients are means over `n_eot` passes (expectation over transformation). With
    `through_arrays`, front ends that run on arrays have the identity as their backward pass in all modes.

    Attributes
    ----------
    gradient_mode : str
        The parameter `gradient`.
    """

    def __init__(self, model, gradient, like, n_eot=1, through_arrays=False, recall=None):
        self._model = model
        self.gradient_mode = gradient
        self._like = like
        self._n_eot = n_eot
        self._through_arrays = through_arrays
        self._recall = Recall() if recall is None else recall
        self._siblings, self._probe = {}, None
        self.unprojected = self.with_gradient("identity") if gradient == "iterated" else None
        backward = "projection" if gradient == "iterated" else gradient
        self._module = as_module(model, gradient=backward, dtype=like.dtype, device=like.device)
        self._own_scores = gradient in _EXACT_FORWARD or gradient == "skip"
        self._forward = self._module if self._own_scores else as_module(model, dtype=like.dtype, device=like.device)

    def with_gradient(self, gradient):
        """The same model with another backward pass."""
        if gradient not in self._siblings:  # converted once for all parts of a cascade
            # The memory is one of forward passes, which "skip" does not share.
            recall = None if gradient == "skip" else self._recall
            self._siblings[gradient] = GradientModel(
                self._model, gradient, self._like, self._n_eot, self._through_arrays, recall
            )
        return self._siblings[gradient]

    def anneal(self, share):
        """Sharpen the relaxed backward pass of front ends, `share` from 0 to 1; None: restore it."""
        for part in self._module.modules():
            if hasattr(part, "anneal"):
                part.anneal(share)

    def classes(self, x):
        """Labels of the columns of `scores`; `x` are some images."""
        with torch.no_grad():
            self._module(x[:1])  # sets the classes_ of a network
        return np.asarray(self._module.classes_)

    @torch.no_grad()
    def scores(self, x):
        """Class scores of shape (n_samples, n_classes)."""
        return self._mean_scores(self._forward, x)

    @property
    def is_rough(self):
        """Whether `scores` may differ from `exact_scores`, because pursuits start from their last codes."""
        return bool(self._recall)

    @torch.no_grad()
    def exact_scores(self, x):
        """Class scores as the model itself computes them, whatever it computed before."""
        return self._mean_scores(self._forward, x, nullcontext)

    @torch.no_grad()
    def start(self, x):
        """Exact scores of the images of a batch; the pursuits of later passes start from the codes of these."""
        return self._mean_scores(self._forward, x, self._recall.beginning)

    def differentiable_scores(self, x):
        """The same values as `scores`, with a backward pass to `x` as in `gradients`."""
        scores = self._mean_scores(self._module, x)
        return scores if self._own_scores else with_backward(self.scores(x.detach()), scores)

    def gradient(self, x, objective):
        """Gradient of an objective at `x`, and the scores there.

        Parameters
        ----------
        x : Tensor of shape (n_samples, ...)
        objective : callable
            Scores of shape (n_samples, n_classes) to values of shape (n_samples,), higher for more harmful images.

        Returns
        -------
        gradient : Tensor of the shape of `x`
            Gradient of each sample's value; NaN and infinite entries are replaced by 0.
        scores : Tensor of shape (n_samples, n_classes)
            As returned by ``scores(x)``.
        """
        gradients, scores, _ = self.gradients(x, [objective])
        return gradients[0], scores

    def different(self, gradients):
        """This model with each of some backward passes, but for those equal to an earlier one, bit by bit.

        They are compared at probes: some images of `like`, and noise between them.
        """
        models = [self if gradient == self.gradient_mode else self.with_gradient(gradient) for gradient in gradients]
        kept = []
        try:
            for model in models:
                probe = model._gradient_at_probes()
                if not any(torch.equal(probe, other._gradient_at_probes()) for other in kept):
                    kept.append(model)
        finally:
            self._recall.clear()
        return kept

    def has_zero_gradient(self):
        """Whether the gradient is zero at all probes, see `different`."""
        return not bool(self._gradient_at_probes().any())

    def _gradient_at_probes(self):
        if self._probe is None:
            few = self._like[:8]
            mixed = few.flip(0).roll(1, dims=-1)
            probes = torch.cat([few, (few + mixed) / 2, mixed])
            # The difference of the two best scores: the best alone may be constant where only the others change.
            gap = probes.new_tensor([1.0, -1.0])
            (self._probe,), *_ = self.gradients(
                probes, [lambda scores: scores.topk(2, dim=1).values @ gap.to(scores)], self._recall.repeating
            )
        return self._probe

    def refined_gradient(self, x, objective, move):
        """As `gradient`; with ``gradient="iterated"`` projected on the support selected at the end of a step along it.

        Front ends project the gradient on the basis vectors that they select. A step changes that selection, so the
        selection is read where the step ends, ``move(gradient)``: first after a step along the gradient without
        projection, then repeatedly after a step from `x` along the gradient found at the previous end.
        """
        if self.gradient_mode != "iterated":
            return self.gradient(x, objective)
        gradient, scores = self.unprojected.gradient(x, objective)
        for _ in range(N_PROJECTIONS):
            gradient, _ = self.gradient(move(gradient), objective)
        return gradient, scores

    def gradients(self, x, objectives, context=None):
        """Lists of the gradients and of the values of several objectives at `x`, with the scores between them.

        `context` is that of the pursuits; None: they start from their last codes.
        """
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
        *means, scores = self._mean(lambda: self._gradients_of_pass(x, objectives, context))
        gradients, values = means[: len(objectives)], means[len(objectives) :]
        if not self._own_scores:
            with torch.no_grad():
                scores = self._mean_scores(self._forward, x.detach(), context)
        return gradients, scores, values

    def _gradients_of_pass(self, x, objectives, context):
        """Gradients of the objectives, their values, and the scores, of one forward pass, in one list."""
        gradients, values = [], []
        with torch.enable_grad():
            scores = self._forward_pass(self._module, x, context)
            for k, objective in enumerate(objectives):
                value = objective(scores)
                more = k + 1 < len(objectives)
                (gradient,) = torch.autograd.grad(
                    value.sum(), x, retain_graph=more, allow_unused=True, materialize_grads=True
                )
                gradients.append(torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0))
                values.append(value.detach())
        return [*gradients, *values, scores.detach()]

    def _mean_scores(self, module, x, context=None):
        (scores,) = self._mean(lambda: [self._forward_pass(module, x, context)])
        return scores

    def _mean(self, tensors_of_pass):
        """Means over `n_eot` calls of the tensors that ``tensors_of_pass()`` lists."""
        sums = tensors_of_pass()
        for _ in range(self._n_eot - 1):
            sums = [total + tensor for total, tensor in zip(sums, tensors_of_pass(), strict=True)]
        return sums if self._n_eot == 1 else [total / self._n_eot for total in sums]

    def _forward_pass(self, module, x, context=None):
        with identity_for_arrays() if self._through_arrays else nullcontext(), (context or self._recall.continuing)():
            return module(x)


class ScoreModel:
    """The model that a `BlackBoxAttack` attacks: class scores from scikit-learn's methods, without gradients.

    Attacks use ``model.scores(x)``.

    The scores come from `decision_function` or `predict_proba`, whichever agrees better with `predict`. Where they
    disagree with `predict` (tuned thresholds), and where the two best scores tie, `predict` decides.

    The methods are compared on some images `x`; with `labels_only`, `predict` alone is used.
    """

    gradient_mode = None
    is_rough = False

    def __init__(self, model, x, labels_only=False):
        if not hasattr(model, "predict"):
            raise TypeError(
                f"An attack needs a fitted classifier with predict, or a torch.nn.Module; got {type(model).__name__}."
            )
        self._model = model
        self._names = getattr(model, "feature_names_in_", None)
        self._classes = np.asarray(model.classes_) if hasattr(model, "classes_") else None
        if self._classes is None or self._classes.ndim != 1:
            raise TypeError(
                f"{type(model).__name__} has no one-dimensional classes_: attacks need a classifier with one label a "
                "sample."
            )
        self._method, self._faithful = (None, True) if labels_only else self._most_faithful(to_numpy(x[:256]))

    def classes(self, x):
        """Labels of the columns of `scores`."""
        return self._classes

    def scores(self, x):
        """Class scores, (n_samples, n_classes); if only labels are known, 1 for the predicted class and 0 elsewhere."""
        images = to_numpy(x)
        if self._method is None:
            scores = np.zeros((len(images), len(self._classes)))
            scores[np.arange(len(images)), self._predict(images)] = 1
            return torch.from_numpy(scores).to(x.device)
        scores = self._call(self._method, images)
        runner_up, best = np.partition(scores, -2, axis=1)[:, -2:].T
        # Rounding error of the two best scores; other classes, such as masked ones, do not matter.
        rounding = self._rounding * np.maximum(np.maximum(np.abs(runner_up), np.abs(best)), np.finfo(np.float64).tiny)
        doubtful = np.flatnonzero(best - runner_up <= rounding) if self._faithful else np.arange(len(images))
        if len(doubtful):
            predicted = self._predict(images[doubtful])
            best = best[doubtful] + rounding[doubtful]
            agrees = scores[doubtful].argmax(axis=1) == predicted
            scores[doubtful, predicted] = np.where(agrees, np.maximum(scores[doubtful, predicted], best), best)
        return torch.from_numpy(scores).to(x.device)

    def exact_scores(self, x):
        """The same as `scores`."""
        return self.scores(x)

    start = exact_scores

    def _most_faithful(self, images):
        predicted = self._predict(images)
        best, agreement = None, 0.5
        for name in ("decision_function", "predict_proba"):
            if not hasattr(self._model, name):
                continue
            scores = self._call(name, images)
            if scores.shape != (len(images), len(self._classes)):
                continue  # one-against-one votes
            share = np.mean(scores.argmax(axis=1) == predicted)
            if share > agreement:
                best, agreement = name, share
        return best, agreement == 1

    def _call(self, name, images):
        scores = np.asarray(getattr(self._model, name)(self._as_fitted(images)))
        self._rounding = max(1e-12, 64 * np.finfo(scores.dtype).eps) if scores.dtype.kind == "f" else 1e-12
        scores = scores.astype(np.float64)
        if scores.ndim == 1:
            scores = np.stack([-scores / 2, scores / 2], axis=1)
        return scores

    def _as_fitted(self, images):
        """Columns with the names that the model was fitted with, if any."""
        if self._names is None or images.ndim != 2:
            return images
        import pandas

        return pandas.DataFrame(images, columns=self._names)

    def _predict(self, images):
        order = np.argsort(self._classes)
        return order[np.searchsorted(self._classes, self._model.predict(self._as_fitted(images)), sorter=order)]

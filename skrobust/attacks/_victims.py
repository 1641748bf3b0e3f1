"""The model as an attack sees it: class scores, and for white-box attacks their gradients."""

import numpy as np
import torch

from skrobust.bridge import as_module, with_backward

# Gradient modes whose forward pass is the model's own.
_EXACT_FORWARD = ("exact", "identity", "projection", "iterated")


class ModuleVictim:
    """A model known through the bridge.

    Parameters
    ----------
    model : estimator, Pipeline or torch.nn.Module
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip"}
        Backward pass of the front ends; "iterated" is "projection", with the same model without projection beside
        it in `unprojected`. With "skip" also `scores` are those of the model without front ends: such an attacker
        does not know what will answer.
    like : Tensor
        Its dtype and device are those to compute in.
    n_eot : int, default=1
        Passes over which scores and gradients are averaged (expectation over transformation).
    """

    def __init__(self, model, gradient, like, n_eot=1):
        self._model = model
        self.gradient_mode = gradient
        self._like = like
        self._n_eot = n_eot
        self.unprojected = self.seen_with("identity") if gradient == "iterated" else None
        backward = "projection" if gradient == "iterated" else gradient
        self._module = as_module(model, gradient=backward, dtype=like.dtype, device=like.device)
        self._answers = gradient in _EXACT_FORWARD or gradient == "skip"
        self._judge = self._module if self._answers else as_module(model, dtype=like.dtype, device=like.device)

    def seen_with(self, gradient):
        """The same model with another backward pass."""
        return ModuleVictim(self._model, gradient, self._like, self._n_eot)

    def anneal(self, share):
        """Tell front ends with a relaxed backward pass to sharpen it, from 0 to 1; None: as it was."""
        for part in self._module.modules():
            if hasattr(part, "anneal"):
                part.anneal(share)

    def classes(self, x):
        """Labels in the order of the scores; `x` are some images."""
        with torch.no_grad():
            self._module(x[:1])  # a network's classes are known after its first pass
        return np.asarray(self._module.classes_)

    @torch.no_grad()
    def scores(self, x):
        """Class scores of shape (n_samples, n_classes)."""
        return self._mean(self._judge, x)

    def differentiable_scores(self, x):
        """What `scores` returns, with a backward pass to `x` as in `gradients`."""
        scores = self._mean(self._module, x)
        return scores if self._answers else with_backward(self.scores(x.detach()), scores)

    def gradient(self, x, objective):
        """Gradient of ``objective(scores).sum()`` at `x`, and the scores that `scores` would return there.

        A gradient that is not a number counts as none.
        """
        gradients, scores, _ = self.gradients(x, [objective])
        return gradients[0], scores

    def gradients(self, x, objectives):
        """Gradients of several objectives at `x`, the scores, and the objectives' values, one a sample each."""
        x = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
        total = [torch.zeros_like(x) for _ in objectives]
        values, seen = [0] * len(objectives), 0
        for _ in range(self._n_eot):
            with torch.enable_grad():
                scores = self._module(x)
            for k, objective in enumerate(objectives):
                with torch.enable_grad():
                    value = objective(scores)
                    last = k + 1 == len(objectives)
                    (part,) = torch.autograd.grad(value.sum(), x, retain_graph=not last, allow_unused=True)
                if part is not None:
                    total[k] += torch.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
                values[k] = values[k] + value.detach()
            seen = seen + scores.detach()
        scores = seen / self._n_eot if self._answers else self.scores(x.detach())
        return [part / self._n_eot for part in total], scores, [value / self._n_eot for value in values]

    def _mean(self, module, x):
        scores = module(x)
        for _ in range(self._n_eot - 1):
            scores = scores + module(x)
        return scores / self._n_eot


class ScoreVictim:
    """A model known by its answers alone, through whatever of scikit-learn's methods it has.

    Of decision function and probabilities the one is used whose largest column agrees best with `predict`. Where it
    does not always (tuned thresholds), and where the two best scores tie, `predict` has the last word.

    Parameters
    ----------
    model : classifier
        Fitted, with `predict`.
    x : Tensor
        Some images, on which the methods are compared.
    labels_only : bool, default=False
        Use `predict` alone.
    """

    gradient_mode = None

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
                f"{type(model).__name__} has no one-dimensional classes_: attacks take classifiers with one label a "
                "sample."
            )
        self._method, self._faithful = (None, True) if labels_only else self._most_faithful(_array(x[:256]))

    def classes(self, x):
        """Labels in the order of the scores."""
        return self._classes

    def scores(self, x):
        """Class scores of shape (n_samples, n_classes); one for the answer and zero elsewhere where only labels are
        known."""
        images = _array(x)
        if self._method is None:
            scores = np.zeros((len(images), len(self._classes)))
            scores[np.arange(len(images)), self._answers(images)] = 1
            return torch.from_numpy(scores).to(x.device)
        scores = self._call(self._method, images)
        runner_up, best = np.partition(scores, -2, axis=1)[:, -2:].T
        # What the two best scores may owe to rounding; other classes, such as masked ones, have no say.
        bump = self._rounding * np.maximum(np.maximum(np.abs(runner_up), np.abs(best)), np.finfo(np.float64).tiny)
        doubtful = np.flatnonzero(best - runner_up <= bump) if self._faithful else np.arange(len(images))
        if len(doubtful):
            answers = self._answers(images[doubtful])
            best = best[doubtful] + bump[doubtful]
            scores[doubtful, answers] = np.where(
                scores[doubtful].argmax(axis=1) == answers, np.maximum(scores[doubtful, answers], best), best
            )
        return torch.from_numpy(scores).to(x.device)

    def _most_faithful(self, images):
        answers = self._answers(images)
        best, agreement = None, 0.5
        for name in ("decision_function", "predict_proba"):
            if not hasattr(self._model, name):
                continue
            scores = self._call(name, images)
            if scores.shape != (len(images), len(self._classes)):
                continue  # one-against-one votes
            share = np.mean(scores.argmax(axis=1) == answers)
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

    def _answers(self, images):
        order = np.argsort(self._classes)
        return order[np.searchsorted(self._classes, self._model.predict(self._as_fitted(images)), sorter=order)]


def _array(x):
    return x.detach().cpu().numpy()

"""Base of the attacks that need no gradient."""

import torch

from skrobust.signals import parametrized

from .base import Attack
from .models import GradientModel, ScoreModel


@parametrized
class BlackBoxAttack(Attack):
    """Base of the attacks that need scores or labels only: they attack any classifier.

    The `model` of `search_batch` has a method ``scores(x)``. It is a `ScoreModel` for classifiers of scikit-learn and
    a `GradientModel` for torch networks, whose gradients such an attack does not use. See `Attack` for what a subclass
    defines.
    """

    _threat_model = "black box"
    _labels_only = False

    def _oracle(self, model, x):
        if isinstance(model, torch.nn.Module):
            return GradientModel(model, "exact", x)
        return ScoreModel(model, x, labels_only=self._labels_only)

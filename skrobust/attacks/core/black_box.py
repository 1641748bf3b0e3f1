"""Base of the attacks that need no gradient."""

import torch

from .base import Attack
from .models import ModuleVictim, ScoreVictim


class BlackBoxAttack(Attack):
    """Base of the attacks that only ask the model for its answers: any classifier will do.

    scikit-learn models answer through their own methods, torch networks as they are.
    """

    _threat_model = "black box"
    _labels_only = False

    def _judge(self, model, x):
        if isinstance(model, torch.nn.Module):
            return ModuleVictim(model, "exact", x)
        return ScoreVictim(model, x, labels_only=self._labels_only)

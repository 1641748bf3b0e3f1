"""Class scores from one-vs-one decisions, as in scikit-learn."""

import numpy as np
import torch
from torch import nn

from skrobust.bridge.autograd import with_backward


class PairAggregation(nn.Module):
    """Class scores from pairwise decisions: votes plus a confidence in (-1/3, 1/3) that breaks their ties.

    As ``sklearn.utils.multiclass._ovr_decision_function``: with s_c the sum of the confidences for class c, its score
    is votes_c + s_c / (3 (|s_c| + 1)). A vote changes sides at the confidence `threshold`. Its derivative is zero,
    and the second term alone misleads attacks: it is nearly flat for the classes with most votes. So the backward pass
    replaces each vote by the logistic function of 4 times the pair's confidence (chosen on digits, where it makes PGD
    up to 16 points stronger than without).
    """

    def __init__(self, n_classes, like, threshold=0.0):
        super().__init__()
        first, second = np.triu_indices(n_classes, k=1)
        self.register_buffer("first", _one_hot(first, n_classes, like))
        self.register_buffer("second", _one_hot(second, n_classes, like))
        self.threshold = threshold

    def votes(self, second_wins):
        """Votes of shape (n_samples, n_classes); `second_wins` of shape (n_samples, n_pairs): the second class wins."""
        second_wins = second_wins.to(self.first.dtype)
        return (1 - second_wins) @ self.first + second_wins @ self.second

    def forward(self, second_wins, confidences):
        """Scores; `confidences` of shape (n_samples, n_pairs) are those in the second class of each pair."""
        total = confidences @ (self.second - self.first)
        share = total / (3 * (total.abs() + 1))
        relaxed = self.votes(torch.sigmoid(4 * (confidences - self.threshold)))
        return with_backward(self.votes(second_wins) + share, relaxed + share)


def _one_hot(indices, n_classes, like):
    return torch.eye(n_classes, dtype=like.dtype, device=like.device)[torch.as_tensor(indices, device=like.device)]

"""The other classes that targeted runs aim at."""

import torch


def other_classes_by_score(scores, label, n_others):
    """The `n_others` classes other than each sample's `label` with the highest scores, highest first, as columns."""
    count = min(n_others, scores.shape[1] - 1)
    return scores.scatter(1, label[:, None], -torch.inf).topk(count, dim=1).indices

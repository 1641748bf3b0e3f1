"""The other classes that targeted runs aim at."""

import torch


def other_classes_by_score(scores, label, n_others):
    """The classes other than each sample's `label`, the highest score first.

    Returns
    -------
    Tensor of shape (n_samples, min(n_others, n_classes - 1))
    """
    count = min(n_others, scores.shape[1] - 1)
    return scores.scatter(1, label[:, None], -torch.inf).topk(count, dim=1).indices

"""Which other classes targeted runs aim at."""

import torch


def rivals_by_score(scores, label, n_rivals):
    """The classes other than each sample's `label`, the highest score first.

    Returns
    -------
    Tensor of shape (n_samples, min(n_rivals, n_classes - 1))
    """
    count = min(n_rivals, scores.shape[1] - 1)
    return scores.scatter(1, label[:, None], -torch.inf).topk(count, dim=1).indices

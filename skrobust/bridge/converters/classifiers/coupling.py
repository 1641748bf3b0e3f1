"""Class probabilities from pairwise ones, as in libsvm."""

import numpy as np
import torch


def couple_pairs(pairwise, n_classes):
    """Class probabilities p that agree best with pairwise ones: minimal sum over i, j of (r_ji p_i - r_ij p_j)^2.

    libsvm's ``multiclass_probability`` for a batch, with the same start, order of updates and stopping rule (0.005 / k,
    at most max(100, k) rounds), so that the result equals that of ``predict_proba``. `pairwise` has the
    probability of the first class of each pair (0, 1), (0, 2), ..., (1, 2), ...

    References
    ----------
    T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability estimates for multi-class classification by pairwise coupling",
    JMLR 2004, second method.
    """
    first, second = np.triu_indices(n_classes, k=1)
    pairwise = pairwise.clamp(1e-7, 1 - 1e-7)
    r = pairwise.new_zeros((pairwise.shape[0], n_classes, n_classes))
    r[:, first, second] = pairwise
    r[:, second, first] = 1 - pairwise
    Q = -r.transpose(1, 2) * r + torch.diag_embed(r.square().sum(dim=1))

    eps = 0.005 / n_classes
    p = pairwise.new_full((pairwise.shape[0], n_classes), 1 / n_classes)
    for _ in range(max(100, n_classes)):
        Qp = (Q @ p[:, :, None])[:, :, 0]
        pQp = (p * Qp).sum(dim=1, keepdim=True)
        running = (Qp - pQp).abs().amax(dim=1, keepdim=True) >= eps
        if not running.any():
            break
        updated = p
        for t in range(n_classes):
            Q_tt = Q[:, t, t, None]
            diff = (pQp - Qp[:, t, None]) / Q_tt
            step = torch.zeros_like(updated)
            step[:, t] = 1
            updated = (updated + diff * step) / (1 + diff)
            pQp = (pQp + diff * (diff * Q_tt + 2 * Qp[:, t, None])) / (1 + diff) / (1 + diff)
            Qp = (Qp + diff * Q[:, t]) / (1 + diff)
        p = torch.where(running, updated, p)
    return p

"""What attacks climb: functions of the class scores, higher where the attacker is better off."""

import torch


def _without(scores, label):
    """`scores` with the column of each sample's `label` at minus infinity."""
    return scores.scatter(1, label[:, None], -torch.inf)


def _at(scores, label):
    return scores.gather(1, label[:, None]).squeeze(1)


def margin(scores, label):
    """``max_{j != y} s_j - s_y``: above zero exactly where the model answers another class.

    Parameters
    ----------
    scores : Tensor of shape (n_samples, n_classes)
    label : Tensor of shape (n_samples,)
    """
    return _without(scores, label).amax(1) - _at(scores, label)


def cross_entropy(scores, label):
    """``log sum_{j != y} exp(s_j) - s_y``, of which the cross-entropy is the softplus.

    Its gradient has the direction of the cross-entropy's and ranks images alike, but it cannot round to zero
    where the model is confident, which would look like robustness.
    """
    return _without(scores, label).logsumexp(1) - _at(scores, label)


def dlr(scores, label):
    """Difference of logits ratio (Croce and Hein 2020), the margin over the gap of the first and third score.

    Two classes have no third score: the margin itself.
    """
    if scores.shape[1] < 3:
        return margin(scores, label)
    top = scores.topk(3, dim=1).values
    return margin(scores, label) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def rival_difference(scores, label, rival):
    """``s_i - s_y`` for one rival class i a sample."""
    return _at(scores, rival) - _at(scores, label)


def rival_dlr(scores, label, rival):
    """Targeted difference of logits ratio; fewer than four classes: the plain difference."""
    if scores.shape[1] < 4:
        return rival_difference(scores, label, rival)
    top = scores.topk(4, dim=1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return rival_difference(scores, label, rival) / scale.clamp_min(1e-12)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


class Goal:
    """What is wanted of each image: to leave its class, or to be taken for a given other one.

    Parameters
    ----------
    label : Tensor of shape (n_samples,)
        Class indices: the true ones, or those aimed at.
    targeted : bool, default=False
    """

    def __init__(self, label, targeted=False):
        self.label = label
        self.targeted = targeted
        self._sign = -1.0 if targeted else 1.0

    def __getitem__(self, index):
        """The goals of some of the samples."""
        return Goal(self.label[index], self.targeted)

    def margin(self, scores):
        """Above zero where the goal is reached."""
        return self._sign * margin(scores, self.label)

    def loss(self, scores, name):
        """The loss of `LOSSES` with that name, signed so that the attacker climbs."""
        return self._sign * LOSSES[name](scores, self.label)

    def reached(self, scores, margin=None):
        """Whether the goal is reached by more than the rounding of the scores; `margin` is theirs, if known."""
        slack = 64 * torch.finfo(scores.dtype).eps * scores.abs().amax(1)
        return (self.margin(scores) if margin is None else margin) > slack

"""Losses that attacks maximise: functions of the class scores, higher for more harmful images."""

import torch

# The margin of a clean image after the losses have scaled its scores.
_GAP = 10.0
# Margin of a success, at least, in units in the last place of the two scores in it.
_ROUNDINGS = 8


def _without(scores, label):
    """`scores` with the column of each sample's `label` at minus infinity."""
    return scores.scatter(1, label[:, None], -torch.inf)


def _at(scores, label):
    return scores.gather(1, label[:, None]).squeeze(1)


def margin(scores, label):
    """``max_{j != y} s_j - s_y`` of each sample: above zero exactly where the model answers another class."""
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
    return _ratio(margin(scores, label), top[:, 0] - top[:, 2])


def class_difference(scores, label, other):
    """``s_i - s_y`` for one other class i per sample."""
    return _at(scores, other) - _at(scores, label)


def targeted_dlr(scores, label, other):
    """Targeted difference of logits ratio; fewer than four classes: the plain difference."""
    if scores.shape[1] < 4:
        return class_difference(scores, label, other)
    top = scores.topk(4, dim=1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return _ratio(class_difference(scores, label, other), scale)


def _ratio(difference, scale):
    """``difference / scale``; the difference itself where a masked class, at minus infinity, is part of the scale."""
    finite = torch.isfinite(scale)
    return difference / torch.where(finite, scale, 1).clamp_min(torch.finfo(scale.dtype).tiny)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}
ASCENT_LOSSES = {*LOSSES, "kl"}
"""Names of the losses that attacks can maximise; "kl" compares with the scores of the clean image, see `Goal`."""


def other_classes_by_score(scores, label, n_others):
    """The `n_others` classes other than each sample's `label` with the highest scores, highest first, as columns."""
    n_others = min(n_others, scores.shape[1] - 1)
    return _without(scores, label).topk(n_others, dim=1).indices


class Goal:
    """Goal of each image: another class than `label`, or for targeted attacks `label` itself.

    ``goal[index]`` holds the goals of some of the images. Attacks maximise ``goal.margin(scores)`` or
    ``goal.loss(scores, name)``, and read ``goal.reached(scores)``.
    """

    def __init__(self, label, targeted=False, unit=None, reference=None):
        self.label = label
        self.targeted = targeted
        self.unit = unit
        self.reference = reference
        self._sign = -1.0 if targeted else 1.0

    def __getitem__(self, index):
        """The goals of some of the samples."""
        unit, reference = (None if part is None else part[index] for part in (self.unit, self.reference))
        return Goal(self.label[index], self.targeted, unit, reference)

    def measured_at(self, scores):
        """A copy for images with these `scores`: losses read scores in units of a tenth of each image's margin there.

        So no loss depends on the scale of the scores: a cross-entropy would saturate at logits of 1e20, and would be
        the same for all images at logits of 1e-20. Networks trained on cross-entropy have gaps of about 10.
        """
        gap = torch.maximum(margin(scores, self.label).abs(), self.rounding(scores))
        return Goal(self.label, self.targeted, gap.clamp_min(torch.finfo(gap.dtype).tiny) / _GAP, scores)

    def margin(self, scores):
        """Margin of shape (n_samples,), above zero exactly where the goal is reached.

        ``max_{j != y} s_j - s_y`` for the true class y; for a target class y its negative.
        """
        return self._sign * margin(scores, self.label)

    def margin_of(self, other, scores):
        """Score of class `other` of each sample minus that of its true class; for targeted attacks the margin."""
        return self.margin(scores) if self.targeted else class_difference(scores, self.label, other)

    def loss(self, scores, name):
        """The loss `name`, one of `ASCENT_LOSSES`, of shape (n_samples,), signed so that attacks maximise it.

        "kl" is the Kullback-Leibler divergence from the class probabilities of the clean images, whatever the label.
        """
        if name == "kl":
            if self.targeted:
                raise ValueError("loss='kl' has no target class: use another loss with y_target.")
            log_proba, reference = scores.log_softmax(1), self.reference.to(scores.dtype).log_softmax(1)
            return (reference.exp() * (reference - log_proba)).sum(1)
        return self._sign * LOSSES[name](self.scaled(scores), self.label)

    def scaled(self, scores):
        """Scores relative to that of the label, in units of the goal."""
        relative = scores - _at(scores, self.label)[:, None]
        return relative if self.unit is None else relative / self.unit.to(scores.dtype)[:, None]

    def reached(self, scores, margin=None):
        """Whether the goal is reached by more than the rounding of the scores; `margin`, if given, is their margin."""
        return (self.margin(scores) if margin is None else margin) > _ROUNDINGS * self.rounding(scores)

    def rounding(self, scores):
        """Rounding unit of the two scores in the margin; other classes, which may be masked, are ignored."""
        best = _without(scores, self.label).amax(1)
        return torch.finfo(scores.dtype).eps * torch.maximum(best.abs(), _at(scores, self.label).abs())

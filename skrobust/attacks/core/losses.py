"""Losses that attacks maximise: functions of the class scores, higher for more harmful images."""

import torch

# The gap between the two deciding scores of a clean image, in the units in which losses read scores.
_GAP = 10.0
# Units in the last place of the deciding scores by which a success must exceed a tie.
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
    """``s_i - s_y`` for one other class i a sample."""
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
    known = torch.isfinite(scale)
    return difference / torch.where(known, scale, 1).clamp_min(torch.finfo(scale.dtype).tiny)


LOSSES = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def other_classes_by_score(scores, label, n_others):
    """The `n_others` classes other than each sample's `label` with the highest scores, highest first, as columns."""
    count = min(n_others, scores.shape[1] - 1)
    return scores.scatter(1, label[:, None], -torch.inf).topk(count, dim=1).indices


class Goal:
    """Goal of each image: another class than `label`, or for targeted attacks `label` itself.

    ``goal[index]`` holds the goals of some of the images. An attack's author uses ``goal.margin(scores)`` or
    ``goal.loss(scores, name)``, which attacks maximise, and ``goal.reached(scores)``.
    """

    def __init__(self, label, targeted=False, unit=None):
        self.label = label
        self.targeted = targeted
        self.unit = unit
        self._sign = -1.0 if targeted else 1.0

    def __getitem__(self, index):
        """The goals of some of the samples."""
        return Goal(self.label[index], self.targeted, None if self.unit is None else self.unit[index])

    def measured_at(self, scores):
        """A copy whose losses read scores in units of a tenth of each image's margin at `scores`.

        So no loss depends on the scale of the scores: logits of 1e20 would saturate a cross-entropy, and in logits of
        1e-20 it would see no difference between the classes. Networks trained on cross-entropy have gaps of about 10.
        """
        gap = torch.maximum(margin(scores, self.label).abs(), self.rounding(scores))
        return Goal(self.label, self.targeted, gap.clamp_min(torch.finfo(gap.dtype).tiny) / _GAP)

    def margin(self, scores):
        """Margin of shape (n_samples,), above zero exactly where the goal is reached.

        ``max_{j != y} s_j - s_y`` for the true class y; for a target class y its negative.
        """
        return self._sign * margin(scores, self.label)

    def loss(self, scores, name):
        """The loss "cross_entropy", "margin" or "dlr" of shape (n_samples,), signed so that attacks maximise it."""
        return self._sign * LOSSES[name](self.scaled(scores), self.label)

    def scaled(self, scores):
        """Scores relative to that of the label, in units of the goal."""
        relative = scores - _at(scores, self.label)[:, None]
        return relative if self.unit is None else relative / self.unit.to(scores.dtype)[:, None]

    def reached(self, scores, margin=None):
        """Whether the goal is reached by more than the rounding of the scores; `margin` is theirs, if known."""
        return (self.margin(scores) if margin is None else margin) > _ROUNDINGS * self.rounding(scores)

    def rounding(self, scores):
        """Rounding unit of the two scores in the margin; other classes, such as masked ones, do not matter."""
        best = _without(scores, self.label).amax(1)
        return torch.finfo(scores.dtype).eps * torch.maximum(best.abs(), _at(scores, self.label).abs())

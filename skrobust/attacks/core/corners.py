"""Search among the corners of the l-infinity ball, which needs a ranking of the values and no slope."""

import functools

import torch

from .losses import class_difference, other_classes_by_score
from .solvers import wide

# What `gradient="worst"` adds to an ascent on a model that is constant nearly everywhere.
_N_ITER, _N_TARGETS = 30, 9


class Corners:
    """Stands in for a model in an ascent attack: the attack runs a corner search, ranked by the model's gradients,
    instead.
    """

    def __init__(self, model):
        self._model = model

    def run(self, search):
        search_corners(self._model, search, n_iter=_N_ITER, n_targets=_N_TARGETS)


def search_corners(model, search, *, n_iter, n_targets, progress=None):
    """Aim at `n_targets` other classes in turn, with at most `n_iter` gradients each; see `CornerSearch`."""
    first = search.remaining()
    if search.goal.targeted:
        other_classes = search.goal.label[first][:, None]
    else:
        other_classes = other_classes_by_score(model.scores(search.x[first]), search.goal.label[first], n_targets)
    for column in range(other_classes.shape[1]):
        still = ~search.done[first]
        if bool(still.any()):
            _aim(model, search, first[still], other_classes[still, column], n_iter, progress or (lambda: None))


def _aim(model, search, index, other, n_iter, progress):
    """Search the corners of the images `index` for the class `other`."""
    ball, goal = search.ball[index], search.goal[index]
    x = ball.x
    margin = _margin(model.scores(x), goal, other)
    share = torch.ones_like(margin)  # of the values that the gradient prefers flipped
    n_values = x[0].numel()
    for _ in range(n_iter):
        gradient, _ = model.gradient(x, functools.partial(_margin, goal=goal, other=other))
        wanted = ball.farthest(gradient)
        gain = (gradient * (wanted - x)).flatten(1)
        count = torch.ceil(share * (gain > 0).sum(1)).clamp_min(1)
        rank = gain.argsort(dim=1, descending=True).argsort(dim=1)
        flipped = ((rank < count[:, None]) & (gain > 0)).reshape(x.shape)
        candidates = torch.where(flipped, wanted, x)
        scores = model.scores(candidates)
        found = _margin(scores, goal, other)
        better = found > margin
        x = torch.where(wide(better, x), candidates, x)
        margin = torch.where(better, found, margin)
        # Halve a block that did not raise the margin; stop when not even the best single value does.
        over = ~better & (count <= 1)
        share = torch.where(better, (2 * share).clamp_max(1), share / 2).clamp_min(0.5 / n_values)
        still = search.offer(index, candidates, scores) & ~over
        progress()
        if not bool(still.all()):
            index, x, margin, share, other = index[still], x[still], margin[still], share[still], other[still]
            ball, goal = ball[still], goal[still]
            if not len(index):
                return


def _margin(scores, goal, other):
    """Score of the other class minus that of the true class, or the margin of a target class."""
    return goal.margin(scores) if goal.targeted else class_difference(scores, goal.label, other)

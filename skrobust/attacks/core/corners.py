"""Search among the corners of the l-infinity ball, which needs a ranking of the values and no slope."""

import functools

import torch

from .losses import rival_difference
from .other_classes import rivals_by_score

# What `gradient="worst"` adds to an ascent on a model that is constant nearly everywhere.
_N_ITER, _N_TARGETS = 30, 9


class Corners:
    """An attacker who searches corners, whatever the attack.

    Parameters
    ----------
    victim : ModuleVictim
        Its gradients rank the values.
    """

    def __init__(self, victim):
        self._victim = victim

    def run(self, search):
        search_corners(self._victim, search, n_iter=_N_ITER, n_targets=_N_TARGETS)


def search_corners(attacker, search, *, n_iter, n_targets, progress=None):
    """Search for `n_targets` rivals in turn, with at most `n_iter` gradients each; see `CornerSearch`."""
    first = search.standing()
    if search.goal.targeted:
        rivals = search.goal.label[first][:, None]
    else:
        rivals = rivals_by_score(attacker.scores(search.x[first]), search.goal.label[first], n_targets)
    for column in range(rivals.shape[1]):
        still = ~search.lost[first]
        if bool(still.any()):
            _aim(attacker, search, first[still], rivals[still, column], n_iter, progress or (lambda: None))


def _aim(attacker, search, index, rival, n_iter, progress):
    """Search the corners of the images `index` for the class `rival`."""
    ball, goal = search.ball[index], search.goal[index]
    x = ball.x
    margin = _margin(attacker.scores(x), goal, rival)
    share = torch.ones_like(margin)  # of the values that the gradient would flip
    n_values = x[0].numel()
    for _ in range(n_iter):
        gradient, _ = attacker.gradient(x, functools.partial(_margin, goal=goal, rival=rival))
        wanted = ball.farthest(gradient)
        gain = (gradient * (wanted - x)).flatten(1)
        count = torch.ceil(share * (gain > 0).sum(1)).clamp_min(1)
        rank = gain.argsort(dim=1, descending=True).argsort(dim=1)
        flipped = ((rank < count[:, None]) & (gain > 0)).reshape(x.shape)
        candidates = torch.where(flipped, wanted, x)
        scores = attacker.scores(candidates)
        found = _margin(scores, goal, rival)
        better = found > margin
        x = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), candidates, x)
        margin = torch.where(better, found, margin)
        # A block that brought nothing is halved; when not even the best single value helps, the search is over.
        over = ~better & (count <= 1)
        share = torch.where(better, (2 * share).clamp_max(1), share / 2).clamp_min(0.5 / n_values)
        still = search.offer(index, candidates, scores) & ~over
        progress()
        if not bool(still.all()):
            index, x, margin, share, rival = index[still], x[still], margin[still], share[still], rival[still]
            ball, goal = ball[still], goal[still]
            if not len(index):
                return


def _margin(scores, goal, rival):
    """How far the rival is ahead of the true class, or a target of the best other class."""
    return goal.margin(scores) if goal.targeted else rival_difference(scores, goal.label, rival)

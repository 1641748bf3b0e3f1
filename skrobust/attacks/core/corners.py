"""Search among the corners of the l-infinity ball, which uses gradients only to rank the features."""

import functools

import torch

from .solvers import wide

# What `gradient="worst"` adds to an ascent on a model that is constant nearly everywhere.
_N_ITER, _N_TARGETS = 30, 9


class Corners:
    """Entry among the models of an ascent attack: instead of an ascent, it runs a corner search ranked by the gradients
    of `model`.
    """

    def __init__(self, model):
        self._model = model

    def run(self, search):
        search_corners(self._model, search, n_iter=_N_ITER, n_targets=_N_TARGETS)


def search_corners(model, search, *, n_iter, n_targets, progress=None):
    """Aim at `n_targets` other classes in turn, with at most `n_iter` gradients each; see `CornerSearch`."""
    index = search.remaining()
    for other in search.other_classes(model, index, n_targets):
        still = ~search.done[index]
        if bool(still.any()):
            _aim(model, search, index[still], other[still], n_iter, progress or (lambda: None))


def _aim(model, search, index, other, n_iter, progress):
    """Search the corners of the images `index` for the class `other`."""
    ball, goal = search.ball[index], search.goal[index]
    x = ball.x
    margin = goal.margin_of(other, model.scores(x))
    share = torch.ones_like(margin)  # of the features that the gradient prefers at their other end
    n_features = x[0].numel()
    for _ in range(n_iter):
        gradient, _ = model.gradient(x, functools.partial(goal.margin_of, other))
        corner = ball.farthest(gradient)
        gain = (gradient * (corner - x)).flatten(1)
        n_flips = torch.ceil(share * (gain > 0).sum(1)).clamp_min(1)
        rank = gain.argsort(dim=1, descending=True).argsort(dim=1)
        flipped = ((rank < n_flips[:, None]) & (gain > 0)).reshape(x.shape)
        candidates = torch.where(flipped, corner, x)
        scores = model.scores(candidates)
        new_margin = goal.margin_of(other, scores)
        better = new_margin > margin
        x = torch.where(wide(better, x), candidates, x)
        margin = torch.where(better, new_margin, margin)
        # Halve a block that did not raise the margin; stop when not even the best single feature does.
        finished = ~better & (n_flips <= 1)
        share = torch.where(better, (2 * share).clamp_max(1), share / 2).clamp_min(0.5 / n_features)
        still = search.offer(index, candidates, scores) & ~finished
        progress()
        if not bool(still.all()):
            index, x, margin, share, other = index[still], x[still], margin[still], share[still], other[still]
            ball, goal = ball[still], goal[still]
            if not len(index):
                return

"""The state of an attack on one batch: the worst image found so far for each sample, and who still stands."""

from contextlib import contextmanager

import torch

from ._ball import vector_norm


class Search:
    """Keeps, for each image, the most harmful candidate that was offered.

    Candidates are judged by the margin, which is above zero exactly where the attacker's goal is reached: a success
    beats any failure, however high the failure's loss.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...)
        Images at the start.
    goal : Goal
    ball : Ball
    images : ndarray of shape (n_samples,)
        Positions of the samples in X, by which their random streams are found.
    streams : ImageStreams
    judge : ModuleVictim or ScoreVictim
        The model that says how harmful an image is.
    progress : tqdm
    leave : bool, default=True
        Let images go once they are lost. False: go on to make them as harmful as possible, which is what carries
        over to another model.
    nearest : bool, default=False
        Go on after a success, for one that is nearer to the start.
    spare_wrong : bool, default=True
        Leave images alone whose start is a success. False: attack them too, and keep what the attack made of them.
    start_counts : bool, default=True
        Count the start among the candidates. False: the best of what is offered, however little harm it does.
    """

    def __init__(
        self,
        x,
        goal,
        ball,
        images,
        streams,
        judge,
        progress,
        leave=True,
        nearest=False,
        spare_wrong=True,
        start_counts=True,
    ):
        self.x = x
        scores = judge.scores(x)
        self.goal = goal.measured_at(scores)
        self.ball = ball
        self.images = images
        self.streams = streams
        self.judge = judge
        self.progress = progress
        self.leave = leave and not nearest
        self.nearest = nearest
        self.best = x.clone()
        self.spare_wrong = spare_wrong
        self.start_counts = start_counts
        self.margin = goal.margin(scores)
        reached = goal.reached(scores)
        if not spare_wrong:
            # The start of a wrong image is no candidate: papers count what the attack makes of it.
            self.margin = torch.where(reached, -torch.inf, self.margin)
            reached = torch.zeros_like(reached)
        if not start_counts:
            self.margin = torch.full_like(self.margin, -torch.inf)
        # Already misclassified: not even a nearest success can improve on the start.
        self.lost = reached if leave else torch.zeros_like(reached)
        self.distance = torch.where(reached, 0.0, torch.inf)
        self._latest = None

    def standing(self):
        """Indices of the images that are still to be attacked."""
        return (~self.lost).nonzero().squeeze(1)

    def offer(self, index, candidates, scores):
        """Keep the candidates for the images `index` that are more harmful than what is known; `scores` are theirs.

        Returns
        -------
        still : Tensor of bool
            Which of `index` are still to be attacked.
        """
        if self._latest is not None:
            self._latest[0][index], self._latest[1][index] = candidates, scores
            return torch.ones_like(index, dtype=torch.bool)
        goal = self.goal[index]
        margin = goal.margin(scores)
        reached = goal.reached(scores, margin)
        margin = margin.to(self.margin.dtype)
        better = margin > self.margin[index]
        if not self.spare_wrong:
            moved = (candidates != self.x[index]).flatten(1).any(1)
            reached, better = reached & moved, better & moved
        if self.nearest:
            distance = vector_norm(candidates.double() - self.x[index].double(), self.ball.norm).to(self.distance.dtype)
            known = self.distance[index]
            better = torch.where(reached, distance < known, better & ~torch.isfinite(known))
            self.distance[index[better & reached]] = distance[better & reached]
        chosen = index[better]
        self.best[chosen], self.margin[chosen] = candidates[better], margin[better]
        if self.leave:
            self.lost[index] |= reached
        return ~self.lost[index]

    @contextmanager
    def keeping(self, keep, index):
        """A run on the images `index` of which every iterate counts ("best"), or its last one alone ("last")."""
        if keep == "best":
            yield
            return
        x = self.x.clone()
        self._latest = x, self.judge.scores(x)
        try:
            yield
            x, scores = self._latest
        finally:
            self._latest = None
        self.offer(index, x[index], scores[index])

    def rehearse(self, judge):
        """The standing images' indices, and a search of them that another model judges.

        Nobody leaves it early: an image that barely fools one model seldom fools another.
        """
        index = self.standing()
        parts = (self.x[index], self.goal[index], self.ball[index], self.images[index.cpu().numpy()])
        words = {"leave": False, "spare_wrong": self.spare_wrong, "start_counts": self.start_counts}
        return index, Search(*parts, self.streams, judge, self.progress, **words)

"""The state of an attack on one batch: the worst image found so far for each sample, and who still stands."""

import torch

from .ball import vector_norm


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
    """

    def __init__(self, x, goal, ball, images, streams, judge, progress, leave=True, nearest=False):
        self.x = x
        self.goal = goal
        self.ball = ball
        self.images = images
        self.streams = streams
        self.judge = judge
        self.progress = progress
        self.leave = leave and not nearest
        self.nearest = nearest
        self.best = x.clone()
        scores = judge.scores(x)
        self.margin = goal.margin(scores)
        reached = goal.reached(scores)
        # Whom even a nearest success cannot improve: the start itself is one.
        self.lost = reached if leave else torch.zeros_like(reached)
        self.distance = torch.where(reached, 0.0, torch.inf)

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
        goal = self.goal[index]
        margin = goal.margin(scores)
        reached = goal.reached(scores, margin)
        margin = margin.to(self.margin.dtype)
        better = margin > self.margin[index]
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

    def rehearse(self, judge):
        """The standing images' indices, and a search of them that another model judges.

        Nobody leaves it early: an image that barely fools one model seldom fools another.
        """
        index = self.standing()
        parts = (self.x[index], self.goal[index], self.ball[index], self.images[index.cpu().numpy()])
        return index, Search(*parts, self.streams, judge, self.progress, leave=False)

"""The state of an attack on one batch: the most harmful image found so far for each sample, and what remains."""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from .ball import vector_norm
from .losses import other_classes_by_score


@dataclass(eq=False, repr=False)
class Search:
    """The state of an attack on one batch: images, goals, balls, and the best candidates so far.

    `Attack.search_batch` receives it. An attack takes the images in ``search.remaining()``, computes candidates inside
    ``search.ball`` and offers them with their scores. The search keeps the candidate with the largest margin of each
    image; the margin is above zero exactly where the goal is reached, so a success beats any failure.

    An `index` is a Tensor of int: positions in this batch, such as ``search.remaining()`` returns.

    `images` are the positions of the samples in X, which select their random streams; `oracle` is the model whose
    scores decide how harmful an image is. With `stop_at_success` the attack on an image ends at its first
    success. With `nearest` it runs to the end, and the success nearest to the start is kept. With `skip_misclassified`
    images that reach the goal at the start are not attacked; otherwise they are, and the result is kept. With
    `include_start` the start counts as a candidate; otherwise the most harmful offered candidate is kept, even if it
    is less harmful than the start.

    Attributes
    ----------
    x, goal, ball
        Starting images, goals and admissible sets; ``search.x[index]``, ``search.goal[index]`` and
        ``search.ball[index]`` select some of them. Losses of `goal` read scores relative to those of `x`.
    best : Tensor of the shape of `x`
        The most harmful candidate of each image.
    margin : Tensor of shape (n_samples,)
        Its margin.
    done : Tensor of bool of shape (n_samples,)
        Images that need no further candidates.
    progress : tqdm
        The progress bar, which advances by itself after each batch.
    """

    x: torch.Tensor
    goal: object
    ball: object
    images: np.ndarray
    streams: object
    oracle: object
    progress: object
    stop_at_success: bool = True
    nearest: bool = False
    skip_misclassified: bool = True
    include_start: bool = True

    def __post_init__(self):
        scores = self.oracle.start(self.x)
        self.margin, reached = self.goal.margin(scores), self.goal.reached(scores)
        self.goal = self.goal.measured_at(scores)
        self.best = self.x.clone()
        if not self.skip_misclassified:
            # A misclassified image is not a candidate itself: published tables count the image after the attack.
            self.margin = torch.where(reached, -torch.inf, self.margin)
            reached = torch.zeros_like(reached)
        if not self.include_start:
            self.margin = torch.full_like(self.margin, -torch.inf)
        # Already misclassified: not even a nearest success can improve on the start.
        self.done = reached if self.stop_at_success else torch.zeros_like(reached)
        self.distance = torch.where(reached, 0.0, torch.inf).double()
        self._start_margin = self.margin.clone()
        self._is_rough = torch.zeros_like(reached)  # images whose best candidate has only a rough margin so far
        self.stop_at_success = self.stop_at_success and not self.nearest
        self._latest = None

    def remaining(self):
        """Index of the images that are still to be attacked."""
        return (~self.done).nonzero().squeeze(1)

    def sample(self, index, *, restart=0, block=0, surface=False):
        """A random point of the ball around each image, with the dtype of `x`.

        Parameters
        ----------
        index : Tensor of int
        restart, block : int, default=0
            Which stream of each image to use. The same two numbers give the same points, in batches of any size.
        surface : bool, default=False
            Points on the surface of the ball (corners in l-infinity) instead of uniform inside.
        """
        return self.ball[index].sample(
            self.streams, self.images[index.cpu().numpy()], restart=restart, block=block, surface=surface
        )

    def uniform(self, index, shape, *, restart=0, block=0):
        """Uniform numbers in [0, 1): a float64 Tensor of shape ``(len(index), *shape)``; see `sample`."""
        return self.draw(index, lambda generator: generator.random(shape), restart=restart, block=block)

    def normal(self, index, shape, *, restart=0, block=0):
        """Standard normal numbers: a float64 Tensor of shape ``(len(index), *shape)``; see `sample`."""
        return self.draw(index, lambda generator: generator.standard_normal(shape), restart=restart, block=block)

    def draw(self, index, sample, *, restart=0, block=0):
        """Random numbers of any kind: ``sample(generator)`` for the `numpy.random.Generator` of each image."""
        images = self.images[index.cpu().numpy()]
        return torch.as_tensor(self.streams.draw(images, sample, restart=restart, block=block), device=index.device)

    def other_classes(self, model, index, n_classes=None):
        """Other classes to aim at in turn, the highest score first, each as a Tensor of one class per image in `index`.

        At most `n_classes`, None: all. Targeted attacks have one entry, the target class.
        """
        label = self.goal.label[index]
        if self.goal.targeted:
            return label[None]
        scores = model.scores(self.x[index])
        return other_classes_by_score(scores, label, n_classes or scores.shape[1] - 1).T

    def offer(self, index, candidates, scores):
        """Keep each candidate that is more harmful than the best so far of its image.

        Parameters
        ----------
        index : Tensor of int
            Images of the candidates.
        candidates : Tensor of shape (len(index), ...)
            In the dtype of `x` and inside the ball, as `Ball.project` returns them.
        scores : Tensor of shape (len(index), n_classes)
            Class scores of the candidates, ``model.scores(candidates)``.

        Returns
        -------
        remaining : Tensor of bool of shape (len(index),)
            Which of these images are still to be attacked.
        """
        if self._latest is not None:
            self._latest[0][index], self._latest[1][index] = candidates, scores
            return torch.ones_like(index, dtype=torch.bool)
        goal = self.goal[index]
        margin = goal.margin(scores)
        reached = goal.reached(scores, margin)
        margin = margin.to(self.margin.dtype)
        moved = None if self.skip_misclassified else (candidates != self.x[index]).flatten(1).any(1)
        if moved is not None:
            reached = reached & moved
        if self.nearest:
            distance, best_distance = torch.full_like(self.distance[index], torch.inf), self.distance[index]
            if bool(reached.any()):
                delta = candidates[reached].double() - self.x[index[reached]].double()
                distance[reached] = vector_norm(delta, self.ball.norm)
        doubtful = self.oracle.is_rough & (reached & (distance < best_distance) if self.nearest else reached)
        if bool(doubtful.any()):
            exact = self.oracle.exact_scores(candidates[doubtful])
            margin[doubtful] = goal[doubtful].margin(exact).to(margin.dtype)
            reached[doubtful] &= goal[doubtful].reached(exact)
        better = margin > self.margin[index]
        if moved is not None:
            better = better & moved
        if self.nearest:
            better = torch.where(reached, distance < best_distance, better & ~torch.isfinite(best_distance))
            self.distance[index[better & reached]] = distance[better & reached]
        chosen = index[better]
        self.best[chosen], self.margin[chosen] = candidates[better], margin[better]
        self._is_rough[chosen] = self.oracle.is_rough & ~doubtful[better]
        if self.stop_at_success:
            self.done[index] |= reached
        return ~self.done[index]

    def finish(self):
        """Judge the best candidates by exact scores; those less harmful than the start are replaced by it.

        Successes have been judged when they were offered. `Attack.perturb` calls this at the end of a batch.
        """
        index = self._is_rough.nonzero().squeeze(1)
        if not len(index):
            return
        goal, scores = self.goal[index], self.oracle.exact_scores(self.best[index])
        margin = goal.margin(scores).to(self.margin.dtype)
        if self.include_start:
            worse = margin < self._start_margin[index]
            self.best[index[worse]] = self.x[index[worse]]
            margin = torch.where(worse, self._start_margin[index], margin)
        self.margin[index] = margin
        self._is_rough[index] = False

    @contextmanager
    def keeping(self, keep, index):
        """Context of one run on the images `index`: the most harmful ("best") or the last iterate ("last") counts."""
        if keep == "best":
            yield
            return
        x = self.x.clone()
        self._latest = x, self.oracle.scores(x)
        try:
            yield
            x, scores = self._latest
        finally:
            self._latest = None
        self.offer(index, x[index], scores[index])

    def with_oracle(self, oracle, *, stop_at_success=False):
        """Index of the remaining images, and a search of them in which another model's scores decide."""
        index = self.remaining()
        parts = (self.x[index], self.goal[index], self.ball[index], self.images[index.cpu().numpy()])
        return index, Search(
            *parts,
            self.streams,
            oracle,
            self.progress,
            stop_at_success=stop_at_success,
            skip_misclassified=self.skip_misclassified,
            include_start=self.include_start,
        )

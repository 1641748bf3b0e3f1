"""What the fast minimum-norm attacks share: one path per image, and one pass through the model per step."""

import abc
from functools import partial

import torch
from numpy.typing import ArrayLike

from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized

from .ball import row_norm
from .base import EPS_OR_INFINITY, GradientAttack


@parametrized
class NearestAttack(GradientAttack):
    """Base of attacks that minimise the distance along one path per image, with one forward and backward pass per step.

    Parameters
    ----------
    eps : float or array-like, default=inf
        Infinity: the nearest adversarial image found, at any distance. A number: all iterates are projected on the
        ball of that radius, and the attack on an image ends at the first adversarial one.
    n_iter : int, default=100
        Steps; each takes one pass forward and one backward.
    """

    eps: ArrayLike = parameter(float("inf"), *EPS_OR_INFINITY, positional=True)
    n_iter: int = parameter(100, AT_LEAST_1)

    def search_batch(self, model, search):
        index = search.remaining()
        path = self._path(search.ball[index])
        for step in range(self.n_iter):
            goal = search.goal[index]
            (gradient,), scores, (value,) = model.gradients(path.x, [partial(self._value, goal)])
            reached = goal.reached(scores)
            still = search.offer(index, path.x, scores)
            search.progress.update()
            path.move(gradient, value, reached, step / self.n_iter)
            path.x = path.ball.project(path.x)  # onto the box, and the ball of a finite eps
            if not bool(still.all()):
                index, path = index[still], path[still]
                if not len(index):
                    return
        search.offer(index, path.x, model.scores(path.x))

    def _value(self, goal, scores):
        """The value that a step ascends, one per sample."""
        return goal.margin(scores)

    @abc.abstractmethod
    def _path(self, ball):
        """The `Path` at its start."""

    def n_passes(self, n_classes):
        return self.n_iter


class Path(abc.ABC):
    """Iterates of some images, and the state of their next steps, in the dtype of the images.

    The search measures the distance of each success again, in double precision.

    Every attribute is a setting, or has one row per image and can be indexed, as tensors, `Ball` and `Adam` can.

    Parameters
    ----------
    ball : Ball
        Its centres are the images. The iterates are projected on it after each move.
    """

    def __init__(self, ball):
        self.ball = ball
        self.norm = ball.norm
        self.x = ball.x
        spread = (ball.box.high - ball.box.low).expand(ball.x.shape).flatten(1).amax(1)
        # Lengths are given for values in [0, 1], and are multiplied by this.
        self.unit = torch.where(torch.isfinite(spread), spread, 1.0)

    @abc.abstractmethod
    def move(self, gradient, value, reached, share):
        """One step from `x`; `share` of the steps are done."""

    def distance(self):
        """Distance of the iterates from the images."""
        return row_norm((self.x - self.ball.x).flatten(1), self.norm)

    def __getitem__(self, index):
        """The paths of some of the images."""
        part = object.__new__(type(self))
        for name, value in vars(self).items():
            setattr(part, name, value if isinstance(value, str | int | float) else value[index])
        return part


def normalized(gradient, norm="l2"):
    """Gradient of l2 norm 1 for each sample, zero where it is zero; and its length in another norm."""
    flat = gradient.flatten(1)
    peak = flat.abs().amax(1, keepdim=True)
    flat = flat / torch.where(peak > 0, peak, 1)  # first: the squares of a vanishing gradient would underflow
    length = row_norm(flat, "l2")[:, None]
    direction = (flat / torch.where(length > 0, length, 1)).reshape(gradient.shape)
    return direction, peak.squeeze(1) * row_norm(flat, norm)

"""FMN: the nearest adversarial image, by gradient steps in a ball whose radius follows the boundary."""

import math
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval

from skrobust.attacks.core.ball import NORMS, row_norm
from skrobust.attacks.core.nearest import NearestAttack, Path, normalized
from skrobust.attacks.core.solvers import level_above, wide
from skrobust.signals.parameters import POSITIVE, parameter, parametrized

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf", "l0": "linf"}
# Constants of the paper: the last step as a share of the first, and the last relative change of the radius.
_FINAL_STEP, _FINAL_CHANGE = 0.01, 0.001
# Rounds of the projection on the ball cut by the box. The radius is a guess itself: no more are needed.
_ROUNDS = 3


@parametrized
class FMN(NearestAttack):
    """Fast minimum-norm attack: gradient steps on the margin, projected on a ball whose radius is adapted.

    Until an image is adversarial, the radius is 1 + gamma times the distance at which the linearised margin vanishes.
    Afterwards it shrinks by a factor ``1 - gamma`` while the iterate is adversarial, and grows by ``1 + gamma`` while
    it is not. The length of the steps and gamma fall along a half cosine.

    In l0 the radius is a number of features. It starts at one, and every change is by at least one.

    Parameters
    ----------
    norm : {"linf", "l2", "l1", "l0"}, default="linf"
        Norm of the distance; "l0" is the number of changed features.
    step_size : float, default=1.0
        Length of the first step in l2, for values in [0, 1]; other ranges of `clip` scale it. The last is a hundredth.
    gamma : float, default=0.05
        Relative change of the radius at the first step; at the last it is 0.001.

    Notes
    -----
    The authors' first radius has no factor 1 + gamma. Where the scores are piecewise linear, the iterates then approach
    the boundary without ever crossing it.

    References
    ----------
    M. Pintor, F. Roli, W. Brendel, B. Biggio, "Fast minimum-norm adversarial attacks through adaptive norm
    constraints", NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import FMN
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC(C=10).fit(X, y)
    >>> X_adv = FMN(norm="l2").perturb(model, X, y)
    >>> exact = np.abs(model.decision_function(X)) / np.linalg.norm(model.coef_)
    >>> bool(np.all(np.linalg.norm(X_adv - X, axis=1) < 1.01 * exact))
    True
    """

    norm: str = parameter("linf", {*NORMS, "l0"})
    step_size: float = parameter(1.0, POSITIVE)
    gamma: float = parameter(0.05, Interval(Real, 0, 1, closed="neither"))

    def _path(self, ball):
        return _AdaptiveBall(ball, self.step_size, self.gamma)


class _AdaptiveBall(Path):
    def __init__(self, ball, step_size, gamma):
        super().__init__(ball)
        self.step_size, self.gamma = step_size, gamma
        self.radius = torch.full_like(self.unit, 1 if self.norm == "l0" else torch.inf)
        self.nearest = torch.full_like(self.unit, torch.inf)
        self.low, self.high = ((bound - ball.x).flatten(1) for bound in (ball.box.low, ball.box.high))

    def move(self, gradient, value, reached, share):
        decay = (1 + math.cos(math.pi * share)) / 2
        step = self.step_size * (_FINAL_STEP + (1 - _FINAL_STEP) * decay)
        gamma = _FINAL_CHANGE + max(self.gamma - _FINAL_CHANGE, 0) * decay
        distance = self.distance()
        nearer = reached & (distance > 0)  # misclassified images, attacked with perturb_all, are to move as well
        self.nearest = torch.where(nearer, torch.minimum(self.nearest, distance), self.nearest)
        direction, slope = normalized(gradient, _DUAL[self.norm])
        if self.norm == "l0":
            inwards = torch.minimum(self.radius - 1, (self.radius * (1 - gamma)).floor()).clamp_min(1)
            outwards = torch.maximum(self.radius + 1, (self.radius * (1 + gamma)).floor())
            outwards = outwards.clamp_max(gradient[0].numel())
        else:
            to_boundary = value.abs() / slope.clamp_min(torch.finfo(slope.dtype).tiny)
            outwards = (1 + gamma) * torch.where(torch.isfinite(self.nearest), self.radius, distance + to_boundary)
            inwards = self.radius * (1 - gamma)
        self.radius = torch.where(reached, torch.minimum(inwards, self.nearest), outwards)
        delta = self.x - self.ball.x + wide(step * self.unit, gradient) * direction
        self.x = self.ball.box.clamp(self.ball.x + self._within(delta.flatten(1)).reshape(delta.shape))

    def _within(self, delta):
        """Rows projected on the ball of the present radius, cut by the box."""
        radius = self.radius[:, None]
        if self.norm == "linf":
            return torch.clamp(delta, -radius, radius)
        if self.norm == "l0":
            return _largest(delta, self.radius)
        outside = row_norm(torch.clamp(delta, self.low, self.high), self.norm) > self.radius
        if not bool(outside.any()):
            return delta
        project = _scaled if self.norm == "l2" else _shifted
        return torch.where(outside[:, None], project(delta, self.low, self.high, radius), delta)


def _scaled(delta, low, high, radius):
    """``clip(s * delta, low, high)`` of an l2 norm of at most `radius`, and nearly that, for each row."""
    squares, free, left = delta.square(), 1.0, radius.square()
    for _ in range(_ROUNDS):  # every round finds more features that the box stops, and scales the others up
        moving = (free * squares).sum(1, keepdim=True).clamp_min(torch.finfo(delta.dtype).tiny)
        scaled = (left.clamp_min(0) / moving).sqrt() * delta
        inside = torch.clamp(scaled, low, high)
        free = (inside == scaled).to(delta.dtype)
        left = radius.square() - ((1 - free) * inside.square()).sum(1, keepdim=True)
    return inside


def _shifted(delta, low, high, radius):
    """`delta` shrunk by a shift towards zero and clipped, of an l1 norm of about `radius`, for each row."""
    shift = level_above(delta.abs(), radius)
    for _ in range(_ROUNDS):
        shrunk = delta - torch.clamp(delta, -shift, shift)
        inside = torch.clamp(shrunk, low, high)
        n_free = ((inside == shrunk) & (shrunk != 0)).to(delta.dtype).sum(1, keepdim=True).clamp_min(1)
        shift = (shift - (radius - row_norm(inside, "l1")[:, None]) / n_free).clamp_min(0)
    return inside


def _largest(delta, n_kept):
    """Rows with only their `n_kept` entries of largest magnitude, and those equal to the last."""
    magnitude, n_kept = delta.abs(), n_kept.long()
    top = magnitude.topk(int(n_kept.max()), dim=1).values
    return torch.where(magnitude >= top.gather(1, n_kept[:, None] - 1), delta, 0)

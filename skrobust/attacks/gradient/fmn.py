"""FMN: the nearest adversarial image, by gradient steps in a ball whose radius follows the boundary."""

import math
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval

from skrobust.attacks.core.ball import Ball
from skrobust.attacks.core.nearest import NearestAttack, Path, normalized
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import POSITIVE, parameter, parametrized

_DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
# Constants of the paper: the last step as a share of the first, and the last relative change of the radius.
_FINAL_STEP, _FINAL_CHANGE = 0.01, 0.001


@parametrized
class FMN(NearestAttack):
    """Fast minimum-norm attack: gradient steps on the margin, projected on a ball whose radius is adapted.

    Until an image is adversarial, the radius is 1 + gamma times the distance at which the linearised margin vanishes.
    Afterwards it shrinks by a factor ``1 - gamma`` while the iterate is adversarial, and grows by ``1 + gamma`` while
    it is not. The length of the steps and gamma fall along a half cosine.

    Parameters
    ----------
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

    step_size: float = parameter(1.0, POSITIVE)
    gamma: float = parameter(0.05, Interval(Real, 0, 1, closed="neither"))

    def _path(self, ball):
        return _AdaptiveBall(ball, self.step_size, self.gamma)


class _AdaptiveBall(Path):
    def __init__(self, ball, step_size, gamma):
        super().__init__(ball)
        self.step_size, self.gamma = step_size, gamma
        self.radius = torch.full_like(self.unit, torch.inf)
        self.nearest = torch.full_like(self.unit, torch.inf)

    def move(self, gradient, value, reached, share):
        decay = (1 + math.cos(math.pi * share)) / 2
        step = self.step_size * (_FINAL_STEP + (1 - _FINAL_STEP) * decay)
        gamma = _FINAL_CHANGE + max(self.gamma - _FINAL_CHANGE, 0) * decay
        distance = self.distance()
        nearer = reached & (distance > 0)  # misclassified images, attacked with perturb_all, are to move as well
        self.nearest = torch.where(nearer, torch.minimum(self.nearest, distance), self.nearest)
        slope = torch.linalg.vector_norm(gradient.double().flatten(1), ord=_DUAL[self.norm], dim=1)
        to_boundary = value.double().abs() / slope.clamp_min(torch.finfo(torch.float64).tiny)
        outwards = (1 + gamma) * torch.where(torch.isfinite(self.nearest), self.radius, distance + to_boundary)
        inwards = torch.minimum(self.radius * (1 - gamma), self.nearest)
        self.radius = torch.where(reached, inwards, outwards)
        target = self.x.double() + wide(step * self.unit, gradient) * normalized(gradient)
        self.x = Ball(self.ball.x, wide(self.radius, target), self.norm, self.ball.box).project(target)

"""DDN: the nearest adversarial image in l2, by steps whose direction and length are chosen separately."""

import math
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils._param_validation import Interval

from skrobust.attacks.core.nearest import NearestAttack, Path, normalized
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import POSITIVE, parameter, parametrized


@parametrized
class DDN(NearestAttack):
    """Decoupled direction and norm attack: gradient steps on the margin, on a sphere whose radius is adapted.

    The gradient turns the perturbation; its l2 norm shrinks by a factor ``1 - gamma`` while the iterate is adversarial
    and grows by ``1 + gamma`` while it is not. The length of the steps falls from 1 to 0.01 along a half cosine.

    Parameters
    ----------
    radius : float, default=1.0
        First radius, for values in [0, 1]; other ranges of `clip` scale it.
    gamma : float, default=0.05
        Relative change of the radius at each step.

    Notes
    -----
    As in later programs of its authors, the margin takes the place of the cross-entropy.

    References
    ----------
    J. Rony, L. Hafemann, L. Oliveira, I. Ben Ayed, R. Sabourin, E. Granger, "Decoupling direction and norm for
    efficient gradient-based l2 adversarial attacks and defenses", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import DDN
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC(C=10).fit(X, y)
    >>> X_adv = DDN().perturb(model, X, y)
    >>> exact = np.abs(model.decision_function(X)) / np.linalg.norm(model.coef_)
    >>> bool(np.all(np.linalg.norm(X_adv - X, axis=1) < 1.1 * exact))
    True
    """

    norm: ClassVar[str] = "l2"
    radius: float = parameter(1.0, POSITIVE)
    gamma: float = parameter(0.05, Interval(Real, 0, 1, closed="neither"))

    def _path(self, ball):
        return _Sphere(ball, self.radius, self.gamma)


class _Sphere(Path):
    def __init__(self, ball, radius, gamma):
        super().__init__(ball)
        self.gamma = gamma
        self.radius = radius * self.unit

    def move(self, gradient, value, reached, share):
        step = 0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2
        self.radius = torch.where(reached, 1 - self.gamma, 1 + self.gamma) * self.radius
        direction, _ = normalized(gradient)
        delta = self.x - self.ball.x + wide(step * self.unit, gradient) * direction
        length = torch.linalg.vector_norm(delta.flatten(1), dim=1).clamp_min(torch.finfo(delta.dtype).tiny)
        self.x = self.ball.box.clamp(self.ball.x + wide(self.radius / length, delta) * delta)

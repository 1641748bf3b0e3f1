"""PDPGD: the nearest adversarial image, by primal-dual proximal gradient steps."""

import math

import torch
from torch.nn.functional import softplus

from skrobust.attacks.core.adam import Adam
from skrobust.attacks.core.nearest import NearestAttack, Path
from skrobust.attacks.core.solvers import level_above, wide
from skrobust.signals.parameters import POSITIVE, parameter, parametrized

# Constants of the authors. The last step and the last dual step, as shares of the first ones.
_STEP_DECAY, _DUAL_DECAY = 0.01, 0.1
# First dual step: change of the logarithm of the ratio between the weights of the distance and of the goal.
_DUAL_STEP = 0.1
# First and smallest value of that ratio; the largest is the inverse of the smallest.
_FIRST_RATIO, _LEAST_RATIO = 0.01, 1e-6
# Weight of the old average in the running average of the weights.
_DUAL_AVERAGE = 0.9
# Steps of the subproblem of each proximal step.
_PROXIMAL_STEPS = 5


@parametrized
class PDPGD(NearestAttack):
    """Primal-dual proximal gradient descent: descends ‖x' - x‖ + λ · softplus(-margin), with λ found on the way.

    The image takes steps of Adam on the second term and, in their metric, proximal steps on the norm; in l2, steps of
    Adam on both terms, as the authors' PDGD. The multiplier λ rises while the image is not adversarial and falls while
    it is. The margin is read in units of a tenth of that of the clean image, so that the scale of the scores does not
    matter.

    Parameters
    ----------
    n_iter : int, default=500
        Steps; each takes one pass forward and one backward.
    learning_rate : float, default=0.1
        Length of the first steps, for values in [0, 1]; other ranges of `clip` scale it. The last is a hundredth.

    References
    ----------
    A. Matyasko, L.-P. Chau, "PDPGD: primal-dual proximal gradient descent adversarial attack", arXiv:2106.01538.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import PDPGD
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC(C=10).fit(X, y)
    >>> X_adv = PDPGD(norm="l1").perturb(model, X, y)
    >>> exact = np.abs(model.decision_function(X)) / np.abs(model.coef_).max()
    >>> bool(np.all(np.abs(X_adv - X).sum(axis=1) < 1.1 * exact))
    True
    """

    n_iter: int = parameter(500)
    learning_rate: float = parameter(0.1, POSITIVE)

    def _value(self, goal, scores):
        return -softplus(-goal.loss(scores, "margin"))

    def _path(self, ball):
        return _PrimalDual(ball, self.learning_rate, self.n_iter)


class _PrimalDual(Path):
    def __init__(self, ball, learning_rate, n_iter):
        super().__init__(ball)
        self.learning_rate, self.n_iter, self.n_steps = learning_rate, n_iter, 0
        self.adam = Adam(ball.x)
        self.log_ratio = torch.full_like(self.unit, math.log(_FIRST_RATIO))
        self.share = torch.sigmoid(self.log_ratio)  # weight of the distance; that of the goal is 1 - share

    def move(self, gradient, value, reached, share):
        self.n_steps += 1
        start, tiny = self.ball.x, torch.finfo(gradient.dtype).tiny
        if self.norm == "l2":  # smooth except at the image: its own gradient leads nearer than proximal steps
            delta = (self.x - start) / wide(self.unit * self.distance().clamp_min(tiny), start)
            gradient = wide(1 - self.share, start) * gradient - wide(self.share, start) * delta
        direction, scale = self.adam.step(gradient)
        step = self.learning_rate * self.unit * _STEP_DECAY**share
        moved = self.ball.box.clamp(self.x + wide(step, scale) * direction)
        self.x = moved if self.norm == "l2" else self._proximal(moved - start, scale, step)
        dual_step = _DUAL_STEP * (_DUAL_DECAY + (1 - _DUAL_DECAY) * max(1 - self.n_steps / max(self.n_iter - 1, 1), 0))
        bound = -math.log(_LEAST_RATIO)
        self.log_ratio = (self.log_ratio + dual_step * (2 * reached.to(gradient.dtype) - 1)).clamp(-bound, bound)
        self.share = _DUAL_AVERAGE * self.share + (1 - _DUAL_AVERAGE) * torch.sigmoid(self.log_ratio)

    def _proximal(self, moved, scale, step):
        """Image after a proximal step on the norm from the perturbation `moved`, in the metric of Adam's `scale`."""
        start = self.ball.x
        largest = scale.flatten(1).amax(1)
        metric = scale / wide(largest, scale)
        weight = self.share / (1 - self.share) * step / (self.unit * largest)
        delta = moved
        for _ in range(_PROXIMAL_STEPS):
            delta = self._prox(delta - metric * (delta - moved), weight)
            delta = self.ball.box.clamp(start + delta) - start
        return self.ball.box.clamp(start + delta)

    def _prox(self, delta, weight):
        """Proximal operator of `weight` times the norm."""
        magnitude = delta.abs().flatten(1)
        if self.norm == "l1":
            shrunk = (magnitude - weight[:, None]).clamp_min(0)
        else:
            # Magnitudes are cut at the level above which they sum to the weight.
            shrunk = torch.minimum(magnitude, level_above(magnitude, weight).clamp_min(0))
        return shrunk.reshape(delta.shape).copysign(delta)

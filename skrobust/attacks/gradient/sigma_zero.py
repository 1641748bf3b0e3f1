"""Sigma-zero: the adversarial image with the fewest changed features, by descent of a smooth l0 norm."""

import math
from typing import ClassVar

import torch

from skrobust.attacks.core.adam import Adam
from skrobust.attacks.core.nearest import NearestAttack, Path
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import POSITIVE, parameter, parametrized

# Constants of the authors: the last step as a share of the first, and the change of the threshold per unit of the step.
_FINAL_STEP, _THRESHOLD_CHANGE = 0.1, 0.01


@parametrized
class SigmaZero(NearestAttack):
    """Sigma-zero: changes the fewest features, by descending a smooth l0 norm and zeroing small changes.

    Each step of Adam descends the part of the margin that is missing plus the mean of ``d² / (d² + sigma)`` over the
    features, with d the change of a feature. Changes below a threshold are then set to zero. The threshold rises while
    the image is adversarial and falls while it is not. The length of the steps falls along a half cosine.

    Parameters
    ----------
    n_iter : int, default=500
        Steps; each takes one pass forward and one backward.
    step_size : float, default=1.0
        Length of the first step, for values in [0, 1]; other ranges of `clip` scale it. The last is a tenth.
    sigma : float, default=1e-3
        Smoothness of the norm: a smaller value is nearer to l0.
    threshold : float, default=0.3
        First threshold, for values in [0, 1].

    Notes
    -----
    The margin is read in units of a tenth of that of the clean image, so that the scale of the scores does not matter.

    References
    ----------
    A. E. Cinà, F. Villani, M. Pintor, L. Schönherr, B. Biggio, M. Pelillo, "sigma-zero: gradient-based optimization of
    l0-norm adversarial examples", ICLR 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import SigmaZero
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression(max_iter=500).fit(X[:1000], y[:1000])
    >>> X_adv = SigmaZero(n_iter=100).perturb(model, X[:20], y[:20])
    >>> float(model.score(X_adv, y[:20])), bool((X_adv != X[:20]).sum(axis=1).max() < 15)
    (0.0, True)
    """

    norm: ClassVar[str] = "l0"
    n_iter: int = parameter(500)
    step_size: float = parameter(1.0, POSITIVE)
    sigma: float = parameter(1e-3, POSITIVE)
    threshold: float = parameter(0.3, POSITIVE)

    def _value(self, goal, scores):
        return goal.loss(scores, "margin").clamp(max=0)

    def _path(self, ball):
        return _Sparsified(ball, self.step_size, self.sigma, self.threshold)


class _Sparsified(Path):
    def __init__(self, ball, step_size, sigma, threshold):
        super().__init__(ball)
        self.first_step = self.step = step_size
        self.sigma = sigma
        self.adam = Adam(ball.x)
        self.threshold = torch.full_like(self.unit, threshold)

    def move(self, gradient, value, reached, share):
        start, unit = self.ball.x, wide(self.unit, self.x)
        delta = (self.x - start) / unit
        smooth_l0 = 2 * self.sigma * delta / (delta.square() + self.sigma).square() / delta[0].numel()
        descent = smooth_l0 - unit * gradient
        peak = descent.flatten(1).abs().amax(1).clamp_min(torch.finfo(descent.dtype).tiny)
        direction, _ = self.adam.step(descent / wide(peak, descent))
        moved = self.ball.box.clamp(self.x - self.step * unit * direction)
        decay = (1 + math.cos(math.pi * share)) / 2
        self.step = self.first_step * (_FINAL_STEP + (1 - _FINAL_STEP) * decay)
        change = _THRESHOLD_CHANGE * self.step
        self.threshold = (self.threshold + torch.where(reached, change, -change)).clamp(0, 1)
        small = (moved - start).abs() < wide(self.threshold, moved) * unit
        self.x = torch.where(small, start, moved)

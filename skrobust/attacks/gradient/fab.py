"""FAB: the nearest adversarial image, by projections onto the linearised boundary."""

from functools import partial
from numbers import Real

import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import Interval

from skrobust.attacks.core.ball import vector_norm
from skrobust.attacks.core.base import EPS_OR_INFINITY, GradientAttack
from skrobust.attacks.core.solvers import capped_rate, wide
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized


@parametrized
class FAB(GradientAttack):
    """Fast adaptive boundary attack, targeted form: steps to the linearised boundary with one other class at a time.

    Each step goes from the iterate, and with a small weight from the original image, to the nearest point of the
    box on the hyperplane where the linearised scores of the true and the other class are equal; from adversarial
    points it goes back towards the image. Minimises the distance, and so needs no step size; `eps` only says which
    adversarial images count.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`. Infinity: the nearest adversarial image
        found, at any distance.
    n_iter : int, default=100
        Steps for each other class and restart.
    n_restarts : int, default=1
        The first starts from the image, the others from a random point at most eps / 2 away.
    n_targets : int, default=9
        Maximum number of other classes, the highest score first.
    alpha_max : float, default=0.1
        Largest weight of the original image's projection.
    eta : float, default=1.05
        Overshoot beyond the hyperplane.
    beta : float, default=0.9
        Share of the distance that is kept on the way back.

    References
    ----------
    F. Croce, M. Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import FAB
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC(C=10).fit(X, y)
    >>> X_adv = FAB(eps=np.inf, norm="l2").perturb(model, X, y)
    >>> bool(np.abs(model.decision_function(X_adv)).max() < 0.1 * np.abs(model.decision_function(X)).min())
    True
    """

    eps: ArrayLike = parameter(0.1, *EPS_OR_INFINITY, positional=True)
    n_iter: int = parameter(100, AT_LEAST_1)
    n_restarts: int = parameter(1, AT_LEAST_1)
    n_targets: int = parameter(9, AT_LEAST_1)
    alpha_max: float = parameter(0.1, Interval(Real, 0, 1, closed="both"))
    eta: float = parameter(1.05, Interval(Real, 1, None, closed="left"))
    beta: float = parameter(0.9, Interval(Real, 0, 1, closed="both"))

    def search_batch(self, model, search):
        for turn, other in enumerate(search.other_classes(model, slice(None), self.n_targets)):
            for restart in range(self.n_restarts):
                index = search.remaining()
                if not len(index):
                    return
                self._approach(model, search, index, other, restart, turn)

    def _approach(self, model, search, index, other, restart, turn):
        """One run towards the boundary with one other class."""
        ball = search.ball[index]
        start = x = ball.x
        if restart:
            images = search.images[index.cpu().numpy()]
            block = turn * self.n_restarts + restart
            x = ball.shrunk(0.5).sample(search.streams, images, restart=block, surface=True)
        for _ in range(self.n_iter):
            goal = search.goal[index]
            (gradient,), scores, (value,) = model.gradients(x, [partial(goal.margin_of, other[index])])
            # Aim one rounding unit beyond the tie, on which the iterates would end where scores are coarse.
            value = value - goal.rounding(scores)
            x = self._step(ball.box, start, x, gradient, value)
            scores = model.scores(x)
            # On a piecewise linear model the iterates converge to the boundary, and their margin may never exceed
            # rounding. So they turn back at any positive margin; the search decides which of them are successes.
            crossed = goal.margin(scores) > 0
            inside = crossed & ball.contains(x)
            still = torch.ones_like(crossed)
            if bool(inside.any()):
                still[inside] = search.offer(index[inside], x[inside], scores[inside])
            search.progress.update()
            back = start + self.beta * (x - start)
            x = torch.where(wide(crossed, x), back, x)
            if not bool(still.all()):
                index, start, x, ball = index[still], start[still], x[still], ball[still]
                if not len(index):
                    return

    def _step(self, box, start, x, gradient, value):
        """From the iterate and the image to the hyperplane ``value + gradient · (z - x) = 0``."""
        offset = value.double() - (gradient.double() * x.double()).flatten(1).sum(1)
        ahead = shortest_step(box, x, gradient, offset, self.norm)
        direct = shortest_step(box, start, gradient, offset, self.norm)
        far, near = (vector_norm(delta, self.norm).clamp_min(1e-300) for delta in (direct, ahead))
        alpha = wide((near / (near + far)).clamp(0, self.alpha_max), x)
        target = (x + self.eta * ahead) * (1 - alpha) + (start + self.eta * direct) * alpha
        return box.clamp(target).to(x.dtype)

    def n_passes(self, n_classes):
        return min(self.n_targets, n_classes - 1) * self.n_restarts * self.n_iter


def shortest_step(box, z, gradient, offset, norm):
    """Shortest step within the box from `z` to ``gradient · z + offset = 0``, or as far as the box allows."""
    flat = gradient.double().flatten(1)
    value = (flat * z.double().flatten(1)).sum(1) + offset
    sign = -torch.sign(value)[:, None] * torch.sign(flat)
    weight = flat.abs()
    low, high = (bound.double().expand(z.shape).flatten(1) for bound in (box.low, box.high))
    position = z.double().flatten(1)
    cap = torch.where(sign > 0, high - position, position - low).clamp_min(0)
    if norm == "l1":
        order = weight.argsort(dim=1, descending=True, stable=True)
        weight, cap = weight.gather(1, order), cap.gather(1, order)
        gains = torch.where(weight > 0, weight * cap, 0)
        before = torch.cat([torch.zeros_like(gains[:, :1]), gains[:, :-1].cumsum(1)], dim=1)
        missing = (value.abs()[:, None] - before).clamp_min(0)
        size = torch.minimum(torch.where(weight > 0, missing / weight.clamp_min(1e-300), 0), cap)
        size = torch.zeros_like(size).scatter_(1, order, size)
    else:
        rate = weight if norm == "l2" else (weight > 0).to(weight.dtype)
        s = capped_rate(weight, rate, cap, value.abs())
        size = torch.minimum(torch.nan_to_num(s[:, None] * rate, nan=0.0, posinf=torch.inf), cap)
        size = torch.where(torch.isfinite(size), size, 0)
    return (size * sign).reshape(z.shape)

"""Auto-PGD: projected ascent that sets its own step size."""

import numpy as np
import torch

from skrobust.attacks.core.base import AscentAttack
from skrobust.attacks.core.losses import LOSSES, other_classes_by_score, targeted_dlr
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized

# Constants of the paper: first checkpoint, shortening of the periods, shortest period (shares of n_iter); momentum;
# share of a period's steps that must raise the loss.
_FIRST, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06
_MOMENTUM = 0.75
_RISING = 0.75


@parametrized
class APGD(AscentAttack):
    """Auto-PGD: momentum steps of size 2 eps, halved and restarted from the best point where they stop paying.

    At checkpoints the step of an image is halved when fewer than 75 % of the period's steps raised its loss, or when
    neither step nor best loss changed over the period.

    Parameters
    ----------
    norm : {"linf", "l2"}, default="linf"
        Norm of the ball.
    n_iter : int, default=100
        Steps of each restart.
    loss : {"cross_entropy", "margin", "dlr", "targeted_dlr"}, default="cross_entropy"
        "targeted_dlr" climbs towards one other class after the other, the highest score first. With fewer than four
        classes it is the plain difference of scores, as is "dlr" with two.
    n_targets : int, default=9
        Other classes of "targeted_dlr", at most.

    References
    ----------
    F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import APGD, PGD
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1200], y[1000:1200]
    >>> attacks = [APGD(loss="targeted_dlr", n_iter=20, random_state=0), PGD(n_iter=180, random_state=0)]
    >>> auto, plain = (model.score(attack.perturb(model, X, y), y) for attack in attacks)
    >>> bool(auto <= plain)
    True
    """

    norm: str = parameter("linf", {"linf", "l2"})
    n_iter: int = parameter(100)
    loss: str = parameter("cross_entropy", {*LOSSES, "targeted_dlr"})
    n_targets: int = parameter(9, AT_LEAST_1)

    def search_batch(self, model, search):
        goal = search.goal
        if self.loss != "targeted_dlr" or goal.targeted:
            name = "dlr" if self.loss == "targeted_dlr" else self.loss
            losses = [lambda scores, at: goal[at].loss(scores, name)]
        else:
            other_classes = other_classes_by_score(model.scores(search.x), goal.label, self.n_targets)
            losses = [
                lambda scores, at, other=other: targeted_dlr(scores, goal.label[at], other[at])
                for other in other_classes.T
            ]
        for turn, loss in enumerate(losses):
            for restart in range(self.n_restarts):
                index = search.remaining()
                if not len(index):
                    return
                x = search.ball[index].project(self._start(search, index, turn * self.n_restarts + restart))
                with search.keeping(self.keep, index):
                    _ascend(model, search, index, x, loss, self.n_iter)

    def _start(self, search, index, restart):
        ball, shape = search.ball[index], tuple(search.x.shape[1:])

        def noise(generator):
            if self.norm == "linf":
                delta = generator.uniform(-1, 1, size=shape)
                return delta / np.abs(delta).max()
            delta = generator.standard_normal(shape)
            return delta / np.linalg.norm(delta)

        delta = search.draw(index, noise, restart=restart)
        return (ball.x.double() + ball.eps * delta).to(ball.x.dtype)

    def _n_ticks(self, n_classes):
        turns = min(self.n_targets, n_classes - 1) if self.loss == "targeted_dlr" else 1
        return turns * self.n_restarts * self.n_iter


def _ascend(model, search, index, x, loss, n_iter):
    """One run from `x`."""

    def evaluate(index, x):
        (gradient,), scores, (value,) = model.gradients(x, [lambda scores: loss(scores, index)])
        return gradient, value, search.offer(index, x, scores)

    gradient, value, still = evaluate(index, x)
    ball = search.ball[index]
    state = {
        "x": x,
        "previous": x,
        "gradient": gradient,
        "value": value,
        "best": x,
        "best_gradient": gradient,
        "best_value": value,
        "step": torch.full_like(value, 2.0),  # in eps
        "rises": torch.zeros_like(value),
        "halved": torch.ones_like(value, dtype=torch.bool),
        "best_value_then": value,
    }
    period, since = max(int(_FIRST * n_iter), 1), 0
    for iteration in range(n_iter):
        if not bool(still.all()):
            index, ball = index[still], ball[still]
            state = {name: values[still] for name, values in state.items()}
        if not len(index):
            return
        now = _State(state)
        x = _momentum_step(ball, now, first=iteration == 0)
        gradient, value, still = evaluate(index, x)
        search.progress.update()
        state["previous"], state["x"], state["gradient"] = now.x, x, gradient
        state["rises"] = now.rises + (value > now.value)
        state["value"] = value
        risen = value > now.best_value
        state["best"] = torch.where(wide(risen, x), x, now.best)
        state["best_gradient"] = torch.where(wide(risen, x), gradient, now.best_gradient)
        state["best_value"] = torch.where(risen, value, now.best_value)
        since += 1
        if since == period:
            _checkpoint(state, period)
            since, period = 0, max(period - max(int(_SHORTER * n_iter), 1), max(int(_SHORTEST * n_iter), 1))


class _State:
    """The images' state by attribute."""

    def __init__(self, values):
        self.__dict__.update(values)


def _momentum_step(ball, now, first):
    step = ball.eps * wide(now.step, now.x)
    ahead = ball.project(now.x + step * ball.direction(now.x, now.gradient))
    share = 1.0 if first else _MOMENTUM
    return ball.project(now.x + share * (ahead - now.x) + (1 - share) * (now.x - now.previous))


def _checkpoint(state, period):
    """Halve the steps that do not pay, and take their images back to the best point."""
    now = _State(state)
    stuck = ~now.halved & (now.best_value <= now.best_value_then)
    halve = (now.rises <= _RISING * period) | stuck
    state["halved"], state["best_value_then"] = halve, now.best_value
    state["step"] = torch.where(halve, now.step / 2, now.step)
    state["rises"] = torch.zeros_like(now.rises)
    back = wide(halve, now.x)
    state["x"] = torch.where(back, now.best, now.x)
    state["gradient"] = torch.where(back, now.best_gradient, now.gradient)

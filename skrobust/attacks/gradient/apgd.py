"""Auto-PGD: projected ascent that sets its own step size."""

import numpy as np
import torch

from skrobust.attacks.core.base import AscentAttack
from skrobust.attacks.core.losses import ASCENT_LOSSES, targeted_dlr
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized

# Constants of the paper. Steps between checkpoints: the first, their decrease, the fewest, as shares of n_iter.
_FIRST_PERIOD, _PERIOD_DECREASE, _LEAST_PERIOD = 0.22, 0.03, 0.06
# Weight of the step; the rest is the previous step.
_STEP_WEIGHT = 0.75
# Share of the steps between two checkpoints that must raise the loss.
_RISING = 0.75


@parametrized
class APGD(AscentAttack):
    """Auto-PGD: momentum steps of size 2 eps, halved and restarted from the best point where progress stalls.

    At checkpoints the step of an image is halved when fewer than 75 % of the period's steps raised its loss, or when
    neither step nor best loss changed over the period.

    Parameters
    ----------
    norm : {"linf", "l2"}, default="linf"
        Norm of the ball.
    n_iter : int, default=100
        Steps of each restart.
    loss : {"cross_entropy", "margin", "dlr", "kl", "targeted_dlr"}, default="cross_entropy"
        "targeted_dlr" aims at the other classes in turn, the highest score first. With fewer than four classes it is
        the plain difference of scores, as is "dlr" with two.
    n_targets : int, default=9
        Maximum number of other classes that "targeted_dlr" aims at.

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
    loss: str = parameter("cross_entropy", {*ASCENT_LOSSES, "targeted_dlr"})
    n_targets: int = parameter(9, AT_LEAST_1)

    def search_batch(self, model, search):
        goal = search.goal
        if self.loss != "targeted_dlr" or goal.targeted:
            name = "dlr" if self.loss == "targeted_dlr" else self.loss
            losses = [lambda scores, at: goal[at].loss(scores, name)]
        else:
            other_classes = search.other_classes(model, slice(None), self.n_targets)
            losses = [
                lambda scores, at, other=other: targeted_dlr(scores, goal.label[at], other[at])
                for other in other_classes
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

    def n_passes(self, n_classes):
        turns = min(self.n_targets, n_classes - 1) if self.loss == "targeted_dlr" else 1
        return turns * self.n_restarts * self.n_iter


def _ascend(model, search, index, x, loss, n_iter):
    """One run from `x`."""

    def evaluate(index, x):
        (gradient,), scores, (value,) = model.gradients(x, [lambda scores: loss(scores, index)])
        return gradient, value, search.offer(index, x, scores)

    gradient, value, still = evaluate(index, x)
    ball, state = search.ball[index], _State(x, gradient, value)
    period, n_steps = max(int(_FIRST_PERIOD * n_iter), 1), 0
    for iteration in range(n_iter):
        if not bool(still.all()):
            index, ball, state = index[still], ball[still], state[still]
        if not len(index):
            return
        x = state.next_point(ball, first=iteration == 0)
        gradient, value, still = evaluate(index, x)
        search.progress.update()
        state.move(x, gradient, value)
        n_steps += 1
        if n_steps == period:
            state.check(period)
            shorter = period - max(int(_PERIOD_DECREASE * n_iter), 1)
            period, n_steps = max(shorter, int(_LEAST_PERIOD * n_iter), 1), 0


class _State:
    """Iterates of some images, with one row per image in each attribute; ``state[index]`` holds some of them."""

    def __init__(self, x, gradient, value):
        self.x = self.previous = self.best = x
        self.gradient = self.best_gradient = gradient
        self.value = self.best_value = self.checked_value = value
        self.step = torch.full_like(value, 2.0)  # in eps
        self.n_rises = torch.zeros_like(value)  # since the last checkpoint
        self.halved = torch.ones_like(value, dtype=torch.bool)  # at the last checkpoint

    def __getitem__(self, index):
        part = object.__new__(_State)
        part.__dict__.update({name: values[index] for name, values in vars(self).items()})
        return part

    def next_point(self, ball, first):
        """A momentum step; the first has no momentum."""
        step = ball.eps * wide(self.step, self.x)
        ahead = ball.project(self.x + step * ball.direction(self.x, self.gradient))
        weight = 1.0 if first else _STEP_WEIGHT
        return ball.project(self.x + weight * (ahead - self.x) + (1 - weight) * (self.x - self.previous))

    def move(self, x, gradient, value):
        """Go to `x`, where the loss has the given gradient and value."""
        self.n_rises = self.n_rises + (value > self.value)
        self.previous, self.x, self.gradient, self.value = self.x, x, gradient, value
        better = value > self.best_value
        self.best = torch.where(wide(better, x), x, self.best)
        self.best_gradient = torch.where(wide(better, x), gradient, self.best_gradient)
        self.best_value = torch.where(better, value, self.best_value)

    def check(self, period):
        """Checkpoint after `period` steps: where progress stalled, halve the step and go back to the best point."""
        stuck = ~self.halved & (self.best_value <= self.checked_value)
        self.halved = (self.n_rises <= _RISING * period) | stuck
        self.checked_value = self.best_value
        self.step = torch.where(self.halved, self.step / 2, self.step)
        self.n_rises = torch.zeros_like(self.n_rises)
        back = wide(self.halved, self.x)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)

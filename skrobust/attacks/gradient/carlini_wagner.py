"""Carlini and Wagner's l2 attack: the nearest adversarial image by penalty and binary search."""

from typing import ClassVar

import torch
from numpy.typing import ArrayLike

from skrobust.attacks.core.adam import Adam
from skrobust.attacks.core.base import EPS_OR_INFINITY, GradientAttack
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, POSITIVE, parameter, parametrized

# Number of times that a run checks for convergence, and the factor by which the objective must have fallen in between.
_N_CHECKS, _DECREASE = 10, 0.9999


@parametrized
class CarliniWagner(GradientAttack):
    """Carlini and Wagner's l2 attack: minimises ‖x' - x‖₂² + c · max(s_y - max_{j≠y} s_j, -confidence).

    Adam runs in the variable w with x' = tanh(w) scaled to the box (without a box: in x' itself). c is found for
    each image by binary search: smaller after a success, larger after a failure.

    Parameters
    ----------
    eps : float or array-like, default=inf
        Infinity: return the nearest adversarial image found, at any distance. A number: return the first adversarial
        image found within that distance.
    confidence : float, default=0.0
        Margin that a success must have.
    n_iter : int, default=1000
        Steps of Adam for each c.
    learning_rate : float, default=5e-3
        Step size of Adam.
    binary_search_steps : int, default=5
        Number of values of c tried for each image.
    initial_const : float, default=1e-2
        The first c.
    abort_early : bool, default=True
        End an image's run when a tenth of the steps did not lower its objective.

    Notes
    -----
    The defaults are those of CleverHans 2.1, which the front-end paper used. The scores are read in units of a tenth
    of each clean image's gap between the two deciding scores, so that c does not depend on the scale of the scores.
    `confidence` is in the model's own scores.

    References
    ----------
    N. Carlini, D. Wagner, "Towards evaluating the robustness of neural networks", IEEE S&P 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import CarliniWagner
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1020], y[1000:1020]
    >>> X_adv = CarliniWagner(n_iter=100, learning_rate=0.05).perturb(model, X, y)
    >>> model.score(X_adv, y)
    0.0
    >>> bool(np.linalg.norm(X_adv - X, axis=1).mean() < 0.8)
    True
    """

    eps: ArrayLike = parameter(float("inf"), *EPS_OR_INFINITY, positional=True)
    confidence: float = parameter(0.0, NON_NEGATIVE)
    n_iter: int = parameter(1000, AT_LEAST_1)
    learning_rate: float = parameter(0.005, POSITIVE)
    binary_search_steps: int = parameter(5, AT_LEAST_1)
    initial_const: float = parameter(0.01, POSITIVE)
    abort_early: bool = parameter(True, "boolean")
    norm: ClassVar[str] = "l2"

    def search_batch(self, model, search):
        index = search.remaining()
        n = len(index)
        const = torch.full((n,), self.initial_const, dtype=torch.float64, device=index.device)
        low, high = torch.zeros_like(const), torch.full_like(const, torch.inf)
        for _ in range(self.binary_search_steps):
            at = (~search.done[index]).nonzero().squeeze(1)
            if not len(at):
                return
            success = torch.zeros(n, dtype=torch.bool, device=index.device)
            success[at] = self._minimise(model, search, index[at], const[at])
            high = torch.where(success, torch.minimum(high, const), high)
            low = torch.where(success, low, torch.maximum(low, const))
            const = torch.where(torch.isfinite(high), (low + high) / 2, const * 10)

    def _minimise(self, model, search, index, const):
        """One run of Adam at one c per image; returns for which images it found an adversarial image."""
        n = len(index)
        success = torch.zeros(n, dtype=torch.bool, device=index.device)
        at = torch.arange(n, device=index.device)
        ball = search.ball[index]
        space = _Space(ball)
        w = space.enter(ball.x)
        adam = Adam(w)
        checked_objective = torch.full_like(const, torch.inf)
        check_every = max(1, self.n_iter // _N_CHECKS)
        for step in range(1, self.n_iter + 1):
            x = space.leave(w)
            goal = search.goal[index[at]]

            def penalty(scores, goal=goal):
                return (-goal.margin(scores)).clamp_min(-self.confidence)

            (gradient,), scores, (value,) = model.gradients(x, [penalty])
            adversarial = self._is_adversarial(goal, scores)
            success[at] |= adversarial
            still = self._offer(search, index[at], ball, x, scores, adversarial)
            search.progress.update()
            delta = x.double() - ball.x.double()
            weight = const[at] / search.goal.unit[index[at]].double()
            objective = delta.square().flatten(1).sum(1) + weight * value.double()
            if self.abort_early and step % check_every == 0:
                still = still & (objective <= _DECREASE * checked_objective[at])
                checked_objective[at] = objective
            if not bool(still.all()):
                at, x, w, gradient, delta = at[still], x[still], w[still], gradient[still], delta[still]
                adam, ball, weight = adam[still], ball[still], weight[still]
                if not len(at):
                    break
                space = _Space(ball)
            slope = (2 * delta + wide(weight, delta) * gradient.double()) * space.slope(w)
            direction, _ = adam.step(slope)
            w = w - self.learning_rate * direction
        else:
            x = space.leave(w)
            scores = model.scores(x)
            goal = search.goal[index[at]]
            adversarial = self._is_adversarial(goal, scores)
            success[at] |= adversarial
            self._offer(search, index[at], ball, x, scores, adversarial)
        return success

    def _is_adversarial(self, goal, scores):
        return goal.reached(scores) & (goal.margin(scores) >= self.confidence)

    def _offer(self, search, index, ball, x, scores, adversarial):
        """Offer the adversarial images inside the ball to the search; return which images remain."""
        still = torch.ones_like(adversarial)
        offered = adversarial & ball.contains(x)
        if bool(offered.any()):
            still[offered] = search.offer(index[offered], x[offered], scores[offered])
        return still

    def n_passes(self, n_classes):
        return self.binary_search_steps * self.n_iter

    def _n_copies(self, n_classes):
        return 2


class _Space:
    """Change of variable to a w without bounds: x' = centre + half · tanh(w); without a box x' itself."""

    def __init__(self, ball):
        self._dtype = ball.x.dtype
        self._box = ball.box
        self._curved = ball.box.finite
        low, high = ball.box.low.double(), ball.box.high.double()
        self._free = high > low
        if self._curved:
            self._centre, self._half = (high + low) / 2, (high - low) / 2

    def enter(self, x):
        if not self._curved:
            return x.double()
        # Slightly inside, where the inverse of tanh is finite. A feature that cannot move has w = 0.
        unit = torch.where(self._half > 0, (x.double() - self._centre) / self._half.clamp_min(1e-300), 0)
        return torch.atanh(unit.clamp(-1, 1) * 0.999999)

    def leave(self, w):
        """The image, in the dtype of X and inside the box."""
        x = (self._centre + self._half * torch.tanh(w) if self._curved else w).to(self._dtype)
        return self._box.clamp(x)

    def slope(self, w):
        """∂x' / ∂w."""
        return self._half * (1 - torch.tanh(w).square()) if self._curved else self._free.to(w.dtype)

"""Projected gradient descent, and its presets without random start: iterative and momentum iterative FGSM."""

from typing import ClassVar

from skrobust.attacks.core.base import STEP_GRADIENTS, AscentAttack
from skrobust.attacks.core.climb import climb
from skrobust.signals.parameters import NON_NEGATIVE, POSITIVE, parameter, parametrized


@parametrized
class PGD(AscentAttack):
    """Projected gradient descent: ascent of a loss in the ball, from random starts.

    x ← P(x + step_size · d(∇loss(x))) where P is the Euclidean projection onto the ball cut by the box, and d the
    steepest direction of the norm: signs (l-infinity), the normalised gradient (l2), its largest features (l1).
    The most harmful of all iterates and restarts is kept for each image; the attack on it ends at the first success.

    Parameters
    ----------
    step_size : float or None, default=None
        Length of a step. None: ``2.5 * eps / n_iter``.
    n_restarts : int, default=1
        Runs; the most harmful result of each image counts. With ``gradient="smooth"`` every second restart gradually
        sharpens the backward pass of hard thresholds.
    random_start : bool, default=True
        Start from a point drawn uniformly from the ball. False: from the image, where restarts change nothing.
    momentum : float, default=0.0
        Decay of the accumulated gradient, each normalised by its l1 norm.
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `skrobust.as_module`. "worst" tries the first four in turn and keeps the
        most harmful result of each image; where the exact gradient is zero everywhere, as behind hard thresholds, it
        also searches the corners of an l-infinity ball, see `CornerSearch`. "iterated" refines "projection" 20 times in
        each step, as published: the support is the one that the front end selects where the step leads. "skip" makes
        the attack semi-white: the front end is unknown to it.

    References
    ----------
    A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import PGD
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X_adv = PGD(eps=0.1, n_iter=10, random_state=0).perturb(model, X[1000:1100], y[1000:1100])
    >>> bool(model.score(X_adv, y[1000:1100]) < 0.7 < 0.9 < model.score(X[1000:1100], y[1000:1100]))
    True
    >>> bool(abs(X_adv - X[1000:1100]).max() <= 0.1)
    True
    """

    step_size: float | None = parameter(None, POSITIVE)
    random_start: bool = parameter(True, "boolean")
    momentum: float = parameter(0.0, NON_NEGATIVE)
    gradient: str = parameter("exact", STEP_GRADIENTS)

    def search_batch(self, model, search):
        for restart in range(self.n_restarts if self.random_start else 1):
            index = search.remaining()
            if not len(index):
                return
            ball = search.ball[index]
            x = ball.x
            if self.random_start:
                x = search.sample(index, restart=restart)
            with search.keeping(self.keep, index):
                climb(
                    model,
                    ball,
                    x,
                    lambda scores, at, index=index: search.goal[index[at]].loss(scores, self.loss),
                    lambda at, x, scores, index=index: search.offer(index[at], x, scores),
                    n_iter=self.n_iter,
                    step_size=self.step_size,
                    momentum=self.momentum,
                    progress=search.progress,
                    anneal=restart % 2 == 1,
                )
            model.anneal(None)


@parametrized
class IterativeFGSM(PGD):
    """Iterative FGSM (basic iterative method): PGD from the image itself, by steps of a fixed size.

    Parameters
    ----------
    n_iter : int, default=10
        Steps.

    References
    ----------
    A. Kurakin, I. Goodfellow, S. Bengio, "Adversarial machine learning at scale", ICLR 2017.

    Examples
    --------
    >>> from skrobust.attacks import IterativeFGSM
    >>> IterativeFGSM(eps=0.2, n_iter=1000, step_size=0.01).describe()["n_iter"]
    1000
    """

    n_iter: int = parameter(10)
    n_restarts: ClassVar[int] = 1
    random_start: ClassVar[bool] = False
    momentum: ClassVar[float] = 0.0


@parametrized
class MomentumIterativeFGSM(PGD):
    """Momentum iterative FGSM: g ← momentum · g + ∇loss / ‖∇loss‖₁, then a step along g.

    Parameters
    ----------
    n_iter : int, default=10
        Steps.
    momentum : float, default=1.0
        Decay of the accumulated gradient.

    References
    ----------
    Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.

    Examples
    --------
    >>> from skrobust.attacks import MomentumIterativeFGSM
    >>> MomentumIterativeFGSM(eps=0.2).describe()["momentum"]
    1.0
    """

    n_iter: int = parameter(10)
    momentum: float = parameter(1.0)
    n_restarts: ClassVar[int] = 1
    random_start: ClassVar[bool] = False

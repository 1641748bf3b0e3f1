"""FAB: the nearest adversarial image, by projections onto the linearised boundary."""

from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval

from ._ball import vector_norm
from ._base import GradientAttack
from ._losses import rival_difference
from ._rivals import rivals_by_score
from ._shapes import wide
from ._solvers import capped_rate


class FAB(GradientAttack):
    """Fast adaptive boundary attack, targeted form: steps to the linearised boundary with one rival class at a time.

    Each step goes from the iterate, and with a small weight from the original image, to the nearest point of the
    box on the hyperplane where the linearised scores of the true and the rival class are equal; from adversarial
    points it goes back towards the image. Minimises the distance, and so needs no step size; `eps` only says which
    adversarial images count.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`. Infinity: the nearest adversarial image wherever
        it is.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_iter : int, default=100
        Steps for each rival class and restart.
    n_restarts : int, default=1
        The first starts from the image, the others from a random point at most eps / 2 away.
    n_targets : int, default=9
        Rival classes, at most, the highest score first.
    alpha_max : float, default=0.1
        Largest weight of the original image's projection.
    eta : float, default=1.05
        Overshoot beyond the hyperplane.
    beta : float, default=0.9
        Share of the distance that is kept on the way back.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`.
    n_eot : int, default=1
        Passes over which a randomised model is averaged.
    clip : pair or None, default=(0, 1)
        Range of valid values, see `PGD`. None: no bounds.
    mask : array-like of bool or None, default=None
        Features that may change, see `PGD`.
    perturb_all : bool, default=False
        Attack images that the model gets wrong already, too, see `PGD`.
    batch_size : int or None, default=None
    random_state : int, RandomState instance or None, default=None
    device : str, torch.device or None, default=None
    verbose : int, default=0

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

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "eps": [Interval(Real, 0, None, closed="both"), "array-like", torch.Tensor],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "alpha_max": [Interval(Real, 0, 1, closed="both")],
        "eta": [Interval(Real, 1, None, closed="left")],
        "beta": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=100,
        n_restarts=1,
        n_targets=9,
        alpha_max=0.1,
        eta=1.05,
        beta=0.9,
        gradient="exact",
        n_eot=1,
        clip=(0, 1),
        mask=None,
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.n_iter = n_iter
        self.n_restarts = n_restarts
        self.n_targets = n_targets
        self.alpha_max = alpha_max
        self.eta = eta
        self.beta = beta
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _run(self, attacker, search):
        goal = search.goal
        if goal.targeted:
            turns = [None]
        else:
            turns = rivals_by_score(attacker.scores(search.x), goal.label, self.n_targets).T
        for turn, rival in enumerate(turns):
            for restart in range(self.n_restarts):
                index = search.standing()
                if not len(index):
                    return
                self._approach(attacker, search, index, rival, restart, turn)

    def _approach(self, attacker, search, index, rival, restart, turn):
        """One run towards the boundary with one rival class."""
        ball = search.ball[index]
        start = x = ball.x
        if restart:
            images = search.images[index.cpu().numpy()]
            block = turn * self.n_restarts + restart
            x = ball.shrunk(0.5).sample(search.streams, images, restart=block, surface=True)
        for _ in range(self.n_iter):

            def difference(scores, index=index):
                if rival is None:
                    return search.goal[index].margin(scores)
                return rival_difference(scores, search.goal.label[index], rival[index])

            (gradient,), scores, (value,) = attacker.gradients(x, [difference])
            # One rounding beyond the tie: in coarse scores, the iterates would end on it.
            value = value - search.goal[index].rounding(scores)
            x = self._step(ball.box, start, x, gradient, value)
            scores = attacker.scores(x)
            # On a piecewise linear model the iterates close in on the boundary: whoever waited for a margin beyond
            # rounding would never turn back. The search decides which success is one beyond rounding.
            crossed = search.goal[index].margin(scores) > 0
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
        ahead = self._to_hyperplane(box, x, gradient, offset)
        direct = self._to_hyperplane(box, start, gradient, offset)
        far, near = (vector_norm(delta, self.norm).clamp_min(1e-300) for delta in (direct, ahead))
        alpha = wide((near / (near + far)).clamp(0, self.alpha_max), x)
        found = (x + self.eta * ahead) * (1 - alpha) + (start + self.eta * direct) * alpha
        return box.clamp(found).to(x.dtype)

    def _to_hyperplane(self, box, z, gradient, offset):
        """The shortest way from `z` to ``gradient · z + offset = 0`` within the box, or as far as the box lets it."""
        flat = gradient.double().flatten(1)
        value = (flat * z.double().flatten(1)).sum(1) + offset
        towards = -torch.sign(value)[:, None] * torch.sign(flat)
        weight = flat.abs()
        low, high = (bound.double().expand(z.shape).flatten(1) for bound in (box.low, box.high))
        place = z.double().flatten(1)
        cap = torch.where(towards > 0, high - place, place - low).clamp_min(0)
        if self.norm == "l1":
            order = weight.argsort(dim=1, descending=True, stable=True)
            ranked, room = weight.gather(1, order), cap.gather(1, order)
            gains = torch.where(ranked > 0, ranked * room, 0)
            before = torch.cat([torch.zeros_like(gains[:, :1]), gains[:, :-1].cumsum(1)], dim=1)
            missing = (value.abs()[:, None] - before).clamp_min(0)
            moved = torch.minimum(torch.where(ranked > 0, missing / ranked.clamp_min(1e-300), 0), room)
            size = torch.zeros_like(moved).scatter_(1, order, moved)
        else:
            rate = weight if self.norm == "l2" else (weight > 0).to(weight.dtype)
            s = capped_rate(weight, rate, cap, value.abs())
            size = torch.minimum(torch.nan_to_num(s[:, None] * rate, nan=0.0, posinf=torch.inf), cap)
            size = torch.where(torch.isfinite(size), size, 0)
        return (size * towards).reshape(z.shape)

    def _n_ticks(self, n_classes):
        return min(self.n_targets, n_classes - 1) * self.n_restarts * self.n_iter

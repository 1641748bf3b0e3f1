"""The two attacks of the front-end paper, by its names: semi-white box and white box."""

from typing import ClassVar

import torch

from skrobust.attacks.core.climb import climb
from skrobust.signals.parameters import AT_LEAST_1, POSITIVE, parameter, parametrized

from .locally_linear import LocallyLinear


@parametrized
class SemiWhiteBox(LocallyLinear):
    """Semi-white box attack of the front-end paper: e = eps · sgn(w), w the classifier's own linear model.

    The attacker knows the classifier but not the front end, and attacks the classifier alone. For a linear classifier w
    is its weight; for others the locally linear attack on the classifier alone.

    References
    ----------
    S. Gopalakrishnan et al., "Robust adversarial learning via sparsifying front ends", arXiv 1810.10625, sections
    IV-A and V-D.

    Examples
    --------
    >>> from skrobust.attacks import SemiWhiteBox
    >>> SemiWhiteBox(eps=0.1).threat_model
    'semi-white box'
    """

    gradient: ClassVar[str] = "skip"
    _threat_model = "semi-white box"


@parametrized
class WhiteBox(LocallyLinear):
    """White box attack of the front-end paper: e = eps · sgn(P_K(w, x)), and its iterated projections.

    P_K(w, x) projects the classifier's linear model w on the basis vectors that the front end selects at x. The
    perturbation may change that selection; two published iterations then repeat the projection.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        The paper's is l-infinity; for others each step goes to the optimum of the linear model over the ball
        ("code") or along its steepest direction ("paper").
    iterated_projections : {None, "paper", "code"}, default=None
        None: the projection at x, one step. "paper": e ← clip_eps(e + step_size · sgn(P_K(w, x + e))) from e = 0.
        "code": e ← eps · sgn(P_K(w, x + e)) from the semi-white attack's e, as the authors' programs do.
        For classifiers that are not linear, w is taken at x + e too.
    n_iter : int, default=100
        Number of iterated projections.
    step_size : float or None, default=None
        Step of "paper". None: ``2.5 * eps / n_iter``.
    keep : {"best", "last"}, default="best"
        "best": the most harmful of all iterates. "last": the last one, as the authors do; figures printed in the
        paper are to be compared with this.

    References
    ----------
    S. Gopalakrishnan et al., "Robust adversarial learning via sparsifying front ends", arXiv 1810.10625, sections
    IV-A, V-D and VI-A.

    Examples
    --------
    >>> from skrobust.attacks import WhiteBox
    >>> WhiteBox(eps=0.1, iterated_projections="code", keep="last").describe()["n_iter"]
    100
    """

    iterated_projections: str | None = parameter(None, {"paper", "code"})
    n_iter: int = parameter(100, AT_LEAST_1)
    step_size: float | None = parameter(None, POSITIVE)
    keep: str = parameter("best", {"best", "last"})
    gradient: ClassVar[str] = "projection"

    def _attack_pair(self, pair):
        if self.iterated_projections is None:
            return super()._attack_pair(pair)
        offer = pair.offer if self.keep == "best" else pair.withhold
        if self.iterated_projections == "paper":
            x = climb(
                pair.model,
                pair.ball,
                pair.ball.x,
                pair.distortion,
                offer,
                n_iter=self.n_iter,
                step_size=self.step_size,
                progress=pair.search.progress,
            )
        else:
            x = self._full_steps(pair, offer)
        return None if self.keep == "best" else x

    def _full_steps(self, pair, offer):
        """Steps from the image to the end of the ball, each along the gradient projected at the end of the last one.

        The first goes where the semi-white attack ends.
        """
        ball = pair.ball
        at = torch.arange(len(ball.x), device=ball.x.device)
        weights, _ = pair.weights(ball.x, model=pair.model.with_gradient("skip"))
        x = ball.farthest(weights)
        for _ in range(self.n_iter):
            weights, scores = pair.weights(x, at)
            still = offer(at, x, scores)
            pair.search.progress.update()
            at, ball = at[still], ball[still]
            if not len(at):
                return x[still]
            x = ball.farthest(weights[still])
        offer(at, x, pair.model.scores(x))
        return x

    def n_passes(self, n_classes):
        return (n_classes - 1) * (1 if self.iterated_projections is None else self.n_iter)

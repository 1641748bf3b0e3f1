"""Greedy discrete search among the corners of the ball, for models that are constant nearly everywhere."""

from typing import ClassVar

from skrobust.attacks.core.base import GradientAttack
from skrobust.attacks.core.corners import search_corners
from skrobust.signals.parameters import AT_LEAST_1, parameter, parametrized


@parametrized
class CornerSearch(GradientAttack):
    """Greedy search among the corners of the l-infinity ball: keep the flips that raise the margin.

    Codes made by hard thresholds are constant nearly everywhere: no small step changes anything, and the gradient of a
    relaxed threshold is a ranking rather than a slope. The attack therefore moves values to the ends of their ranges.
    It starts at the corner to which the gradient points. Then, again and again, it ranks the values whose other end
    the gradient at the present corner prefers by ``|gradient| * range``, and flips the first of them, in blocks that
    halve whenever a block does not raise the model's own margin.

    The `n_targets` other classes with the highest scores are aimed at in turn. ``gradient="worst"`` of `PGD`, `APGD`
    and `Cascade` includes this search where the model's exact gradient is zero everywhere.

    Parameters
    ----------
    eps : float, default=0.1
        Radius of the l-infinity ball, in the units of X.
    n_iter : int, default=30
        Gradients, and blocks of flips, for each other class.
    n_targets : int, default=3
        Other classes, the highest score first. A targeted attack aims at its target alone.

    Notes
    -----
    Against a linear classifier on thresholded pixels the first corner is the optimum: there every value that can cross
    the threshold is a free bit.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import PolarizingCoder
    >>> from skrobust.attacks import CornerSearch
    >>> from skrobust.certificates import certify
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(PolarizingCoder(), LogisticRegression(max_iter=500)).fit(X[:1300] / 16, y[:1300])
    >>> X, y = X[1300:1400] / 16, y[1300:1400]
    >>> X_adv = CornerSearch(eps=0.1, n_targets=9).perturb(model, X, y)
    >>> bool(model.score(X_adv, y) == certify(model, X, y, 0.1).certified_accuracy)
    True
    """

    n_iter: int = parameter(30, AT_LEAST_1)
    n_targets: int = parameter(3, AT_LEAST_1)
    gradient: str = parameter("smooth")
    norm: ClassVar[str] = "linf"

    def search_batch(self, model, search):
        search_corners(model, search, n_iter=self.n_iter, n_targets=self.n_targets, progress=search.progress.update)

    def n_passes(self, n_classes):
        return min(self.n_targets, n_classes - 1) * self.n_iter

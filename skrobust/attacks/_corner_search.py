"""Greedy discrete search among the corners of the ball, for models that are constant nearly everywhere."""

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ._base import GradientAttack
from ._corners import search_corners


class CornerSearch(GradientAttack):
    """Greedy search among the corners of the l-infinity ball: flip what ranks highest, keep what hurts.

    Codes made by hard thresholds are constant nearly everywhere: no small step changes anything, and the gradient of a
    relaxed threshold is a ranking rather than a slope. The attack therefore moves values to the ends of their ranges.
    It starts at the corner to which the gradient points. Then, again and again, it ranks the values whose other end
    the gradient at the present corner prefers by ``|gradient| * range``, and flips the first of them, in blocks that
    halve whenever a block does not raise the model's own margin.

    Each of the `n_targets` strongest rival classes is aimed at in turn. ``gradient="worst"`` of `PGD`, `APGD` and
    `Cascade` includes this search where the model's exact gradient is zero everywhere.

    Parameters
    ----------
    eps : float, default=0.1
        Radius of the l-infinity ball, in the units of X.
    n_iter : int, default=30
        Gradients and blocks of flips, for each rival.
    n_targets : int, default=3
        Rival classes, the highest score first. A targeted attack aims at its target alone.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="smooth"
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
        Not used: nothing is drawn.
    device : str, torch.device or None, default=None
    verbose : int, default=0

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

    norm = "linf"

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
    }
    del _parameter_constraints["norm"]

    def __init__(
        self,
        eps=0.1,
        *,
        n_iter=30,
        n_targets=3,
        gradient="smooth",
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
        self.n_iter = n_iter
        self.n_targets = n_targets
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
        search_corners(attacker, search, n_iter=self.n_iter, n_targets=self.n_targets, progress=search.progress.update)

    def _n_ticks(self, n_classes):
        return min(self.n_targets, n_classes - 1) * self.n_iter

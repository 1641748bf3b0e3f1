"""Projected gradient descent, and its presets without random start: iterative and momentum iterative FGSM."""

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from ._base import FOLLOWING, AscentAttack
from ._climb import climb


class PGD(AscentAttack):
    """Projected gradient descent: ascent of a loss in the ball, from random starts.

    x ← P(x + step_size · d(∇loss(x))) where P is the Euclidean projection onto the ball cut by the box, and d the
    steepest direction of the norm: signs (l-infinity), the normalised gradient (l2), its largest features (l1).
    The most harmful of all iterates and restarts is kept for each image; images leave once they are lost.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X. An array of shape (n_samples,): one an image. For l-infinity also one a
        feature, in a shape that broadcasts to X.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_iter : int, default=40
        Steps a restart.
    step_size : float or None, default=None
        None: ``2.5 * eps / n_iter``.
    n_restarts : int, default=1
        Every second one sharpens the backward pass of hard thresholds on the way, where ``gradient="smooth"``.
    random_start : bool, default=True
        Start from a point drawn uniformly from the ball. False: from the image, where restarts change nothing.
    momentum : float, default=0.0
        Decay of the accumulated gradient, each normalised by its l1 norm.
    loss : {"cross_entropy", "margin", "dlr"}, default="cross_entropy"
        Cross-entropy is climbed through a monotone map that does not saturate where the model is confident. "dlr"
        with two classes is the margin. All read the scores in units of a tenth of the clean image's gap between the
        two scores that decide, so that none depends on their scale.
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `skrobust.as_module`. "worst" tries the first four in turn and keeps, for
        each image, what hurts most; where the exact one is zero everywhere, as behind hard thresholds, it searches
        the corners of an l-infinity ball as well, see `CornerSearch`. "iterated" refines "projection" 20 times in
        each step, as published: the support is the one that the front end selects where the step leads. "skip" makes
        the attack semi-white: the front end is unknown to it.
    n_eot : int, default=1
        Passes over which a randomised model is averaged.
    clip : pair or None, default=(0, 1)
        Range of valid values: numbers, arrays of the shape of one sample, or of the shape of X for a box an image.
        None: no bounds.
    mask : array-like of bool or None, default=None
        Features that may change: of the shape of one sample for all images, or of the shape of X for each. None: all.
    keep : {"best", "last"}, default="best"
        "best": the most harmful of the image itself and all iterates. "last": of each restart the last iterate, as
        published tables count; of several restarts the most harmful one.
    perturb_all : bool, default=False
        Attack images that the model gets wrong already, too, and return what the attack made of them, which the model
        may get right: the way in which papers count. False: such images are returned unchanged.
    batch_size : int or None, default=None
        Images attacked at once; None: as many as scikit-learn's ``working_memory`` holds.
    random_state : int, RandomState instance or None, default=None
        Each image has its own random stream, so that batches do not change the draws.
    device : str, torch.device or None, default=None
        Where to compute; None: where X is.
    verbose : int, default=0
        Show a progress bar.

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

    _parameter_constraints = {
        **AscentAttack._parameter_constraints,
        "gradient": [FOLLOWING],
        "keep": [StrOptions({"best", "last"})],
        "random_start": ["boolean"],
        "momentum": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=40,
        step_size=None,
        n_restarts=1,
        random_start=True,
        momentum=0.0,
        loss="cross_entropy",
        gradient="exact",
        n_eot=1,
        clip=(0, 1),
        mask=None,
        keep="best",
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.n_iter = n_iter
        self.step_size = step_size
        self.n_restarts = n_restarts
        self.random_start = random_start
        self.momentum = momentum
        self.loss = loss
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.keep = keep
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _run(self, attacker, search):
        for restart in range(self.n_restarts if self.random_start else 1):
            index = search.standing()
            if not len(index):
                return
            ball = search.ball[index]
            x = ball.x
            if self.random_start:
                x = ball.sample(search.streams, search.images[index.cpu().numpy()], restart=restart)
            with search.keeping(self.keep, index):
                climb(
                    attacker,
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
            attacker.anneal(None)


class IterativeFGSM(PGD):
    """Iterative FGSM (basic iterative method): PGD from the image itself, by steps of a fixed size.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_iter : int, default=10
    step_size : float or None, default=None
        None: ``2.5 * eps / n_iter``.
    loss, gradient, n_eot, clip, mask, keep, perturb_all, batch_size, random_state, device, verbose
        As in `PGD`.

    References
    ----------
    A. Kurakin, I. Goodfellow, S. Bengio, "Adversarial machine learning at scale", ICLR 2017.

    Examples
    --------
    >>> from skrobust.attacks import IterativeFGSM
    >>> IterativeFGSM(eps=0.2, n_iter=1000, step_size=0.01).describe()["n_iter"]
    1000
    """

    random_start = False
    momentum = 0.0
    n_restarts = 1

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=10,
        step_size=None,
        loss="cross_entropy",
        gradient="exact",
        n_eot=1,
        clip=(0, 1),
        mask=None,
        keep="best",
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.n_iter = n_iter
        self.step_size = step_size
        self.loss = loss
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.keep = keep
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose


class MomentumIterativeFGSM(PGD):
    """Momentum iterative FGSM: g ← momentum · g + ∇loss / ‖∇loss‖₁, then a step along g.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_iter : int, default=10
    step_size : float or None, default=None
        None: ``2.5 * eps / n_iter``.
    momentum : float, default=1.0
        Decay of the accumulated gradient.
    loss, gradient, n_eot, clip, mask, keep, perturb_all, batch_size, random_state, device, verbose
        As in `PGD`.

    References
    ----------
    Y. Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018.

    Examples
    --------
    >>> from skrobust.attacks import MomentumIterativeFGSM
    >>> MomentumIterativeFGSM(eps=0.2).describe()["momentum"]
    1.0
    """

    random_start = False
    n_restarts = 1

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=10,
        step_size=None,
        momentum=1.0,
        loss="cross_entropy",
        gradient="exact",
        n_eot=1,
        clip=(0, 1),
        mask=None,
        keep="best",
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.n_iter = n_iter
        self.step_size = step_size
        self.momentum = momentum
        self.loss = loss
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.keep = keep
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

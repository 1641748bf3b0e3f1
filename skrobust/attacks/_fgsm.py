"""The fast gradient sign method and its l2 and l1 forms."""

from sklearn.utils._param_validation import StrOptions

from ._base import FOLLOWING, GradientAttack
from ._losses import LOSSES
from ._refinement import refined_gradient


class FGSM(GradientAttack):
    """Fast gradient sign method: one step to the point of the ball that is farthest along the gradient.

    x + eps · sgn(∇loss(x)) for l-infinity; for l2 and l1 the optimum of the linearised loss over the ball cut by the
    box. Exact on linear models with two classes.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
    loss : {"cross_entropy", "margin", "dlr"}, default="cross_entropy"
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip", "worst"}, default="exact"
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

    References
    ----------
    I. Goodfellow, J. Shlens, C. Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import FGSM
    >>> X, y = np.array([[0.2, 0.4], [0.8, 0.5]]), np.array(["left", "right"])
    >>> model = LinearSVC().fit(X, y)
    >>> FGSM(eps=0.1).perturb(model, X, y).round(2)
    array([[0.3, 0.5],
           [0.7, 0.4]])
    """

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "gradient": [FOLLOWING],
        "loss": [StrOptions(set(LOSSES))],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        loss="cross_entropy",
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
        self.loss = loss
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
        index = search.standing()
        goal, ball = search.goal[index], search.ball[index]
        gradient, _ = refined_gradient(
            attacker, ball.x, lambda scores: goal.loss(scores, self.loss), lambda gradient: ball.farthest(gradient)
        )
        x = ball.farthest(gradient)
        search.offer(index, x, attacker.scores(x))
        search.progress.update()

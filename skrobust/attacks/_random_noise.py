"""Noise of the same norm: the least that any attack must beat."""

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ._black_box import BlackBoxAttack


class RandomNoise(BlackBoxAttack):
    """Random noise on the surface of the ball, the worst of `n_restarts` draws for each image.

    Signs of size eps (l-infinity), a uniform direction (l2), or Laplace noise scaled to the norm (l1); then brought
    into the box.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_restarts : int, default=1
        Draws; images leave once they are lost.
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

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skrobust.attacks import RandomNoise
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
    >>> X_adv = RandomNoise(eps=0.2, n_restarts=5, random_state=0).perturb(model, X[1000:1100], y[1000:1100])
    >>> bool(model.score(X_adv, y[1000:1100]) < model.score(X[1000:1100], y[1000:1100]))
    True
    """

    _parameter_constraints = {
        **BlackBoxAttack._parameter_constraints,
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_restarts=1,
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
        self.n_restarts = n_restarts
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _run(self, attacker, search):
        for restart in range(self.n_restarts):
            index = search.standing()
            if not len(index):
                return
            images = search.images[index.cpu().numpy()]
            x = search.ball[index].sample(search.streams, images, restart=restart, surface=True)
            search.offer(index, x, attacker.scores(x))
            search.progress.update()

    def _n_ticks(self, n_classes):
        return self.n_restarts

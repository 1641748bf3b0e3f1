"""Several attacks in a row, each on the images that the ones before could not take."""

from numbers import Integral

from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from ._apgd import APGD
from ._base import Attack, GradientAttack
from ._corners import Corners
from ._fab import FAB
from ._square import Square


class Cascade(GradientAttack):
    """AutoAttack's order of attack: APGD on cross-entropy, targeted APGD, targeted FAB, Square.

    Each attack meets only the images that are still standing, and for each image the most harmful one found counts.
    With AutoAttack's standard settings by default: 100 iterations, 9 rival classes, 5000 queries, one restart. For
    fewer than four classes the losses that need more are plain differences of scores.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2"}, default="linf"
    attacks : list of attacks or None, default=None
        In place of the four: any attacks, those of other libraries (`FromART`) and `Transfer` too. Their `eps`,
        `norm`, `clip`, `mask`, `perturb_all`, `random_state` and, where they have it, `gradient` and `n_eot` are this
        cascade's.
    n_iter : int, default=100
        Steps of the gradient attacks of ``attacks=None``.
    n_queries : int, default=5000
        Queries of Square of ``attacks=None``.
    n_targets : int, default=9
        Rival classes of the targeted attacks of ``attacks=None``.
    image_shape : tuple or None, default=None
        For Square, see there.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. "worst" runs each gradient attack through all of them, and in
        l-infinity `CornerSearch` on a model whose exact gradient is zero everywhere.
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
    F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", ICML 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import APGD, Cascade
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1100], y[1000:1100]
    >>> attacks = [Cascade(n_iter=20, n_queries=50, random_state=0), APGD(n_iter=20, random_state=0)]
    >>> all_four, first = (model.score(attack.perturb(model, X, y), y) for attack in attacks)
    >>> bool(all_four <= first)
    True
    """

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "norm": [StrOptions({"linf", "l2", "l1"})],
        "attacks": [None, list, tuple],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_queries": [Interval(Integral, 1, None, closed="left")],
        "n_targets": [Interval(Integral, 1, None, closed="left")],
        "image_shape": [None, tuple, list],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        attacks=None,
        n_iter=100,
        n_queries=5000,
        n_targets=9,
        image_shape=None,
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
        self.attacks = attacks
        self.n_iter = n_iter
        self.n_queries = n_queries
        self.n_targets = n_targets
        self.image_shape = image_shape
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def describe(self):
        """Settings for reports, with those of the attacks under "attacks"."""
        return {**super().describe(), "attacks": [part.describe() for part in self._parts()]}

    def _parts(self):
        if self.attacks is None:
            parts = [
                APGD(n_iter=self.n_iter),
                APGD(n_iter=self.n_iter, loss="targeted_dlr", n_targets=self.n_targets),
                FAB(n_iter=self.n_iter, n_targets=self.n_targets),
                Square(n_iter=self.n_queries, rescale_schedule=False, image_shape=self.image_shape),
            ]
        else:
            for part in self.attacks:
                if not isinstance(part, Attack):
                    raise TypeError(f"attacks must hold attacks of skrobust.attacks, got {type(part).__name__}.")
            parts = [clone(part) for part in self.attacks]
        for part in parts:
            part.set_params(**self._shared_words(part))
            part._validate_params()
            if part.norm != self.norm:
                raise ValueError(f"norm={self.norm!r}, but {type(part).__name__} is an attack in {part.norm}.")
        return parts

    def _shared_words(self, part):
        """This cascade's parameters under the names by which `part`, or the attack inside it, takes them."""
        own = part.get_params()
        words = ("eps", "norm", "clip", "mask", "perturb_all", "random_state", "gradient", "n_eot")
        shared = {word: getattr(self, word) for word in words}
        names = [(f"{inside}{word}", word) for inside in ("", "attack__") for word in shared]
        return {name: shared[word] for name, word in names if name in own}

    def _attackers(self, model, x, judge):
        # Scores of all kinds of access would not compare: black boxes too are asked through the bridge.
        pairs = [(part, seen) for part in self._parts() for seen in part._attackers(model, x, judge)]
        searches = [pair for pair in pairs if isinstance(pair[1], Corners)]
        return [pair for pair in pairs if pair not in searches[1:]]  # the same for every part

    def _run_against(self, attacker, search):
        part, seen = attacker
        part._run_against(seen, search)

    def _run(self, attacker, search):
        raise NotImplementedError  # each part runs by itself

    def _n_ticks(self, n_classes):
        return max(part._n_ticks(n_classes) for part in self._parts())

    def _n_copies(self, n_classes):
        return max(part._n_copies(n_classes) for part in self._parts())

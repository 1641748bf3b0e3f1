"""Locally linear attacks (Gopalakrishnan et al.): the worst rival class, one linear model of the network at a time."""

from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import FOLLOWING, GradientAttack
from ._climb import climb
from ._losses import rival_difference
from ._rivals import rivals_by_score


class LocallyLinear(GradientAttack):
    """Locally linear attack: e = eps · sgn(w_i - w_t), for the rival class i whose score it lifts most.

    w_i is the gradient of the score y_i at x. For each rival class i the attack goes to the end of the ball along
    the linear model of y_i - y_t, t being the true class; the pair with the largest y_i - y_t there is chosen.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
        The paper's is l-infinity; for others the step is the optimum of the linear model over the ball.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. The paper's semi-white attack is "skip", its white one "projection".
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
    S. Gopalakrishnan et al., "Robust adversarial learning via sparsifying front ends", arXiv 1810.10625, section V.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.svm import LinearSVC
    >>> from skrobust.attacks import FGSM, LocallyLinear
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LinearSVC(random_state=0).fit(X[:1000], y[:1000])
    >>> attacks = [LocallyLinear(eps=0.05), FGSM(eps=0.05)]
    >>> worst, fast = (model.score(attack.perturb(model, X[1000:], y[1000:]), y[1000:]) for attack in attacks)
    >>> bool(worst <= fast)
    True
    """

    n_targets = None

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
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
        ends, best = search.x[index].clone(), torch.full_like(search.margin[index], -torch.inf)
        for rival in self._rivals(attacker, search, index):
            at = (~search.lost[index]).nonzero().squeeze(1)
            if not len(at):
                return
            pair = Pair(attacker, search, index[at], None if rival is None else rival[at])
            x = self._follow(pair)
            if x is None:
                continue
            value = pair.distortion(attacker.scores(x)).to(best.dtype)
            worse = value > best[at]
            ends[at[worse]], best[at[worse]] = x[worse], value[worse]
        if bool(torch.isfinite(best).any()):
            search.offer(index, ends, attacker.scores(ends))

    def _rivals(self, attacker, search, index):
        """One rival for each image `index` at a time, the highest score first; None where a target class is given."""
        if search.goal.targeted:
            return [None]
        scores = attacker.scores(search.x[index])
        return rivals_by_score(scores, search.goal.label[index], self.n_targets or scores.shape[1] - 1).T

    def _follow(self, pair):
        """Where the attack of one pair ends; None where every iterate has been put to the search already."""
        weights, _ = pair.weights(pair.ball.x)
        pair.search.progress.update()
        return pair.ball.farthest(weights)

    def _n_ticks(self, n_classes):
        return n_classes - 1


class IterativeLocallyLinear(LocallyLinear):
    """Iterative locally linear attack: e ← clip_eps(e + step_size · sgn(w_i(x + e) - w_t(x + e))) for each rival i.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`.
    norm : {"linf", "l2", "l1"}, default="linf"
    n_iter : int, default=100
        Steps for each rival class.
    step_size : float or None, default=None
        None: ``2.5 * eps / n_iter``. The paper takes eps / 4 and eps / 20.
    n_targets : int or None, default=None
        Rival classes, at most, the highest score first. None: all, as in the paper.
    keep : {"best", "last"}, default="best"
        "best": the most harmful of all iterates. "last": the last iterate of the worst pair, as the authors do.
    gradient, n_eot, clip, mask, perturb_all, batch_size, random_state, device, verbose
        As in `LocallyLinear`.

    References
    ----------
    S. Gopalakrishnan et al., "Robust adversarial learning via sparsifying front ends", arXiv 1810.10625,
    sections V-D and V-E.

    Examples
    --------
    >>> from skrobust.attacks import IterativeLocallyLinear
    >>> IterativeLocallyLinear(eps=0.2, n_iter=100, step_size=0.05, gradient="projection").threat_model
    'white box'
    """

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "gradient": [FOLLOWING],
        "n_targets": [None, Interval(Integral, 1, None, closed="left")],
        "keep": [StrOptions({"best", "last"})],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=100,
        step_size=None,
        n_targets=None,
        keep="best",
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
        self.step_size = step_size
        self.n_targets = n_targets
        self.keep = keep
        self.gradient = gradient
        self.n_eot = n_eot
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _follow(self, pair):
        x = climb(
            pair.attacker,
            pair.ball,
            pair.ball.x,
            pair.distortion,
            pair.offer if self.keep == "best" else pair.go_on,
            n_iter=self.n_iter,
            step_size=self.step_size,
            progress=pair.search.progress,
        )
        return None if self.keep == "best" else x

    def _n_ticks(self, n_classes):
        return min(self.n_targets or n_classes - 1, n_classes - 1) * self.n_iter


class Pair:
    """Some images of a search, each against one rival class.

    Parameters
    ----------
    attacker : ModuleVictim
    search : Search
    index : Tensor of int
    rival : Tensor of int or None
        The rival class of each of these images. None, with a target class: the pair is that class and the best of
        the others.
    """

    def __init__(self, attacker, search, index, rival):
        self.attacker = attacker
        self.search = search
        self.ball = search.ball[index]
        self._index = index
        self._rival = rival

    def distortion(self, scores, at=slice(None)):
        """``y_i - y_t`` for the rival i."""
        goal = self.search.goal[self._index[at]]
        if goal.targeted:
            return goal.margin(scores)
        return rival_difference(scores, goal.label, self._rival[at])

    def weights(self, x, at=slice(None), attacker=None):
        """The linear model of the pair at `x`, and the scores there."""
        return (attacker or self.attacker).gradient(x, lambda scores: self.distortion(scores, at))

    def offer(self, at, x, scores):
        """Put iterates to the search."""
        return self.search.offer(self._index[at], x, scores)

    def go_on(self, at, x, scores):
        """Keep no record of the iterates."""
        return torch.ones_like(at, dtype=torch.bool)

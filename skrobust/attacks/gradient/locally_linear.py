"""Locally linear attacks (Gopalakrishnan et al.): the most harmful other class under a linear model of the network."""

import torch

from skrobust.attacks.core.base import STEP_GRADIENTS, GradientAttack
from skrobust.attacks.core.climb import climb
from skrobust.signals.parameters import AT_LEAST_1, POSITIVE, parameter, parametrized


@parametrized
class LocallyLinear(GradientAttack):
    """Locally linear attack: e = eps · sgn(w_i - w_t), for the other class i whose score this raises most.

    w_i is the gradient of the score y_i at x. For each other class i the attack goes to the end of the ball along
    the linear model of y_i - y_t, t being the true class; the pair with the largest y_i - y_t there is chosen.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}, default="linf"
        The paper's is l-infinity; for others the step is the optimum of the linear model over the ball.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. The paper's semi-white attack is "skip", its white-box attack
        "projection".

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

    def search_batch(self, model, search):
        index = search.remaining()
        ends, best = search.x[index].clone(), torch.full_like(search.margin[index], -torch.inf)
        for other in search.other_classes(model, index, self.n_targets):
            at = (~search.done[index]).nonzero().squeeze(1)
            if not len(at):
                return
            pair = Pair(model, search, index[at], other[at])
            x = self._attack_pair(pair)
            if x is None:
                continue
            value = pair.distortion(model.scores(x)).to(best.dtype)
            worse = value > best[at]
            ends[at[worse]], best[at[worse]] = x[worse], value[worse]
        if bool(torch.isfinite(best).any()):
            search.offer(index, ends, model.scores(ends))

    def _attack_pair(self, pair):
        """End points of the attack on one pair; None if every iterate was offered to the search."""
        weights, _ = pair.weights(pair.ball.x)
        pair.search.progress.update()
        return pair.ball.farthest(weights)

    def n_passes(self, n_classes):
        return n_classes - 1


@parametrized
class IterativeLocallyLinear(LocallyLinear):
    """Iterative locally linear attack: e ← clip_eps(e + step_size · sgn(w_i(x + e) - w_t(x + e))), each i in turn.

    Parameters
    ----------
    n_iter : int, default=100
        Steps for each other class.
    step_size : float or None, default=None
        Length of a step. None: ``2.5 * eps / n_iter``. The paper takes eps / 4 and eps / 20.
    n_targets : int or None, default=None
        Maximum number of other classes, the highest score first. None: all, as in the paper.
    keep : {"best", "last"}, default="best"
        "best": the most harmful of all iterates. "last": the last iterate of the worst pair, as the authors do.
    gradient : {"exact", "identity", "projection", "iterated", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`.

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

    n_iter: int = parameter(100, AT_LEAST_1)
    step_size: float | None = parameter(None, POSITIVE)
    n_targets: int | None = parameter(None, AT_LEAST_1)
    keep: str = parameter("best", {"best", "last"})
    gradient: str = parameter("exact", STEP_GRADIENTS)

    def _attack_pair(self, pair):
        x = climb(
            pair.model,
            pair.ball,
            pair.ball.x,
            pair.distortion,
            pair.offer if self.keep == "best" else pair.withhold,
            n_iter=self.n_iter,
            step_size=self.step_size,
            progress=pair.search.progress,
        )
        return None if self.keep == "best" else x

    def n_passes(self, n_classes):
        return min(self.n_targets or n_classes - 1, n_classes - 1) * self.n_iter


class Pair:
    """Some images of a search, each paired with one class `other`; in targeted attacks the pair is the target class and
    the best of the others.
    """

    def __init__(self, model, search, index, other):
        self.model = model
        self.search = search
        self.ball = search.ball[index]
        self._index = index
        self._other = other

    def distortion(self, scores, at=slice(None)):
        """``y_i - y_t`` for the other class i."""
        return self.search.goal[self._index[at]].margin_of(self._other[at], scores)

    def weights(self, x, at=slice(None), model=None):
        """The linear model of the pair at `x`, and the scores there."""
        return (model or self.model).gradient(x, lambda scores: self.distortion(scores, at))

    def offer(self, at, x, scores):
        """Offer iterates to the search."""
        return self.search.offer(self._index[at], x, scores)

    def withhold(self, at, x, scores):
        """Do not offer the iterates: all images continue."""
        return torch.ones_like(at, dtype=torch.bool)

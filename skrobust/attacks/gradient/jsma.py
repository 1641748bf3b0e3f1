"""The Jacobian saliency map attack: few features, each changed to the end of its range."""

import math
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval

from skrobust.attacks.core.base import GradientAttack
from skrobust.signals import count_of
from skrobust.signals.parameters import AT_LEAST_1, FRACTION, parameter, parametrized

# Bytes of the largest part of the table of candidate pairs that is computed at once.
TABLE_BYTES = 2**26


@parametrized
class JSMA(GradientAttack):
    """Jacobian saliency map attack (Papernot et al.): the best pair of features in each step, each feature used once.

    With alpha the sum of ∂s_t/∂x over the pair and beta that of Σ_{j≠t} ∂s_j/∂x, the pair with the largest
    -alpha · beta is chosen among those with alpha > 0 and beta < 0 (for ``theta < 0`` the signs are the other way
    round), and both features are moved by `theta`. An image stops when the goal is reached, when no pair is
    admissible, or after floor(n_features · gamma / 2) pairs.

    Parameters
    ----------
    theta : float, default=1.0
        Change of a feature, in the units of X; negative values lower features.
    gamma : float in (0, 1], default=0.1
        Largest share of the features that are changed: the ball in the l0 "norm".
    pairs : bool, default=True
        False: one feature at a time, by the same rule, at most floor(n_features · gamma).
    n_targets : int or None, default=None
        Other classes that are aimed at in turn, the highest score first; any wrong prediction is a success. None: all.
        With `y_target`, only that class is aimed at.
    clip : pair or None, default=(0, 1)
        Range of valid values, see `PGD`; features at an end of it are not candidates. None: no bounds.

    Notes
    -----
    Saliency is taken from the class scores, not from their softmax, whose derivatives sum to zero over the classes
    so that beta would equal -alpha. The best pair is found exactly without the table of all pairs: if two
    features have both a larger alpha and a smaller beta than a third, the third is not in the best pair.

    References
    ----------
    N. Papernot et al., "The limitations of deep learning in adversarial settings", EuroS&P 2016.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skrobust.attacks import JSMA
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> X_adv = JSMA(gamma=0.1).perturb(model, X[1000:1100], y[1000:1100])
    >>> bool(((X_adv != X[1000:1100]).sum(axis=1) <= 6).all())
    True
    >>> bool(model.score(X_adv, y[1000:1100]) < 0.5)
    True
    """

    theta: float = parameter(1.0, Interval(Real, None, None, closed="neither"), positional=True)
    gamma: float = parameter(0.1, FRACTION, positional=True)
    pairs: bool = parameter(True, "boolean")
    n_targets: int | None = parameter(None, AT_LEAST_1)
    eps: ClassVar[None] = None
    norm: ClassVar[str] = "l0"

    def search_batch(self, model, search):
        for target in search.other_classes(model, slice(None), self.n_targets):
            index = search.remaining()
            if not len(index):
                return
            self._towards(model, search, index, target[index])

    def _towards(self, model, search, index, target):
        ball = search.ball[index]
        x = ball.x
        n_features = x[0].numel()
        sign = math.copysign(1.0, self.theta)
        end = (ball.high if sign > 0 else ball.low).flatten(1)
        free = x.flatten(1) != end
        for _ in range(self._n_changes(n_features)):
            (up, total), scores, _ = model.gradients(
                x,
                [
                    lambda scores, target=target: scores.gather(1, target[:, None]).squeeze(1),
                    lambda scores: scores.sum(1),
                ],
            )
            still = search.offer(index, x, scores)
            search.progress.update()
            alpha = sign * up.flatten(1)
            beta = sign * (total - up).flatten(1)
            # Divided by the largest, because products of large slopes could overflow.
            peak = torch.maximum(alpha.abs().amax(1), beta.abs().amax(1))[:, None]
            alpha, beta = (slope / torch.where(peak > 0, peak, 1) for slope in (alpha, beta))
            chosen, admissible = best_pair(alpha, beta, free) if self.pairs else best_single(alpha, beta, free)
            still = still & admissible
            index, x, target, chosen = index[still], x[still], target[still], chosen[still]
            free, end = free[still].scatter(1, chosen, False), end[still]
            if not len(index):
                return
            x = x.flatten(1).scatter(1, chosen, end.gather(1, chosen)).reshape(x.shape)
        search.offer(index, x, model.scores(x))

    def _n_changes(self, n_features):
        return count_of(float(self.gamma), n_features, least=0) // (2 if self.pairs else 1)

    def _radius(self):
        return abs(float(self.theta))

    def _ball_norm(self):
        return "linf"

    def _n_copies(self, n_classes):
        return 2


def best_single(alpha, beta, free):
    """The feature with the largest -alpha · beta among those with alpha > 0 > beta."""
    score = torch.where(free & (alpha > 0) & (beta < 0), -alpha * beta, -torch.inf)
    best = score.max(dim=1)
    return best.indices[:, None], torch.isfinite(best.values)


def best_pair(alpha, beta, free):
    """The pair with the largest -(alpha_p + alpha_q)(beta_p + beta_q) among those with sums alpha > 0 > beta.

    Only features with `free` True may be chosen. Returns the pairs, of shape (n_samples, 2), and whether each is
    admissible; ignore those that are not.
    """
    n_samples, n_features = alpha.shape
    pair = torch.zeros((n_samples, 2), dtype=torch.int64, device=alpha.device)
    none = torch.zeros(n_samples, dtype=torch.bool, device=alpha.device)
    if n_features < 2:
        return pair, none
    # Sorted by falling alpha, and equal ones by falling -beta, so that earlier features dominate later ones.
    by_gain = (-beta).argsort(dim=1, descending=True, stable=True)
    order = by_gain.gather(
        1, torch.where(free, alpha, -torch.inf).gather(1, by_gain).argsort(dim=1, descending=True, stable=True)
    )
    gain = torch.where(free, -beta, -torch.inf).gather(1, order)
    # A feature with two earlier ones of no smaller gain can be replaced in any pair by one of them.
    lowest = torch.full_like(gain[:, :1], -torch.inf)
    first = torch.cat([lowest, gain.cummax(1).values[:, :-1]], dim=1)
    second = torch.cat([lowest, torch.minimum(gain, first).cummax(1).values[:, :-1]], dim=1)
    undominated = free.gather(1, order) & (gain > second)
    width = int(undominated.sum(1).max())
    if width < 2:
        return pair, none
    # Undominated features come first, in the order above; rows with fewer are filled up with NaN.
    front = undominated.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    valid = undominated.gather(1, front)
    feature = order.gather(1, front)
    alpha = torch.where(valid, alpha.gather(1, feature), torch.nan)
    gain = torch.where(valid, -beta.gather(1, feature), torch.nan)
    rank = torch.arange(width, device=alpha.device)
    best_product = torch.full((n_samples,), -torch.inf, dtype=alpha.dtype, device=alpha.device)
    n_rows = max(1, TABLE_BYTES // (width * 4 * alpha.element_size()))  # of the table, width features each
    for samples in gen_batches(n_samples, max(1, n_rows // width)):
        for rows in gen_batches(width, min(width, n_rows)):
            alpha_sums = alpha[samples, rows, None] + alpha[samples, None, :]
            gain_sums = gain[samples, rows, None] + gain[samples, None, :]
            admissible = (alpha_sums > 0) & (gain_sums > 0) & (rank[rows, None] < rank)
            best = torch.where(admissible, alpha_sums * gain_sums, -torch.inf).flatten(1).max(dim=1)
            ranks = torch.stack([rows.start + best.indices // width, best.indices % width], dim=1)
            higher = best.values > best_product[samples]
            pair[samples] = torch.where(higher[:, None], feature[samples].gather(1, ranks), pair[samples])
            best_product[samples] = torch.maximum(best_product[samples], best.values)
    return pair, torch.isfinite(best_product)

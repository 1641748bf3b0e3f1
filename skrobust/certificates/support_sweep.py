"""Lower bounds of a linear score after keeping the K largest coefficients, where the support may change."""

from dataclasses import dataclass

import numpy as np

from skrobust.kernels.rounding import gamma
from skrobust.signals import batch_slices

N_ROUNDS = 5
"""Times that an interval of thresholds is halved: up to 32 intervals a channel."""

L2_PRICES = (1.0, 1.6, 2.8, 5.0)
"""Multiples of the price of a squared change that is best for a constant support."""


@dataclass(frozen=True)
class Coefficients:
    """What a perturbation can make of the coefficients, as the front end computes them.

    Attributes
    ----------
    centre, change : ndarray of shape (n_samples, n_channels, n_coefficients)
        Every coefficient stays within `change` of `centre`.
    slack : ndarray of shape (n_samples, n_channels, n_coefficients)
        The part of `change` that is rounding error.
    tie : ndarray of shape (n_samples, n_channels)
        A magnitude up to `tie` below the K-th largest may be kept, one up to `tie` above it may be dropped.
    n_kept : tuple of int
        K of each channel.
    """

    centre: np.ndarray
    change: np.ndarray
    slack: np.ndarray
    tie: np.ndarray
    n_kept: tuple

    def __getitem__(self, index):
        parts = (part[index] for part in (self.centre, self.change, self.slack, self.tie))
        return Coefficients(*parts, self.n_kept)

    @property
    def magnitudes(self):
        """Smallest and largest magnitude of each coefficient."""
        size = np.abs(self.centre)
        return np.maximum(size - self.change, 0.0), size + self.change

    def thresholds(self):
        """Smallest and largest K-th largest magnitude, of shape (n_samples, n_channels) each."""
        ends = []
        for magnitudes in self.magnitudes:
            kth = [-np.partition(-magnitudes[:, c], k - 1, axis=1)[:, k - 1] for c, k in enumerate(self.n_kept)]
            ends.append(np.stack(kth, axis=1))
        return ends

    def fates(self, low, high):
        """Masks of what may be kept and what may be dropped if the K-th largest magnitude is in [low, high].

        `low` and `high` are of shape (n_samples, n_channels).
        """
        smallest, largest = self.magnitudes
        return largest >= (low - self.tie)[..., None], smallest <= (high + self.tie)[..., None]


class SupportSweep:
    """Lower bound of ``min_e sum_(j in S) w_j c_j``, with S the K largest of the coefficients c of an image x + e.

    Let t be the K-th largest magnitude. Then ``|c_j| >= t`` for kept, ``|c_j| <= t`` for dropped coefficients, and
    exactly K are kept. The range of t is divided into intervals [t1, t2], and the bound is the smallest of theirs. On
    an interval, coefficient j is surely kept (its magnitude stays above t2), surely dropped (below t1), or free. For
    any slopes a_j,

        sum_(j in S) w_j c_j  =  sum_j a_j c_j  +  sum_(j in S) (w_j - a_j) c_j  -  sum_(j not in S) a_j c_j.

    The first sum is linear in the perturbed image, and its minimum over the ball (cut by the range of pixels in
    l-infinity) is exact. Each term of the others depends on one coefficient, hence is at least its minimum over the
    coefficient's own range: v1_j under ``|c_j| >= t1`` if it is kept, v0_j under ``|c_j| <= t2`` if it is dropped. The
    sum over all coefficients is smallest if those with the smallest ``v1_j - v0_j`` are kept, exactly K in total. So
    the bound holds for any slopes; ``a_j = w_j`` for what is surely kept and 0 elsewhere makes it exact if nothing is
    free, and charges each free coefficient what it alone can lose.

    In l2 the coefficients of an orthonormal basis share the budget: ``sum_j (c_j - centre_j)^2 <= eps^2``. There all
    slopes are 0 and ``p ((c_j - centre_j)^2)`` is added to each term, ``p eps^2`` subtracted in the end. By weak
    duality this is a lower bound for every price p >= 0, and the largest over several prices is taken. A constant
    support has its exact worst case ``eps ||w_S||_2`` at the price ``||w_S||_2 / (2 eps)``.

    Channels select separately, so their bounds add.

    Parameters
    ----------
    norm : {"linf", "l2", "l1"}
    lower_linear : callable
        ``lower_linear(slopes, rows)``: lower bounds of ``sum_j slopes_j c_j`` over exact coefficients of the ball of
        each row, for slopes of shape (n_rows, n_channels, n_coefficients), rounding included: shape
        (n_rows, n_channels).
    """

    def __init__(self, norm, lower_linear):
        self.norm, self.lower_linear = norm, lower_linear

    def exceeds(self, coefficients, weights, goal, eps, group):
        """Whether the sum is proved to exceed `goal` in the whole ball.

        Parameters
        ----------
        coefficients : Coefficients
        weights : ndarray of shape (n_samples, n_channels, n_coefficients)
        goal : ndarray of shape (n_samples,)
        eps : ndarray of shape (n_samples,)
        group : ndarray of int of shape (n_samples,)
            Samples of a group are needed together: once one of them fails, the others are left out.

        Returns
        -------
        ndarray of bool of shape (n_samples,)
        """
        n, n_channels = weights.shape[:2]
        first, last = coefficients.thresholds()
        prices = self._prices(coefficients, weights, eps)
        context = coefficients, weights, prices, eps
        # The sweep cannot prove more than it proves at any one threshold: leave out what fails there.
        middle = (first + last) / 2
        rows = np.arange(n)
        alone = self._bounds(*context, rows, middle, middle)
        pending = self._total(alone, prices, eps) > goal
        pending &= np.bincount(group, ~pending)[group] == 0
        result = np.zeros(n, dtype=bool)
        row = np.flatnonzero(pending)
        low, high = first[row], last[row]
        bounds = self._bounds(*context, row, low, high)
        # One list of intervals for all rows, of equal number in each channel; `is_open`: not yet settled.
        bounds, is_open = self._bounds(*context, row, low, high), np.ones(low.shape, dtype=bool)
        for round_ in range(N_ROUNDS + 1):
            least = np.full((n, n_channels, prices.shape[1]), np.inf)
            np.minimum.at(least, row, np.where(is_open[..., None], bounds, np.inf))
            for channel in range(n_channels):
                # An interval is settled if the sum exceeds the goal whatever the thresholds of the other channels.
                totals = least[row]
                totals[:, channel] = bounds[:, channel]
                is_open[:, channel] &= self._total(totals, prices[row], eps[row]) <= goal[row]
            n_open = np.zeros((n, n_channels), dtype=np.int64)
            np.add.at(n_open, row, is_open)
            proved = pending & (n_open == 0).any(axis=1)
            result |= proved
            pending &= ~proved
            keep = pending[row] & is_open.any(axis=1)
            row, low, high, bounds, is_open = row[keep], low[keep], high[keep], bounds[keep], is_open[keep]
            if round_ == N_ROUNDS or not len(row):
                break
            cut = (low + high) / 2
            row, is_open = np.concatenate([row, row]), np.concatenate([is_open, is_open])
            low, high = np.concatenate([low, cut]), np.concatenate([cut, high])
            bounds = np.maximum(np.concatenate([bounds, bounds]), self._bounds(*context, row, low, high))
        return result

    def _prices(self, coefficients, weights, eps):
        """Prices of squared changes, of shape (n_samples, n_prices); zero, and one only, unless the norm is l2."""
        if self.norm != "l2":
            return np.zeros((len(weights), 1))
        total = 0.0
        for channel, k in enumerate(coefficients.n_kept):
            magnitudes = np.abs(coefficients.centre[:, channel])
            kept = np.argpartition(-magnitudes, k - 1, axis=1)[:, :k]
            total = total + (np.take_along_axis(weights[:, channel], kept, axis=1) ** 2).sum(axis=1)
        best = np.sqrt(total) / (2 * np.maximum(eps, 1e-12))
        return best[:, None] * np.array(L2_PRICES)

    def _total(self, bounds, prices, eps):
        budget = prices * (eps**2 * (1 + 1e-5))[:, None]  # filters count as orthonormal if they are to within 1e-9
        return (bounds.sum(axis=1) - budget).max(axis=1)

    def _bounds(self, coefficients, weights, prices, eps, rows, low, high):
        """Bounds of each channel for thresholds in [low, high], of shape (n_rows, n_channels, n_prices)."""
        result = np.empty((len(rows), weights.shape[1], prices.shape[1]))
        for batch in batch_slices(len(rows), 16 * 8 * weights[0].size):
            few = rows[batch]
            part = coefficients[few], weights[few], prices[few], eps[few]
            result[batch] = self._batch(*part, few, low[batch], high[batch])
        return result

    def _batch(self, coefficients, weights, prices, eps, rows, low, high):
        may_keep, may_drop = coefficients.fates(low, high)
        keep_from = np.maximum(low - coefficients.tie, 0.0)[..., None]
        drop_to = (high + coefficients.tie)[..., None]
        surely_kept = ~may_drop
        if self.norm == "l2":
            slopes, linear = np.zeros_like(weights), 0.0
        else:
            slopes = np.where(surely_kept, weights, 0.0)
            linear = self.lower_linear(slopes, rows)
        rest = weights - slopes
        result = np.empty((*weights.shape[:2], prices.shape[1]))
        for number in range(prices.shape[1]):
            price = prices[:, number, None, None]
            kept = self._kept(coefficients, rest, price, keep_from)
            # Slopes of what may be dropped are zero, so only the change itself is paid for.
            excess = np.maximum(np.abs(coefficients.centre) - drop_to - coefficients.slack, 0.0)
            dropped = price * excess**2
            sure = np.where(surely_kept, kept, np.where(may_drop, dropped, 0.0))
            gain = np.where(may_keep & may_drop, kept - dropped, np.inf)
            # Sums of n terms, rounded outward.
            size = np.where(may_keep, np.abs(kept), 0.0).sum(axis=2) + np.where(may_drop, dropped, 0.0).sum(axis=2)
            value = sure.sum(axis=2) + linear - 4 * gamma(weights.shape[2] + 16, np.float64) * size
            for channel, k in enumerate(coefficients.n_kept):
                left = k - surely_kept[:, channel].sum(axis=1)
                ordered = np.sort(gain[:, channel], axis=1)
                sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(ordered, axis=1)], axis=1)
                chosen = np.take_along_axis(sums, np.maximum(left, 0)[:, None], axis=1)[:, 0]
                # No selection has its threshold here if too many are surely kept, or too few may be.
                value[:, channel] += np.where(left < 0, np.inf, chosen)
            result[..., number] = value
        return result

    @staticmethod
    def _kept(coefficients, weights, price, keep_from):
        """Smallest ``w c + price (c - centre)^2`` over the range of c with ``|c| >= keep_from``."""
        size, sign = np.abs(weights), np.where(weights < 0, -1.0, 1.0)
        centre = sign * coefficients.centre  # oriented, so that the score falls with c
        lowest, highest = centre - coefficients.change, centre + coefficients.change
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(price > 0, centre - coefficients.slack - size / (2 * price), -np.inf)
        wanted = np.maximum(np.where(np.isnan(wanted), centre, wanted), lowest)

        def value(c):
            moved = np.maximum(np.abs(c - centre) - coefficients.slack, 0.0)
            return size * c + price * moved**2

        # The function is convex; on each side of the gap (-keep_from, keep_from) the nearest point to its minimum.
        above = np.minimum(np.maximum(wanted, keep_from), np.maximum(highest, keep_from))
        below = np.minimum(wanted, -keep_from)
        return np.minimum(
            np.where(highest >= keep_from, value(above), np.inf),
            np.where(lowest <= -keep_from, value(below), np.inf),
        )

"""Thresholds that few responses lie near, and the mean responses between them."""

import numpy as np

from skrobust.signals import batch_slices

_MAX_BINS = 1 << 22
"""Maximum number of bins of all histograms together."""

_SPACINGS = (2, 1, 0.5, 0.25, 0)
"""Distances between thresholds that are tried, in units of eps."""

_MAX_COST_RATIO = 2
"""Thresholds at a distance are accepted if they cost at most this multiple of copies of the best one."""
_USELESS_COST = 0.5
"""Cost from which a threshold is useless: half of the pairs that it separates could be changed."""


class Histograms:
    """Histograms of the responses of each group of atoms to the training signals.

    `groups` is the group of each atom. `magnitudes`: count magnitudes, for ternary codes. `edges` are those of the
    bins; `counts` has shape (n_groups, n_bins).
    """

    def __init__(self, atoms, values, groups, magnitudes, *, n_jobs=None):
        from .kernels import count

        low, high = float(values.min()), float(values.max())
        if not atoms.is_nonnegative:
            low, high = min(low, -high), max(high, -low)
        if magnitudes:
            low, high = 0.0, max(high, -low)
        if not high > low:
            low, high = (low, low + 1) if magnitudes else (low - 0.5, low + 0.5)
        n_groups = int(groups.max()) + 1
        n_bins = int(np.clip(_MAX_BINS // n_groups, 64, 2048))
        self.edges = np.linspace(low, high, n_bins + 1)
        self.counts = np.zeros((n_groups, n_bins), dtype=np.int64)
        bins_per_unit = n_bins / (high - low)
        for batch in batch_slices(len(values), 4 * atoms.n_atoms * values.itemsize):
            responses = atoms.responses(values[batch], n_jobs=n_jobs)
            count(responses, atoms.scale, groups, low, bins_per_unit, magnitudes, self.counts)

    def level_means(self, thresholds):
        """Mean response between consecutive thresholds, of shape (n_groups, n_thresholds + 1).

        The middle of the interval if there is no response in it.
        """
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        means = np.empty((len(self.counts), thresholds.shape[1] + 1))
        for g, (counts, cuts) in enumerate(zip(self.counts, thresholds, strict=True)):
            level = np.searchsorted(cuts, centres)
            n = np.bincount(level, counts, minlength=means.shape[1])
            total = np.bincount(level, counts * centres, minlength=means.shape[1])
            ends = np.clip(np.concatenate([self.edges[:1], cuts, self.edges[-1:]]), *self.edges[[0, -1]])
            means[g] = np.where(n > 0, total / np.maximum(n, 1), (ends[1:] + ends[:-1]) / 2)
        return means


def choose_thresholds(histograms, eps, n_thresholds, min_share):
    """Thresholds of each group, ascending, that perturbations cross rarely relative to what they separate.

    The cost of a threshold is the share of responses within `eps` of it, divided by the share of pairs of signals that
    it separates, 2 p (1 - p) with p the share above it. (Without the division, thresholds that almost no response
    exceeds would be best.) At least `min_share` of the responses lie on either side, unless all such thresholds are
    useless. Several thresholds lie ``2 * eps`` apart, or closer if they would cost more than twice as much as copies
    of the best one. Of equal costs the middle one is chosen.
    """
    edges = histograms.edges
    radius = eps / (edges[1] - edges[0])
    return np.stack([_choose(counts, edges, radius, n_thresholds, min_share) for counts in histograms.counts])


def _choose(counts, edges, radius, n_thresholds, min_share):
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    inner = np.arange(1, len(counts))
    above = 1 - below[inner]
    separated = 2 * above * (1 - above)
    near_share = _share_within(below, inner, radius)
    if n_thresholds > 1:  # responses somewhat farther away break ties
        near_share = near_share + 1e-2 * _share_within(below, inner, 1.5 * radius)
        near_share = near_share + 1e-3 * _share_within(below, inner, 2 * radius)
    cost = near_share / np.where(separated > 0, separated, np.inf) if separated.any() else near_share
    cost = np.where((separated > 0) | ~separated.any(), cost, np.inf)
    balanced = np.minimum(above, 1 - above) >= min_share
    if balanced.any() and cost[balanced].min() < _USELESS_COST:
        cost = np.where(balanced, cost, np.inf)
    if n_thresholds == 1:
        return edges[inner[[_middle_of_minimum(cost)]]]
    min_total = n_thresholds * cost.min()
    for relative_spacing in _SPACINGS:
        chosen = _spaced_minima(cost, n_thresholds, max(1, int(np.ceil(relative_spacing * radius))))
        if chosen is not None and cost[chosen].sum() <= _MAX_COST_RATIO * min_total + 1e-12:
            return edges[inner[chosen]]
    # No spacing is possible: spread them evenly over the allowed positions.
    allowed = np.flatnonzero(np.isfinite(cost))
    return edges[inner[allowed[np.linspace(0, len(allowed) - 1, n_thresholds).round().astype(int)]]]


def _share_within(below, edges, radius):
    """Share of the responses within `radius` bins of the edges `edges`."""
    k = int(np.ceil(radius))
    last = len(below) - 1
    return below[np.minimum(edges + k, last)] - below[np.maximum(edges - k, 0)]


def _middle_of_minimum(cost):
    """Middle of the longest run of costs almost equal to the smallest."""
    equal = np.flatnonzero(cost <= cost.min() * 1.02 + 1e-3)
    runs = np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1)
    run = max(runs, key=len)
    return run[len(run) // 2]


def _spaced_minima(cost, n, spacing):
    """Ascending positions, at least `spacing` apart, of smallest total cost, by dynamic programming."""
    total, choices = cost.copy(), []
    for _ in range(n - 1):
        # Best end of the thresholds so far, at or before each position.
        best = np.zeros(len(cost), dtype=int)
        for i in range(1, len(cost)):
            best[i] = i if total[i] < total[best[i - 1]] else best[i - 1]
        latest = np.maximum(np.arange(len(cost)) - spacing, -1)
        previous = np.where(latest >= 0, best[latest], 0)
        choices.append(previous)
        total = np.where(latest >= 0, total[previous], np.inf) + cost
    at = int(np.argmin(total))
    if not np.isfinite(total[at]):
        return None
    chosen = [at]
    for previous in reversed(choices):
        chosen.append(int(previous[chosen[-1]]))
    return np.array(chosen[::-1])

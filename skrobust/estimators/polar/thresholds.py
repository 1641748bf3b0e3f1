"""Where to put thresholds so that few responses lie near them, and what image of the response a code keeps."""

import numpy as np

from skrobust.signals import batch_slices

_MOST_COUNTERS = 1 << 22

_SPREADS = (2, 1, 0.5, 0.25, 0)
"""Distances between thresholds that are tried, in units of eps."""

_PATIENCE = 2
_USELESS = 0.5
"""Share of what a threshold tells apart that can be changed."""


class Histograms:
    """How often each group of atoms responds how strongly to the training signals.

    `groups` is the group of each atom. With `magnitudes`, magnitudes are counted, for codes that treat both signs
    alike. `edges` are those of the bins, `counts` of shape (n_groups, n_bins).
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
        n_bins = int(np.clip(_MOST_COUNTERS // n_groups, 64, 2048))
        self.edges = np.linspace(low, high, n_bins + 1)
        self.counts = np.zeros((n_groups, n_bins), dtype=np.int64)
        per_unit = n_bins / (high - low)
        for batch in batch_slices(len(values), 4 * atoms.n_atoms * values.itemsize):
            responses = atoms.responses(values[batch], n_jobs=n_jobs)
            count(responses, atoms.scale, groups, low, per_unit, magnitudes, self.counts)

    def level_means(self, thresholds):
        """Mean response between consecutive thresholds, of shape (n_groups, n_thresholds + 1).

        Where nothing was counted, the middle of the interval.
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
    """Thresholds of each group, ascending, that a perturbation moves responses across as seldom as possible, for what
    they tell.

    Minimises the share of responses within `eps` of a threshold over the share of pairs of signals that it tells apart,
    2 p (1 - p) with p the share above it: the share alone is smallest where nearly nothing responds. On either side
    there are at least `min_share` of the responses, unless all such thresholds are useless. Several lie ``2 * eps``
    apart, or as much less as it takes to cost no more than twice as many copies of the best one would. Among equals,
    the middle one.
    """
    edges = histograms.edges
    reach = eps / (edges[1] - edges[0])
    return np.stack([_choose(counts, edges, reach, n_thresholds, min_share) for counts in histograms.counts])


def _choose(counts, edges, reach, n_thresholds, min_share):
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    inner = np.arange(1, len(counts))
    above = 1 - below[inner]
    told = 2 * above * (1 - above)
    near = _share_within(below, inner, reach)
    if n_thresholds > 1:  # what is somewhat farther away decides between equals
        near = near + 1e-2 * _share_within(below, inner, 1.5 * reach) + 1e-3 * _share_within(below, inner, 2 * reach)
    cost = near / np.where(told > 0, told, np.inf) if told.any() else near
    cost = np.where((told > 0) | ~told.any(), cost, np.inf)
    balanced = np.minimum(above, 1 - above) >= min_share
    if balanced.any() and cost[balanced].min() < _USELESS:
        cost = np.where(balanced, cost, np.inf)
    if n_thresholds == 1:
        return edges[inner[[_middle_of_minimum(cost)]]]
    cheapest = n_thresholds * cost.min()
    for spread in _SPREADS:
        chosen = _spaced_minima(cost, n_thresholds, max(1, int(np.ceil(spread * reach))))
        if chosen is not None and cost[chosen].sum() <= _PATIENCE * cheapest + 1e-12:
            return edges[inner[chosen]]
    # No room for that: evenly over what is allowed.
    places = np.flatnonzero(np.isfinite(cost))
    return edges[inner[places[np.linspace(0, len(places) - 1, n_thresholds).round().astype(int)]]]


def _share_within(below, at, reach):
    """Share of the responses within `reach` bins of the edges `at`."""
    k = int(np.ceil(reach))
    last = len(below) - 1
    return below[np.minimum(at + k, last)] - below[np.maximum(at - k, 0)]


def _middle_of_minimum(cost):
    """Middle of the longest run of costs that differ from the smallest by next to nothing."""
    equal = np.flatnonzero(cost <= cost.min() * 1.02 + 1e-3)
    runs = np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1)
    run = max(runs, key=len)
    return run[len(run) // 2]


def _spaced_minima(cost, n, spacing):
    """Ascending positions, at least `spacing` apart, of smallest total cost, by dynamic programming."""
    total, back = cost.copy(), []
    for _ in range(n - 1):
        # Best end of the thresholds so far, at or before each position.
        best = np.zeros(len(cost), dtype=int)
        for i in range(1, len(cost)):
            best[i] = i if total[i] < total[best[i - 1]] else best[i - 1]
        before = np.maximum(np.arange(len(cost)) - spacing, -1)
        known = np.where(before >= 0, best[before], 0)
        back.append(known)
        total = np.where(before >= 0, total[known], np.inf) + cost
    at = int(np.argmin(total))
    if not np.isfinite(total[at]):
        return None
    chosen = [at]
    for known in reversed(back):
        chosen.append(int(known[chosen[-1]]))
    return np.array(chosen[::-1])

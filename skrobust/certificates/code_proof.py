"""Certificates of linear classifiers on polarized codes."""

import numpy as np

from skrobust.estimators import PolarizingCoder
from skrobust.kernels.rounding import gamma
from skrobust.signals import batch_slices

from .margins import other_classes
from .proofs import Proof, array_images
from .registry import NoCertificateError, register_certificate


class CodeBoxProof(Proof):
    """Worst case over the levels that each atom can reach, atom by atom.

    An atom's entries change together, as its response crosses one threshold after the other. Exact for pixels in linf,
    which change independently; other atoms are assumed to reach their worst levels together.
    """

    def __init__(self, coder, values, others, norm, clip):
        super().__init__(values, others, norm, clip)
        self.switches = coder.switches_
        self.n_jobs = coder.n_jobs
        self.scores = self._level_scores(others.head.coef)
        # Codes are at most 1, so rounding is the same for all images; our arithmetic adds up to three terms per entry.
        ones = np.ones(len(self.switches.thresholds))
        self.errors = others.errors(ones, values.dtype) + 2 * others.errors(ones, np.dtype(np.float64))

    @property
    def is_exact(self):
        return self.norm == "linf" and self.switches.atoms.is_exact

    @property
    def method(self):
        return f"polarized code: worst case over the levels of each atom ({'exact' if self.is_exact else 'sound'})"

    def holds(self, eps, index):
        result = np.zeros(len(index), dtype=bool)
        n_classes, n_atoms, n_levels = self.scores.shape
        for batch in batch_slices(len(index), 16 * n_classes * n_atoms * n_levels):
            result[batch] = self._batch(eps[batch], index[batch])
        return result

    def _batch(self, eps, index):
        values, others = self.values[index], self.others[index]
        codes = self.switches.encode(values, n_jobs=self.n_jobs).astype(np.float64)
        bounds = self.switches.bounds(values, eps, self.norm, self.clip, n_jobs=self.n_jobs)
        level, low, high = map(self._levels, (codes, bounds.lower, bounds.upper))
        margins = others.margins(codes)
        sample, atom = np.nonzero(low != high)
        levels = np.arange(self.scores.shape[2])
        for label, members, _, _ in others.groups():
            pairs = np.flatnonzero(np.isin(sample, members))
            at = sample[pairs], atom[pairs]
            differences = self.scores[label, at[1]] - self.scores[:, at[1]]  # (n_classes, n_pairs, n_levels)
            reachable = (levels >= low[at][:, None]) & (levels <= high[at][:, None])
            current = np.take_along_axis(differences, level[at][None, :, None], axis=2)[..., 0]
            loss = current - np.where(reachable, differences, np.inf).min(axis=2)
            for other in range(len(loss)):
                if other != label:
                    margins[:, other] -= np.bincount(at[0], loss[other], minlength=len(margins))
        return (margins > self.errors[index]).all(axis=1)

    def _levels(self, codes):
        """Number of thresholds exceeded by each atom; for ternary codes counted from minus the largest threshold."""
        n, m = len(codes), self.switches.n_thresholds
        return codes.reshape(n, -1, m).sum(axis=2).astype(np.int64) + (m if self.switches.ternary else 0)

    def _level_scores(self, coef):
        """Contribution of each atom and level to each score, of shape (n_classes, n_atoms, n_levels)."""
        steps = coef.reshape(len(coef), -1, self.switches.n_thresholds)
        upward = np.concatenate([np.zeros_like(steps[..., :1]), np.cumsum(steps, axis=2)], axis=2)
        return np.concatenate([-upward[..., :0:-1], upward], axis=2) if self.switches.ternary else upward


class CodeBudgetProof(Proof):
    """l2 and l1: the perturbation budget is shared by all entries.

    Entries that change together need their responses to change by gaps g_j, with ``sum_j g_j^p <= mass eps^p`` (p = 2
    or 1). The fractional knapsack problem, which takes entries in order of harm per cost, bounds the worst case over
    all such sets. The better of this bound and that of the box is used.
    """

    def __init__(self, coder, values, others, norm, clip):
        super().__init__(values, others, norm, clip)
        self.switches, self.n_jobs = coder.switches_, coder.n_jobs
        self.power = 2 if norm == "l2" else 1
        self.method = "polarized code: worst case over what the budget of a perturbation can change (sound)"
        self._radii = None

    def holds(self, eps, index):
        return self.radii()[index] >= eps

    def radii(self):
        if self._radii is None:
            self._radii = np.zeros(len(self.values))
            n_entries = len(self.switches.thresholds) * (2 if self.switches.ternary else 1)
            for batch in batch_slices(len(self.values), 64 * n_entries):
                self._radii[batch] = self._batch(batch)
        return self._radii

    def _batch(self, batch):
        values, others = self.values[batch], self.others[batch]
        switches, atoms = self.switches, self.switches.atoms
        codes = switches.encode(values, n_jobs=self.n_jobs).astype(np.float64)
        on, distance = switches.flip_distances(values, self.norm, self.clip, n_jobs=self.n_jobs)
        sides = (1, -1) if switches.ternary else (1,)
        per_code = np.repeat(atoms.dual_norms(self.norm), switches.n_thresholds)
        cost = (distance * np.tile(per_code, len(sides)) * (1 - 1e-12)) ** self.power
        mass = atoms.mass(self.norm) * switches.n_thresholds * len(sides)
        margins = others.margins(codes)
        margins -= others.errors(np.ones(codes.shape[1]), values.dtype)
        radii = np.where((margins > 0).all(axis=1), np.inf, 0.0)
        rounding = 1 + gamma(cost.shape[1] + 2, np.float64)
        for label, members, weights, _ in others.groups():
            for other in range(len(weights)):
                if other == label:
                    continue
                effect = np.concatenate([side * weights[other] for side in sides])
                harm = np.maximum(np.where(on[members], effect, -effect), 0) * rounding
                slack = margins[members, other]
                by_box = _first_crossing(distance[members], harm, slack)
                budget = _least_budget(cost[members], harm, slack)
                by_budget = (budget / (mass * rounding)) ** (1 / self.power) * (1 - 1e-12)
                radii[members] = np.minimum(radii[members], np.maximum(by_box, by_budget))
        return np.where(radii > 0, np.nextafter(radii, 0), 0.0)


@register_certificate(PolarizingCoder)
def _prove(coder, name, head, X, y, norm, clip):
    if coder.output == "reconstruction":
        matrix, offset = coder._decoder()
        _refuse_active_clip(coder, name, matrix, offset)
        head = head.after(matrix, offset, int(np.diff(matrix.indptr).max(initial=0)) + 8)
    proof = CodeBoxProof if norm == "linf" else CodeBudgetProof
    return proof(coder, array_images(coder, X), other_classes(head, y), norm, clip)


def _refuse_active_clip(coder, name, matrix, offset):
    """Raise an error if the clip may change a reconstruction, which would then not be affine in the code."""
    if coder.clip is None:
        return
    rise = np.maximum(matrix.toarray(), 0).sum(axis=1)
    fall = np.minimum(matrix.toarray(), 0).sum(axis=1)
    if coder.switches_.ternary:
        rise, fall = rise - fall, fall - rise
    low, high = (offset + fall).min(), (offset + rise).max()
    if low < coder.clip[0] or high > coder.clip[1]:
        raise NoCertificateError(
            f"No certificate through step {name!r} ({type(coder).__name__}): clip={tuple(coder.clip)!r} may cut "
            f"reconstructions, which can reach {low:.6g} to {high:.6g}. Set clip=None, or use output='code'."
        )


def _first_crossing(distance, harm, slack):
    """Smallest distance at which the total harm reaches the slack; infinity if it never does."""
    order = np.argsort(distance, axis=1)
    reached = np.cumsum(np.take_along_axis(harm, order, axis=1), axis=1) >= slack[:, None]
    reached &= np.isfinite(np.take_along_axis(distance, order, axis=1))
    first = np.argmax(reached, axis=1)
    crossing = np.take_along_axis(distance, np.take_along_axis(order, first[:, None], axis=1), axis=1)[:, 0]
    return np.where(reached.any(axis=1), crossing, np.inf)


def _least_budget(cost, harm, slack):
    """Smallest cost, fractions allowed, at which the harm reaches the slack; infinity if it never does."""
    useful = np.isfinite(cost) & (harm > 0)
    price = np.where(useful, cost / np.where(harm > 0, harm, 1), np.inf)
    order = np.argsort(price, axis=1)
    harm = np.take_along_axis(np.where(useful, harm, 0), order, axis=1)
    cost = np.take_along_axis(np.where(useful, cost, 0), order, axis=1)
    price = np.take_along_axis(price, order, axis=1)
    total = np.cumsum(harm, axis=1)
    reached = total >= slack[:, None]
    first = np.argmax(reached, axis=1)[:, None]
    before = np.take_along_axis(np.cumsum(cost, axis=1) - cost, first, axis=1)[:, 0]
    missing = slack - np.take_along_axis(total - harm, first, axis=1)[:, 0]
    last = np.maximum(missing, 0) * np.take_along_axis(price, first, axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        budget = before + last
    return np.where(reached.any(axis=1), budget * (1 - gamma(2 * cost.shape[1] + 4, np.float64)), np.inf)

"""How far a bounded perturbation can move codes."""

from dataclasses import dataclass
from numbers import Real

import numpy as np

from skrobust.kernels.rounding import smallest_above
from skrobust.kernels.threads import on_threads
from skrobust.signals import batch_slices, kernel_threads

from .atoms import DUAL_ORDERS

NORMS = tuple(DUAL_ORDERS)


@dataclass(frozen=True)
class CodeBounds:
    """Least and greatest value that each entry of a code can take under a perturbation.

    Attributes
    ----------
    lower, upper : ndarray of int8 of shape (n_samples, n_codes)
    """

    lower: np.ndarray
    upper: np.ndarray

    @property
    def ambiguous(self):
        """Entries that some perturbation may change, bool of shape (n_samples, n_codes)."""
        return self.lower != self.upper

    @property
    def surely_on(self):
        """Entries that differ from zero, the same for every perturbation."""
        return ~self.ambiguous & (self.lower != 0)

    @property
    def surely_off(self):
        """Entries that stay zero."""
        return ~self.ambiguous & (self.lower == 0)


@dataclass(frozen=True)
class Switches:
    """The comparisons of which codes are made: responses (or their negatives) against thresholds.

    A code entry is a switch; a ternary one the difference of two, the second on where the response falls below minus
    the threshold. `thresholds`, one a code entry, are in the units of the responses.
    """

    atoms: object
    thresholds: np.ndarray
    n_thresholds: int
    ternary: bool

    def encode(self, values, *, n_jobs=None):
        """Codes in the dtype of `values`."""
        return self.atoms.encode(values, self.in_dtype(values.dtype), self.n_thresholds, self.ternary, n_jobs=n_jobs)

    def in_dtype(self, dtype):
        """Thresholds that numbers of `dtype` exceed exactly when they exceed the float64 ones."""
        rounded = self.thresholds.astype(dtype)
        return np.where(rounded > self.thresholds, np.nextafter(rounded, dtype.type(-np.inf)), rounded)

    def bounds(self, values, eps, norm, clip, *, n_jobs=None):
        """`CodeBounds` over the ball of radius `eps` (one a sample) around each sample, cut by `clip`, in which samples
        lie.
        """
        shape = len(values), len(self.thresholds)
        lower, upper = np.empty(shape, dtype=np.int8), np.empty(shape, dtype=np.int8)
        lowest, highest = (-np.inf, np.inf) if clip is None else map(float, clip)
        if self.atoms.is_exact:
            from .kernels import bound_pixels

            flat = np.ascontiguousarray(values).reshape(len(values), -1)
            how = self.thresholds, self.n_thresholds, self.ternary, lowest, highest
            with kernel_threads(n_jobs):
                on_threads(bound_pixels, flat, eps, *how, lower, upper, n_pieces=len(flat), work=16 * lower.size)
            return CodeBounds(lower, upper)
        for batch in batch_slices(len(values), 32 * shape[1]):
            low, high = self._response_bounds(values[batch], eps[batch], norm, clip, n_jobs)
            low, high = np.repeat(low, self.n_thresholds, axis=1), np.repeat(high, self.n_thresholds, axis=1)
            lower[batch], upper[batch] = low > self.thresholds, high > self.thresholds
            if self.ternary:
                lower[batch] -= -low > self.thresholds
                upper[batch] -= -high > self.thresholds
        return CodeBounds(lower, upper)

    def _response_bounds(self, values, eps, norm, clip, n_jobs):
        """Outward bounds of the responses that `encode` computes for any signal in the ball."""
        exact = values.astype(np.float64)
        radius = eps.reshape(-1, *[1] * (values.ndim - 1))
        size = np.abs(exact).reshape(len(values), -1).max(axis=1) + eps
        # The encoder's own rounding, and that of the lines below: a response, a spread, and the ends of the ball.
        slack = self.atoms.rounding(values.dtype) + 3 * self.atoms.rounding(np.dtype(np.float64))
        if norm == "linf" and clip is not None:
            low, high = np.maximum(exact - radius, clip[0]), np.minimum(exact + radius, clip[1])
            centre = self.atoms.responses((low + high) / 2, n_jobs=n_jobs)
            moved = self.atoms.spread((high - low) / 2, n_jobs=n_jobs)
        else:
            centre = self.atoms.responses(exact, n_jobs=n_jobs)
            moved = eps[:, None] * self.atoms.dual_norms(norm)
        moved = moved + size[:, None] * slack
        return centre - moved, centre + moved

    def flip_distances(self, values, norm, clip, *, n_jobs=None):
        """How large a perturbation must be to change a switch: state of each switch, those below minus the threshold
        last, and the smallest eps that may change it, infinity where none can.

        Where responses are rounded, `clip` is not used: the distance is then too small.
        """
        states, distances = [], []
        for sign in (1, -1) if self.ternary else (1,):
            measure = self._exact_distances if self.atoms.is_exact else self._safe_distances
            on, distance = measure(sign, values, norm, clip, n_jobs)
            states.append(on)
            distances.append(distance)
        return np.concatenate(states, axis=1), np.concatenate(distances, axis=1)

    def _exact_distances(self, sign, values, norm, clip, n_jobs):
        response = sign * np.repeat(self.atoms.responses(values), self.n_thresholds, axis=1).astype(np.float64)
        on = response > self.thresholds
        falling = smallest_above(response, self.thresholds, strictly=False)
        rising = smallest_above(self.thresholds, response, strictly=True)
        distance = np.where(on, falling, rising)
        if clip is not None:
            least, most = sorted(sign * float(bound) for bound in clip)
            stuck = np.where(on, least > self.thresholds, most <= self.thresholds)
            distance[stuck] = np.inf
        return on, distance

    def _safe_distances(self, sign, values, norm, clip, n_jobs):
        exact = values.astype(np.float64)
        response = sign * np.repeat(self.atoms.responses(exact, n_jobs=n_jobs), self.n_thresholds, axis=1)
        size = np.abs(exact).reshape(len(values), -1).max(axis=1)
        slack = self.atoms.rounding(values.dtype) + 2 * self.atoms.rounding(np.dtype(np.float64))
        slack = np.repeat(slack, self.n_thresholds)
        speed = np.repeat(self.atoms.dual_norms(norm), self.n_thresholds) + slack
        gap = np.abs(response - self.thresholds) - size[:, None] * slack
        return response > self.thresholds, np.maximum(gap / speed * (1 - 1e-12), 0.0)


def check_ball(eps, norm, clip, values):
    """`eps` as an array with one entry a sample, after checking that the ball makes sense for `values`."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}.")
    radii = np.asarray(eps, dtype=np.float64)
    if radii.ndim and radii.shape != (len(values),):
        raise ValueError(f"eps must be a number or have one entry a sample, {len(values)}; got shape {radii.shape}.")
    if not (np.isfinite(radii) & (radii >= 0)).all():
        raise ValueError(f"eps must be finite and not negative, got {eps!r}.")
    if clip is not None:
        if len(clip) != 2 or not all(isinstance(bound, Real) for bound in clip) or not clip[0] <= clip[1]:
            raise ValueError(f"clip must be None or (lowest, highest) with lowest <= highest, got {clip!r}.")
        if values.min() < clip[0] or values.max() > clip[1]:
            raise ValueError(
                f"X has values from {values.min():.6g} to {values.max():.6g}, outside clip={tuple(clip)!r}. Rescale X, "
                "or set clip to the range that its values can take (None: any)."
            )
    return np.broadcast_to(radii, (len(values),)).copy()

"""Bounds of codes under bounded perturbations."""

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
    """Smallest and largest value that each entry of a code can take under a perturbation.

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
        """Entries that are nonzero, with the same value, under every perturbation."""
        return ~self.ambiguous & (self.lower != 0)

    @property
    def surely_off(self):
        """Entries that are zero under every perturbation."""
        return ~self.ambiguous & (self.lower == 0)


@dataclass(frozen=True)
class Switches:
    """The comparisons of responses with thresholds that make up a code.

    A switch is 1 if the response exceeds its threshold, else 0. A binary code entry is a switch; a ternary entry is
    that switch minus one for the negative response. `thresholds`, one per code entry, are in units of the responses.
    """

    atoms: object
    thresholds: np.ndarray
    n_thresholds: int
    ternary: bool

    def encode(self, values, *, n_jobs=None):
        """Codes in the dtype of `values`."""
        return self.atoms.encode(values, self.in_dtype(values.dtype), self.n_thresholds, self.ternary, n_jobs=n_jobs)

    def in_dtype(self, dtype):
        """Thresholds in `dtype` that a number of `dtype` exceeds if and only if it exceeds the float64 ones."""
        rounded = self.thresholds.astype(dtype)
        return np.where(rounded > self.thresholds, np.nextafter(rounded, dtype.type(-np.inf)), rounded)

    def bounds(self, values, eps, norm, clip, *, n_jobs=None):
        """`CodeBounds` over the ball of radius `eps` (one per sample) around each sample, intersected with `clip`.
        """
        shape = len(values), len(self.thresholds)
        lower, upper = np.empty(shape, dtype=np.int8), np.empty(shape, dtype=np.int8)
        lowest, highest = (-np.inf, np.inf) if clip is None else map(float, clip)
        if self.atoms.is_exact:
            from .kernels import bound_pixels

            flat = np.ascontiguousarray(values).reshape(len(values), -1)
            settings = self.thresholds, self.n_thresholds, self.ternary, lowest, highest
            with kernel_threads(n_jobs):
                on_threads(bound_pixels, flat, eps, *settings, lower, upper, n_pieces=len(flat), work=16 * lower.size)
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
        """Bounds, including rounding, of the responses that `encode` computes for any signal in the ball."""
        exact = values.astype(np.float64)
        radius = eps.reshape(-1, *[1] * (values.ndim - 1))
        magnitude = np.abs(exact).reshape(len(values), -1).max(axis=1) + eps
        # Rounding errors of the encoder, and of the lines below: a response, its change, and the ends of the ball.
        rounding_error = self.atoms.rounding(values.dtype) + 3 * self.atoms.rounding(np.dtype(np.float64))
        if norm == "linf" and clip is not None:
            low, high = np.maximum(exact - radius, clip[0]), np.minimum(exact + radius, clip[1])
            centre = self.atoms.responses((low + high) / 2, n_jobs=n_jobs)
            change = self.atoms.spread((high - low) / 2, n_jobs=n_jobs)
        else:
            centre = self.atoms.responses(exact, n_jobs=n_jobs)
            change = eps[:, None] * self.atoms.dual_norms(norm)
        change = change + magnitude[:, None] * rounding_error
        return centre - change, centre + change

    def flip_distances(self, values, norm, clip, *, n_jobs=None):
        """State of each switch, and the smallest eps that may change it (infinity if none can).

        For ternary codes the switches of the negative responses come last. Where responses are rounded, `clip` is not
        used, and the distance is a lower bound.
        """
        states, distances = [], []
        for sign in (1, -1) if self.ternary else (1,):
            measure = self._exact_distances if self.atoms.is_exact else self._safe_distances
            is_on, distance = measure(sign, values, norm, clip, n_jobs)
            states.append(is_on)
            distances.append(distance)
        return np.concatenate(states, axis=1), np.concatenate(distances, axis=1)

    def _exact_distances(self, sign, values, norm, clip, n_jobs):
        response = sign * np.repeat(self.atoms.responses(values), self.n_thresholds, axis=1).astype(np.float64)
        is_on = response > self.thresholds
        falling = smallest_above(response, self.thresholds, strictly=False)
        rising = smallest_above(self.thresholds, response, strictly=True)
        distance = np.where(is_on, falling, rising)
        if clip is not None:
            least, greatest = sorted(sign * float(bound) for bound in clip)
            is_fixed = np.where(is_on, least > self.thresholds, greatest <= self.thresholds)
            distance[is_fixed] = np.inf
        return is_on, distance

    def _safe_distances(self, sign, values, norm, clip, n_jobs):
        exact = values.astype(np.float64)
        response = sign * np.repeat(self.atoms.responses(exact, n_jobs=n_jobs), self.n_thresholds, axis=1)
        magnitude = np.abs(exact).reshape(len(values), -1).max(axis=1)
        rounding_error = self.atoms.rounding(values.dtype) + 2 * self.atoms.rounding(np.dtype(np.float64))
        rounding_error = np.repeat(rounding_error, self.n_thresholds)
        rate = np.repeat(self.atoms.dual_norms(norm), self.n_thresholds) + rounding_error
        gap = np.abs(response - self.thresholds) - magnitude[:, None] * rounding_error
        return response > self.thresholds, np.maximum(gap / rate * (1 - 1e-12), 0.0)


def check_ball(eps, norm, clip, values):
    """`eps` as an array with one entry per sample; a ValueError if `eps`, `norm` or `clip` is invalid for `values`."""
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(map(repr, NORMS))}, got {norm!r}.")
    radii = np.asarray(eps, dtype=np.float64)
    if radii.ndim and radii.shape != (len(values),):
        raise ValueError(f"eps must be a number or have one entry per sample, {len(values)}; got shape {radii.shape}.")
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

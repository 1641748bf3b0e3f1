"""Certificates of linear classifiers behind a `WaveletSparsifier`."""

import numpy as np

from skrobust.estimators import WaveletSparsifier
from skrobust.estimators.polar.atoms import DUAL_ORDERS
from skrobust.estimators.polar.wavelet_atoms import WaveletAtoms
from skrobust.kernels.rounding import gamma
from skrobust.operators.wavelet.selection import TIE_ROUNDINGS
from skrobust.signals import batch_slices

from .margins import other_classes
from .proofs import Proof, array_images
from .registry import NoCertificateError, register_certificate
from .support_sweep import Coefficients, SupportSweep


class WaveletProof(Proof):
    """A linear worst case where the support is constant, a sweep over thresholds where it may change.

    *Constant support.* A perturbation e changes the coefficient of atom psi_j by at most ``|psi_j . e|``. If the gap
    between the smallest kept and the largest dropped magnitude exceeds the possible change of both, the support S
    cannot change, and the front end is the projection P_S followed by its clip. For a lower bound of
    d . clip(P_S (x + e)), the clip of each pixel is replaced, over the range of the pixel, by a line below it (d_i > 0)
    or above it (d_i < 0). The remaining linear function is minimised exactly over the ball.

    *Changing support.* The lines are found in the same way, for ranges of pixels that hold for every support that the
    perturbation may select. What remains is a linear function of the kept coefficients, which `SupportSweep` bounds.

    Parameters
    ----------
    front_end : WaveletSparsifier
    """

    method = "wavelet front end: worst case over the coefficients that may be kept (sound)"

    def __init__(self, front_end, values, others, norm, clip):
        super().__init__(values, others, norm, clip)
        self.front_end = front_end
        self.atoms = WaveletAtoms(front_end.wavelet, front_end._layout, front_end.level_)
        self.n_pixels = values[0].size // values.shape[-1]
        self.absolute = abs(self.atoms.analysis())
        self._gain = self.atoms._gain()
        # Magnitude to which the rounding error of a pixel after analysis and synthesis is relative.
        self._round_trip = float((self.atoms.analysis(absolute=True).T @ self._gain).max())

    def holds(self, eps, index):
        result = np.zeros(len(index), dtype=bool)
        per_image = 8 * 8 * self.values[0].size * len(self.others.head.classes)
        for batch in batch_slices(len(index), per_image):
            result[batch] = self._batch(eps[batch], index[batch])
        return result

    def _batch(self, eps, index):
        values = self.values[index].astype(np.float64)
        dtype = self.values.dtype
        size = np.abs(values).reshape(len(values), -1).max(axis=1) + eps
        centre, radius = values, np.broadcast_to(eps.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        if self.norm == "linf" and self.clip is not None:
            low, high = np.maximum(values - radius, self.clip[0]), np.minimum(values + radius, self.clip[1])
            centre, radius = (low + high) / 2, (high - low) / 2
        coefficients = self._analyze(centre)
        change = self._coefficient_changes(radius, eps)
        slack = self._gain * (gamma(self._n_operations, dtype) + 3 * gamma(self._n_operations, np.float64))
        support, fixed = self._support(coefficients, change, size[:, None, None] * slack, dtype)
        result = np.zeros(len(index), dtype=bool)
        chosen = np.flatnonzero(fixed)
        if len(chosen):
            parts = (part[chosen] for part in (centre, radius, eps, size, coefficients, support))
            result[chosen] = self._worst_case(index[chosen], *parts)
        chosen = np.flatnonzero(~result & (self.others.true[index] >= 0))
        if len(chosen):
            slack = size[:, None, None] * slack
            tie = TIE_ROUNDINGS * np.finfo(dtype).eps * (np.abs(coefficients) + change + slack).max(axis=2)
            codes = Coefficients(
                coefficients,
                np.broadcast_to(change, coefficients.shape) + slack,
                np.broadcast_to(slack, coefficients.shape),
                tie,
                self.front_end.n_nonzero_coefs_,
            )
            parts = (part[chosen] for part in (centre, radius, eps, size, codes))
            result[chosen] = self._sweep(index[chosen], *parts)
        return result

    def _support(self, coefficients, change, slack, dtype):
        """Mask of the K largest coefficients of each channel, and whether it is constant over the ball."""
        magnitudes = np.abs(coefficients)
        support = np.zeros(coefficients.shape, dtype=bool)
        fixed = np.ones(len(coefficients), dtype=bool)
        n = coefficients.shape[2]
        # Coefficients of two orthogonal atoms together change by at most sqrt(2) eps in l2.
        pair = np.sqrt(0.5) * (1 + 1e-6) if self.norm == "l2" else 1.0
        low, high = magnitudes - pair * change - slack, magnitudes + pair * change + slack
        tie = TIE_ROUNDINGS * np.finfo(dtype).eps * (magnitudes + change + slack).max(axis=2)
        for channel, k in enumerate(self.front_end.n_nonzero_coefs_):
            if k == n:
                support[:, channel] = True
                continue
            kept = np.argpartition(-magnitudes[:, channel], k - 1, axis=1)[:, :k]
            np.put_along_axis(support[:, channel], kept, True, axis=1)
            mask = support[:, channel]
            least_kept = np.where(mask, low[:, channel], np.inf).min(axis=1)
            most_dropped = np.where(mask, -np.inf, high[:, channel]).max(axis=1)
            fixed &= least_kept > most_dropped + tie[:, channel]
        return support, fixed

    def _worst_case(self, index, centre, radius, eps, size, coefficients, support):
        """Whether every score difference stays positive for a constant support."""
        n, dtype = len(index), self.values.dtype
        others = self.others[index]
        images = self._synthesize(coefficients * support)
        pixel_error = self._round_trip * gamma(2 * self._n_operations, dtype) * size
        proof_error = self._round_trip * gamma(2 * self._n_operations, np.float64)
        change = self._pixel_changes(support, radius, eps) + pixel_error[:, None]
        low, high = images - change, images + change
        lower, upper = line_below(low, high, self.front_end.clip), line_above(low, high, self.front_end.clip)
        largest = np.maximum(np.abs(low), np.abs(high))
        if self.front_end.clip is not None:
            largest = np.maximum(largest, np.abs(self.front_end.clip).max())
        weights, offset = others.weights()
        d = weights.reshape(n, -1, images.shape[1])
        lines = [np.where(d > 0, below[:, None], above[:, None]) for below, above in zip(lower, upper, strict=True)]
        slope, shift = d * lines[0], d * lines[1]
        selected = self._analyze(slope.reshape(-1, *centre.shape[1:])) * np.repeat(support, d.shape[1], axis=0)
        projected = self._synthesize(selected).reshape(d.shape)
        flat_centre, flat_radius = centre.reshape(n, -1), radius.reshape(n, -1)
        value = np.einsum("nrp,np->nr", projected, flat_centre) + shift.sum(axis=2) + offset
        if self.norm == "linf":
            value -= np.einsum("nrp,np->nr", np.abs(projected), flat_radius)
        else:
            value -= eps[:, None] * np.linalg.norm(projected, ord=DUAL_ORDERS[self.norm], axis=2)
        # Rounding errors of the front end, of P_S here, and of the sums above.
        extent = (np.abs(flat_centre) + flat_radius).sum(axis=1)[:, None]
        relative = 4 * gamma(4 * d.shape[2], np.float64)
        slack = np.abs(d).sum(axis=2) * pixel_error[:, None] + 4 * proof_error * np.abs(slope).max(axis=2) * extent
        slack += relative * (np.einsum("nrp,np->nr", np.abs(d), largest) + np.abs(projected).max(axis=2) * extent)
        errors = others.errors(largest + pixel_error[:, None], dtype)
        positive = value - slack > errors
        own_class = np.arange(d.shape[1]) == others.true[:, None]
        return (positive | own_class).all(axis=1) & (others.true >= 0)

    def _sweep(self, index, centre, radius, eps, size, codes):
        """Whether every score difference stays positive for all supports that may be selected."""
        n, dtype = len(index), self.values.dtype
        others = self.others[index]
        pixel_error = self._round_trip * gamma(2 * self._n_operations, dtype) * size
        low, high = self._pixel_ranges(centre, radius, eps, codes)
        low, high = low - pixel_error[:, None], high + pixel_error[:, None]
        lower, upper = line_below(low, high, self.front_end.clip), line_above(low, high, self.front_end.clip)
        largest = np.maximum(np.abs(low), np.abs(high))
        if self.front_end.clip is not None:
            largest = np.maximum(largest, np.abs(self.front_end.clip).max())
        errors = others.errors(largest + pixel_error[:, None], dtype)
        relative = 4 * gamma(4 * low.shape[1], np.float64)
        # All pairs of an image and another class at once.
        weights, offset = others.weights()
        image, other = np.nonzero(np.arange(offset.shape[1]) != others.true[:, None])
        d, offset = weights[image, other], offset[image, other]
        slope = d * np.where(d > 0, lower[0][image], upper[0][image])
        shift = d * np.where(d > 0, lower[1][image], upper[1][image])
        goal = errors[image, other] - offset - shift.sum(axis=1)
        terms = np.einsum("np,np->n", largest[image], np.abs(d)) + np.abs(shift).sum(axis=1) + np.abs(offset)
        goal += np.abs(d).sum(axis=1) * pixel_error[image] + relative * terms
        coefficients = self._analyze(slope.reshape(-1, *centre.shape[1:]))
        # The weights themselves are rounded.
        rounding = self._gain.max() * gamma(self._n_operations, np.float64) * np.abs(slope).max(axis=1)
        goal += rounding * (np.abs(codes.centre) + codes.change).sum(axis=(1, 2))[image]
        bound = _LinearBound(self, centre[image], radius[image], eps[image], codes.slack[image])
        sweep = SupportSweep(self.norm, bound)
        exceeds = sweep.exceeds(codes[image], coefficients, goal, eps[image], image)
        return np.bincount(image[exceeds], minlength=n) == weights.shape[1] - 1

    def _pixel_ranges(self, centre, radius, eps, codes):
        """Smallest and largest value of each pixel before the clip, for all supports that may be selected."""
        first, last = codes.thresholds()
        may_keep, may_drop = codes.fates(first, last)
        positive, negative = self.absolute + self.atoms.analysis(), self.absolute - self.atoms.analysis()

        def images_between(always, maybe):
            """Lower and upper end of ``sum_always c psi + sum_maybe {0, c psi}``, for coefficients at the centre."""
            middle = self._synthesize(codes.centre * always)
            up, down = np.maximum(codes.centre * maybe, 0), np.maximum(-codes.centre * maybe, 0)
            parts = []
            for plus, minus in ((down, up), (up, down)):
                flat = [
                    side.reshape(-1, side.shape[2]) @ matrix / 2
                    for side, matrix in ((plus, positive), (minus, negative))
                ]
                total = (flat[0] + flat[1]).reshape(len(always), always.shape[1], -1)
                parts.append(np.moveaxis(total, 1, -1).reshape(len(always), -1) * (1 + 1e-9))
            return middle - parts[0], middle + parts[1]

        change = self._pixel_changes(may_keep, radius, eps)
        low, high = images_between(~may_drop, may_keep & may_drop)
        low, high = low - change, high + change
        if self.norm == "linf":
            # The same as the image less what is dropped.
            change = self._pixel_changes(may_drop, radius, eps) + radius.reshape(len(radius), -1)
            least, most = images_between(~may_keep, may_keep & may_drop)
            image = centre.reshape(len(centre), -1)
            low, high = np.maximum(low, image - most - change), np.minimum(high, image - least + change)
        return low, high

    def _coefficient_changes(self, radius, eps):
        """Bounds of |psi_j . e|, of a shape that broadcasts to (n_samples, n_channels, n_coefficients)."""
        if self.norm == "linf":
            per_channel = np.moveaxis(radius, -1, 1).reshape(-1, self.n_pixels)
            return (per_channel @ self.absolute.T).reshape(len(radius), radius.shape[-1], -1)
        n_channels = radius.shape[-1]
        return eps[:, None, None] * self.atoms.dual_norms(self.norm).reshape(-1, n_channels).T

    def _pixel_changes(self, support, radius, eps):
        """Bound on the change of each pixel of P_S (x + e) from that of the centre."""
        n, n_channels, n_coefficients = support.shape
        mask = support.reshape(-1, n_coefficients).astype(np.float64)
        if self.norm == "linf":
            change = (self._coefficient_changes(radius, eps).reshape(mask.shape) * mask) @ self.absolute
        elif self.norm == "l2":
            change = np.repeat(eps, n_channels)[:, None] * np.sqrt(mask @ self.absolute.power(2)) * (1 + 1e-6)
        else:
            peaks = self.atoms.dual_norms("l1").reshape(n_coefficients, n_channels)[:, 0]
            change = np.repeat(eps, n_channels)[:, None] * ((mask * peaks) @ self.absolute)
        change = change.reshape(n, n_channels, -1)
        return np.moveaxis(change, 1, -1).reshape(n, -1) * (1 + 1e-9)

    def _analyze(self, images):
        """Coefficients of shape (n_samples, n_channels, n_coefficients)."""
        coefficients = self.atoms.basis.transform(images, n_jobs=self.front_end.n_jobs)
        return coefficients.reshape(*coefficients.shape[:2], -1)

    def _synthesize(self, coefficients):
        """Images as rows."""
        maps = coefficients.reshape(*coefficients.shape[:2], *self.atoms.basis.shape)
        return self.atoms.basis.synthesize(maps, n_jobs=self.front_end.n_jobs).reshape(len(maps), -1)

    @property
    def _n_operations(self):
        return self.atoms._n_operations


class _LinearBound:
    """Smallest value of a linear function of the coefficients over the ball, per channel, rounded outward."""

    def __init__(self, proof, centre, radius, eps, slack):
        self.proof, self.eps, self.slack = proof, eps, slack
        self.centre, self.radius = _by_channel(centre), _by_channel(radius)
        extent = (np.abs(self.centre) + self.radius).sum(axis=2)
        n_pixels = self.centre.shape[2]
        round_trip = proof._round_trip * gamma(2 * proof._n_operations, np.float64) + 4 * gamma(n_pixels, np.float64)
        self.rounding = 4 * round_trip * extent

    def __call__(self, slopes, rows):
        maps = self.proof._synthesize(slopes).reshape(len(slopes), -1, slopes.shape[1])
        pixels = np.moveaxis(maps, -1, 1)
        value = np.einsum("ncp,ncp->nc", pixels, self.centre[rows])
        if self.proof.norm == "linf":
            value -= np.einsum("ncp,ncp->nc", np.abs(pixels), self.radius[rows])
        else:
            value -= self.eps[rows, None] * np.linalg.norm(pixels, ord=DUAL_ORDERS[self.proof.norm], axis=2)
        size = np.maximum(np.abs(pixels).max(axis=2), np.abs(slopes).max(axis=2))
        return value - self.rounding[rows] * size - (np.abs(slopes) * self.slack[rows]).sum(axis=2)


def _by_channel(images):
    return np.moveaxis(images.reshape(len(images), -1, images.shape[-1]), -1, 1)


@register_certificate(WaveletSparsifier)
def _prove(front_end, name, head, X, y, norm, clip):
    if not front_end.is_orthonormal_:
        raise NoCertificateError(
            f"No certificate through step {name!r} (WaveletSparsifier): its basis is not orthonormal "
            "(is_orthonormal_ is False). Choose a level at which every size halves exactly, and a wavelet other "
            "than dmey."
        )
    if front_end.color_space is not None:
        raise NoCertificateError(
            f"No certificate through step {name!r} (WaveletSparsifier): color_space={front_end.color_space!r} "
            "mixes the channels. Use color_space=None."
        )
    return WaveletProof(front_end, array_images(front_end, X), other_classes(head, y), norm, clip)


def line_below(low, high, clip):
    """Slope and offset of a line that lies below the clip on [low, high]."""
    if clip is None:
        return np.ones_like(low), np.zeros_like(low)
    clip_low, clip_high = map(float, clip)
    under, over = low < clip_low, high > clip_high
    slope, offset = np.ones_like(low), np.zeros_like(low)
    # A line through (clip_low, clip_low), or the constant, whichever has the smaller gap.
    flat = under & (high - clip_low <= clip_low - low)
    # Where the clip is not flat at its lower end, its graph is concave, and a chord lies below it.
    start = np.maximum(low, clip_low)
    width = np.where(over, high - start, 1.0)
    chord = np.where(over & (width > 0), (clip_high - start) / np.where(width > 0, width, 1.0), 1.0)
    slope = np.where(over, chord, slope)
    offset = np.where(over, start - chord * start, offset)
    slope, offset = np.where(flat, 0.0, slope), np.where(flat, clip_low, offset)
    outside = (high <= clip_low) | (low >= clip_high)
    constant = np.where(high <= clip_low, clip_low, clip_high)
    return np.where(outside, 0.0, slope), np.where(outside, constant, offset)


def line_above(low, high, clip):
    """Slope and offset of a line that lies above the clip on [low, high]."""
    if clip is None:
        return line_below(low, high, None)
    slope, offset = line_below(-high, -low, (-clip[1], -clip[0]))
    return slope, -offset

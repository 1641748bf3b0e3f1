"""Convolutional synthesis and analysis by fast Fourier transforms."""

import numpy as np
from scipy import fft

from skrobust.signals import allowed_threads


class Spectrum:
    """The transfer functions of a convolutional dictionary on a grid padded against unwanted wrapping."""

    def __init__(self, components, geometry):
        self.geometry = geometry
        self.axes = tuple(range(1, 1 + len(geometry.grid)))
        self.size = padded_sizes(geometry)
        self.transfer = fft.rfftn(components, s=self.size, axes=self.axes)  # (n_components, *frequencies, n_channels)

    def synthesize(self, codes):
        """Signals of codes of shape ``(n_samples, *code_grid, n_components)``."""
        g = self.geometry
        spread = np.zeros((len(codes), *self.size, codes.shape[-1]), dtype=codes.dtype)
        spread[(slice(None), *self.lattice())] = codes
        frequencies = fft.rfftn(spread, axes=self.axes, workers=allowed_threads())
        products = _per_frequency("...k,...kc->...c", frequencies, self.transfer)
        signals = fft.irfftn(products, self.size, self.axes, workers=allowed_threads())
        inside = tuple(slice(o, o + n) for o, n in zip(g.offset, g.grid, strict=True))
        return np.ascontiguousarray(signals[(slice(None), *inside)], dtype=codes.dtype)

    def analyze(self, X):
        """Correlations of signals of shape ``(n_samples, *grid, n_channels)`` with all shifted atoms."""
        g = self.geometry
        widened = np.zeros((len(X), *self.size, X.shape[-1]), dtype=X.dtype)
        inside = tuple(slice(o, o + n) for o, n in zip(g.offset, g.grid, strict=True))
        widened[(slice(None), *inside)] = X
        frequencies = fft.rfftn(widened, axes=self.axes, workers=allowed_threads())
        products = _per_frequency("...c,...kc->...k", frequencies, self.transfer.conj())
        maps = fft.irfftn(products, self.size, self.axes, workers=allowed_threads())
        return np.ascontiguousarray(maps[(slice(None), *self.lattice())], dtype=X.dtype)

    def lattice(self):
        g = self.geometry
        return tuple(slice(0, (p - 1) * s + 1, s) for p, s in zip(g.code_grid, g.stride, strict=True))


def padded_sizes(geometry):
    """Sizes of the transforms."""
    if geometry.wraps:
        return geometry.grid
    # Positions wrap only into cropped pixels, so the grid plus one kernel minus one pixel suffices.
    spans = zip(geometry.grid, geometry.kernel_size, geometry.extent, strict=True)
    return tuple(fft.next_fast_len(max(n + k - 1, r - k + 1), real=True) for n, k, r in spans)


def _per_frequency(subscripts, values, transfer):
    """Product over atoms or channels at each frequency, as one batch of matrix products."""
    by_frequency = np.moveaxis(transfer, 0, -2)  # (*frequencies, n_components, n_channels)
    if subscripts.startswith("...c"):
        by_frequency = by_frequency.swapaxes(-1, -2)
    columns = np.moveaxis(values, 0, -2)  # (*frequencies, n_samples, n_in)
    return np.moveaxis(columns @ by_frequency, -2, 0)

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
        transfer = fft.rfftn(components, s=self.size, axes=self.axes)
        self.transfer = np.ascontiguousarray(np.moveaxis(transfer, 0, -2))  # (*frequencies, n_components, n_channels)

    def synthesize(self, codes):
        """Signals of codes of shape ``(n_samples, *code_grid, n_components)``."""
        g = self.geometry
        spread = np.zeros((len(codes), *self.size, codes.shape[-1]), dtype=codes.dtype)
        spread[(slice(None), *self.lattice())] = codes
        frequencies = fft.rfftn(spread, axes=self.axes, workers=allowed_threads())
        products = _per_frequency(frequencies, self.transfer)
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
        products = _per_frequency(frequencies.conj(), self.transfer.swapaxes(-1, -2)).conj()
        maps = fft.irfftn(products, self.size, self.axes, workers=allowed_threads())
        return np.ascontiguousarray(maps[(slice(None), *self.lattice())], dtype=X.dtype)

    def lattice(self):
        g = self.geometry
        return tuple(slice(0, (p - 1) * s + 1, s) for p, s in zip(g.code_grid, g.stride, strict=True))


def padded_sizes(geometry):
    """Sizes of the transforms."""
    if geometry.wraps:
        return geometry.grid
    return tuple(fft.next_fast_len(n, real=True) for n in least_circle(geometry))


def least_circle(geometry):
    """Sizes of the smallest circle of which the operator is a restriction: atoms wrap only into cropped pixels."""
    of_axes = zip(geometry.grid, geometry.kernel_size, geometry.extent, geometry.offset, strict=True)
    return tuple(max(o + n, r - o, r - k + 1) for n, k, r, o in of_axes)


def _per_frequency(values, matrices):
    """Products with the matrix of each frequency, as one batch; `values` has shape (n_samples, *frequencies, n_in)."""
    return np.moveaxis(np.moveaxis(values, 0, -2) @ matrices, -2, 0)

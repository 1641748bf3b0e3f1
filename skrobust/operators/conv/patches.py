"""Convolutional synthesis and analysis by one matrix product over the patches of all positions."""

import itertools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


class PatchProducts:
    """Products with a convolutional dictionary that does not wrap around: fast for small atoms, and needs no compiler.

    It holds all patches in memory; large batches are for the direct kernels.
    """

    def __init__(self, components, geometry):
        self.geometry = geometry
        self.atoms = components.reshape(len(components), -1)
        self.n_channels = components.shape[-1]
        reached = zip(geometry.extent, geometry.offset, geometry.grid, strict=True)
        self.canvas = tuple(max(r, o + n) for r, o, n in reached)
        self.inside = (slice(None), *(slice(o, o + n) for o, n in zip(geometry.offset, geometry.grid, strict=True)))

    def synthesize(self, codes):
        """Signals of codes of shape ``(n_samples, *code_grid, n_components)``."""
        g = self.geometry
        patches = codes.reshape(-1, len(self.atoms)) @ self.atoms
        patches = patches.reshape(len(codes), *g.code_grid, *g.kernel_size, self.n_channels)
        signals = np.zeros((len(codes), *self.canvas, self.n_channels), dtype=patches.dtype)
        for taps in itertools.product(*(range(k) for k in g.kernel_size)):
            at = [slice(t, t + (p - 1) * s + 1, s) for t, p, s in zip(taps, g.code_grid, g.stride, strict=True)]
            signals[(slice(None), *at)] += patches[(..., *taps, slice(None))]
        return signals[self.inside]

    def analyze(self, X):
        """Correlations of signals of shape ``(n_samples, *grid, n_channels)`` with all shifted atoms."""
        g = self.geometry
        canvas = np.zeros((len(X), *self.canvas, self.n_channels), dtype=X.dtype)
        canvas[self.inside] = X
        windows = sliding_window_view(canvas, g.kernel_size, axis=tuple(range(1, 1 + len(g.grid))))
        at = [slice(0, (p - 1) * s + 1, s) for p, s in zip(g.code_grid, g.stride, strict=True)]
        patches = np.moveaxis(windows[(slice(None), *at)], 1 + len(g.grid), -1).reshape(-1, self.atoms.shape[1])
        return (patches @ self.atoms.T).reshape(len(X), *g.code_grid, len(self.atoms))

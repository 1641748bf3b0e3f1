"""Convolutional synthesis and analysis of tensors."""

import math

import torch
from torch.nn import functional

FFT_FROM = 1024
"""Pixels of an atom, over those between positions, from which transforms take less time than direct convolution."""


class TorchConvolution:
    """A convolutional dictionary on tensors: differentiable in its input and in its atoms."""

    def __init__(self, components, geometry, evaluation="auto"):
        self.components = components
        self.geometry = geometry
        pixels, between = math.prod(geometry.kernel_size), math.prod(geometry.stride)
        self.by_fft = evaluation == "fft" or (evaluation == "auto" and pixels >= FFT_FROM * between)
        # On the CPU, with one channel and no more pixels than atoms, a product with all patches takes half the time.
        few = components.shape[-1] == 1 and pixels <= len(components) and components.device.type == "cpu"
        self.by_patches = few and not self.by_fft
        self.beyond = None if self.by_fft or self.by_patches else _beyond(geometry)

    def analyze(self, X):
        """Correlations of signals ``(n_samples, *grid, n_channels)`` with all shifted atoms."""
        if self.geometry.is_dense and not self.by_fft:
            return (X.flatten(1) @ self.components.flatten(1).T).reshape(X.shape[0], *self.geometry.code_grid, -1)
        values = X.movedim(-1, 1)
        maps = self._analyze_by_fft(values) if self.by_fft else self._correlate(values)
        return maps.movedim(1, -1)

    def synthesize(self, codes):
        """Signals of codes of shape ``(n_samples, *code_grid, n_components)``."""
        if self.geometry.is_dense and not self.by_fft:
            flat = codes.flatten(1) @ self.components.flatten(1)
            return flat.reshape(codes.shape[0], *self.geometry.grid, self.components.shape[-1])
        maps = codes.movedim(-1, 1)
        signals = self._synthesize_by_fft(maps) if self.by_fft else self._convolve(maps)
        return signals.movedim(1, -1)

    def _filters(self):
        return self.components.movedim(-1, 1)

    def _correlate(self, values):
        g = self.geometry
        correlate = functional.conv1d if len(g.grid) == 1 else functional.conv2d
        if self.beyond is not None:
            return correlate(values, self._filters(), stride=g.stride, padding=g.offset)
        margins = []
        for n, o, r in zip(reversed(g.grid), reversed(g.offset), reversed(g.extent), strict=True):
            margins += [o, r - o - n]
        if g.wraps:
            padded = functional.pad(values, [max(0, m) for m in margins], mode="circular")
            padded = functional.pad(padded, [min(0, m) for m in margins])
        else:
            padded = functional.pad(values, margins)
        if self.by_patches:
            return self._correlate_patches(padded)
        return correlate(padded, self._filters(), stride=g.stride)

    def _convolve(self, maps):
        g = self.geometry
        convolve = functional.conv_transpose1d if len(g.grid) == 1 else functional.conv_transpose2d
        if self.beyond is not None:
            filters, margins = self._filters(), {"padding": g.offset, "output_padding": self.beyond}
            return convolve(maps, filters, stride=g.stride, **margins)
        whole = self._add_patches(maps) if self.by_patches else convolve(maps, self._filters(), stride=g.stride)
        for axis, (n, o, r) in enumerate(zip(g.grid, g.offset, g.extent, strict=True), start=2):
            if g.wraps and r > n:
                beyond = whole.narrow(axis, n, r - n)
                whole = whole.narrow(axis, 0, n) + _extended(beyond, axis, n)
            elif r < o + n:
                whole = _extended(whole, axis, o + n).narrow(axis, o, n)
            else:
                whole = whole.narrow(axis, o, n)
        return whole

    def _correlate_patches(self, values):
        kernel, stride, _ = self._plane()
        plane = values if values.ndim == 4 else values.unsqueeze(2)
        patches = functional.unfold(plane, kernel, stride=stride)
        rows = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        products = rows @ self._filters().flatten(1).T
        return products.reshape(values.shape[0], *self.geometry.code_grid, -1).movedim(-1, 1)

    def _add_patches(self, maps):
        kernel, stride, extent = self._plane()
        patches = maps.movedim(1, -1).reshape(-1, maps.shape[1]) @ self._filters().flatten(1)
        patches = patches.reshape(maps.shape[0], -1, patches.shape[1]).transpose(1, 2)
        whole = functional.fold(patches, extent, kernel, stride=stride)
        return whole if len(self.geometry.grid) == 2 else whole.squeeze(2)

    def _plane(self):
        """Kernel, stride and extent in two dimensions: a 1-D signal is one row of an image."""
        g = self.geometry
        row = (1,) * (2 - len(g.grid))
        return (*row, *g.kernel_size), (*row, *g.stride), (*row, *g.extent)

    def _sizes(self):
        g = self.geometry
        if g.wraps:
            return g.grid
        return tuple(max(n + k - 1, r - k + 1) for n, k, r in zip(g.grid, g.kernel_size, g.extent, strict=True))

    def _analyze_by_fft(self, values):
        g, sizes = self.geometry, self._sizes()
        axes = tuple(range(2, 2 + len(sizes)))
        margins = []
        for n, o, size in zip(reversed(g.grid), reversed(g.offset), reversed(sizes), strict=True):
            margins += [o, size - o - n]
        transfer = torch.fft.rfftn(self._filters(), s=sizes, dim=axes)
        frequencies = torch.fft.rfftn(functional.pad(values, margins), dim=axes)
        maps = torch.fft.irfftn(torch.einsum("nc...,kc...->nk...", frequencies, transfer.conj()), s=sizes, dim=axes)
        return maps[(..., *_lattice(g))]

    def _synthesize_by_fft(self, maps):
        g, sizes = self.geometry, self._sizes()
        axes = tuple(range(2, 2 + len(sizes)))
        spread = maps.new_zeros((*maps.shape[:2], *sizes))
        spread[(..., *_lattice(g))] = maps
        transfer = torch.fft.rfftn(self._filters(), s=sizes, dim=axes)
        frequencies = torch.fft.rfftn(spread, dim=axes)
        signals = torch.fft.irfftn(torch.einsum("nk...,kc...->nc...", frequencies, transfer), s=sizes, dim=axes)
        return signals[(..., *(slice(o, o + n) for o, n in zip(g.offset, g.grid, strict=True)))]


def _beyond(geometry):
    """Pixels that a transposed convolution padded by the offset lacks at the end; None where that will not do.

    With its own padding torch copies nothing, and neither does its backward pass.
    """
    g = geometry
    beyond = tuple(n + 2 * o - r for n, o, r in zip(g.grid, g.offset, g.extent, strict=True))
    # As many as a stride, and torch's correlation would find one more position; fewer than none, one less.
    fits = all(0 <= b < s for b, s in zip(beyond, g.stride, strict=True))
    return beyond if fits and not g.wraps else None


def _lattice(geometry):
    return tuple(slice(0, (p - 1) * s + 1, s) for p, s in zip(geometry.code_grid, geometry.stride, strict=True))


def _extended(values, axis, length):
    """`values` with zeros behind, up to `length` along `axis`."""
    margins = [0] * (2 * (values.ndim - axis))
    margins[-1] = length - values.shape[axis]
    return functional.pad(values, margins)

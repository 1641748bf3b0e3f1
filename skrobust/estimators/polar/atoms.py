"""The atoms of a `PolarizingCoder`: single values, or filters.

Their responses are compared with thresholds. Each kind of atoms has

- ``positions``, ``n_filters``: a code has the shape ``(*positions, n_filters * n_thresholds)``; ``n_atoms``;
- ``groups``: the filter (channel, band) of each atom; atoms of one group may share thresholds;
- ``scale``: the response of each atom divided by that of the same atom with l1 norm 1;
- ``responses(values)``, ``encode(values, ...)``, and ``spread(radii)`` = sum_i |d_i| radii_i,
  the largest change of a response if value i changes by at most radii_i;
- ``dual_norms(norm)``: largest change of each response by a perturbation of norm 1; ``mass(norm)``: largest change of
  all responses together; ``rounding(dtype)``: error of a computed response, relative to the largest value;
- ``synthesis()``: the sparse matrix from responses to signals.
"""

import copy
import math

import numpy as np
from scipy import sparse

from skrobust.kernels.rounding import gamma, round_up
from skrobust.kernels.threads import on_threads
from skrobust.signals import batch_slices, kernel_threads

_BLOCK_BYTES = 1 << 16
"""Bytes of values that a thread processes at a time."""

_MIN_SINGULAR_VALUE = 0.1
"""Relative cutoff of the pseudo-inverse: coded responses are too coarse for patterns with a smaller response."""

DUAL_ORDERS = {"linf": 1, "l2": 2, "l1": np.inf}
"""Order of the dual norm, the largest change of an inner product by a perturbation of norm 1."""


class Atoms:
    """Base class of all kinds of atoms."""

    is_exact = False
    """Whether responses have no rounding error."""

    @property
    def n_atoms(self):
        return math.prod(self.positions) * self.n_filters

    @property
    def n_groups(self):
        return int(self.groups.max()) + 1

    def encode(self, values, thresholds, n_thresholds, ternary, *, n_jobs=None):
        """Codes of shape (n_samples, n_atoms * n_thresholds); `thresholds` has one entry per code entry."""
        from .kernels import encode

        codes = np.empty((len(values), len(thresholds)), dtype=values.dtype)
        for batch in batch_slices(len(values), self._response_bytes(values)):
            responses = self.responses(values[batch], n_jobs=n_jobs)
            settings = thresholds, n_thresholds, ternary, codes[batch], _block(responses)
            with kernel_threads(n_jobs):
                n_pieces = -(-len(responses) // settings[-1])
                on_threads(encode, responses, *settings, n_pieces=n_pieces, work=2 * codes[batch].size)
        return codes

    def _response_bytes(self, values):
        return 4 * self.n_atoms * values.itemsize


class PixelAtoms(Atoms):
    """Each value of the signal is an atom."""

    is_exact = True
    is_nonnegative = True

    def __init__(self, layout):
        self.positions, self.n_filters = tuple(layout.grid), layout.n_channels
        self.groups = np.tile(np.arange(self.n_filters), math.prod(self.positions))
        self.scale = np.ones(self.n_atoms)

    def responses(self, values, *, n_jobs=None):
        """The values themselves, of shape (n_samples, n_atoms)."""
        return values.reshape(len(values), -1)

    def spread(self, radii, *, n_jobs=None):
        return radii.reshape(len(radii), -1)

    def dual_norms(self, norm):
        return np.ones(self.n_atoms)

    def mass(self, norm):
        return 1.0

    def rounding(self, dtype):
        return np.zeros(self.n_atoms)

    def synthesis(self):
        return sparse.eye_array(self.n_atoms, format="csr")

    def _response_bytes(self, values):
        return 1


class FilterAtoms(Atoms):
    """Filters at all positions inside the signal; filters of the size of the signal have one position.

    `filters` have shape ``(n_filters, *kernel_size, n_channels)`` and are divided by their l1 norms.
    """

    def __init__(self, filters, layout, stride=1):
        filters = np.asarray(filters, dtype=np.float64)
        norms = np.abs(filters).reshape(len(filters), -1).sum(axis=1)
        self.filters = filters / norms.reshape(-1, *[1] * (filters.ndim - 1))
        self.layout, self.stride = layout, stride
        self.n_filters, kernel_size = len(filters), filters.shape[1:-1]
        self.positions = tuple((size - taps) // stride + 1 for size, taps in zip(layout.grid, kernel_size, strict=True))
        self.groups = np.tile(np.arange(self.n_filters), math.prod(self.positions))
        self.scale = np.ones(self.n_atoms)
        self.is_nonnegative = bool((self.filters >= 0).all())

    def responses(self, values, *, n_jobs=None):
        """Inner products with the filters, of shape (n_samples, n_atoms)."""
        if self._is_dense:
            return values.reshape(len(values), -1) @ self._flat.T.astype(values.dtype)
        from .kernels import filter_responses

        values = np.ascontiguousarray(values)
        result = np.empty((len(values), self.n_atoms), dtype=values.dtype)
        settings = self._geometry, self._weights(values.dtype), self.n_filters, result
        self._on_signals(filter_responses, values, settings, n_jobs)
        return result

    def encode(self, values, thresholds, n_thresholds, ternary, *, n_jobs=None):
        if self._is_dense:
            return super().encode(values, thresholds, n_thresholds, ternary, n_jobs=n_jobs)
        from .kernels import encode_filters

        values = np.ascontiguousarray(values)
        codes = np.empty((len(values), len(thresholds)), dtype=values.dtype)
        settings = self._geometry, self._weights(values.dtype), self.n_filters, self.n_atoms
        self._on_signals(encode_filters, values, (*settings, thresholds, n_thresholds, ternary, codes), n_jobs)
        return codes

    def _on_signals(self, kernel, values, args, n_jobs):
        block, work = _block(values), len(values) * self.n_atoms * self._flat.shape[1]
        with kernel_threads(n_jobs):
            flat = values.reshape(-1), values[0].size
            on_threads(kernel, *flat, *args, block, n_pieces=-(-len(values) // block), work=work)

    def spread(self, radii, *, n_jobs=None):
        absolute = copy.copy(self)
        absolute.filters = np.abs(self.filters)
        return absolute.responses(radii, n_jobs=n_jobs)

    def dual_norms(self, norm):
        norms = np.linalg.norm(self._flat, ord=DUAL_ORDERS[norm], axis=1)
        return np.tile(norms * (1 + gamma(self._flat.shape[1] + 2, np.float64)), math.prod(self.positions))

    def mass(self, norm):
        """l1: of sum_j |<d_j, e>| / |e|_1; l2: of sum_j <d_j, e>^2 / |e|_2^2, by Schur's test."""
        cover = np.zeros(self.layout.canonical_shape)
        for tap, weight in np.ndenumerate(np.abs(self.filters).sum(axis=0)):
            cover[self._tap_index(tap)] += weight
        per_value = cover.max() * (1 + gamma(self.filters.size + 2, np.float64))
        return per_value if norm == "l1" else round_up(per_value * self.dual_norms("linf").max())

    def rounding(self, dtype):
        return self.dual_norms("linf") * gamma(self._flat.shape[1] + 2, dtype)

    def synthesis(self):
        """Patches from their responses by the pseudo-inverse of the filters, averaged where they overlap."""
        pseudo_inverse = np.linalg.pinv(self._flat, rcond=_MIN_SINGULAR_VALUE)
        pixels = np.arange(self.layout.n_features).reshape(self.layout.canonical_shape)
        taps = np.ndindex(*self.filters.shape[1:])
        patches = np.stack([pixels[self._tap_index(tap)].ravel() for tap in taps], axis=1)
        cover = np.bincount(patches.ravel(), minlength=self.layout.n_features)
        atoms = np.arange(self.n_atoms).reshape(len(patches), self.n_filters)
        weights = pseudo_inverse[None] / cover[patches][:, :, None]
        rows = np.broadcast_to(patches[:, :, None], weights.shape)
        columns = np.broadcast_to(atoms[:, None, :], weights.shape)
        shape = (self.layout.n_features, self.n_atoms)
        return sparse.csr_array((weights.ravel(), (rows.ravel(), columns.ravel())), shape=shape)

    @property
    def _is_dense(self):
        return self.filters.shape[1:] == tuple(self.layout.canonical_shape)

    @property
    def _flat(self):
        return self.filters.reshape(self.n_filters, -1)

    def _tap_index(self, tap):
        """Index of the values under a tap, (*offsets, channel), at all positions."""
        *offsets, channel = tap
        spans = zip(offsets, self.positions, strict=True)
        return (*(slice(o, o + (n - 1) * self.stride + 1, self.stride) for o, n in spans), channel)

    @property
    def _geometry(self):
        grid, kernel_size, positions = self.layout.grid, self.filters.shape[1:-1], self.positions
        if len(grid) == 1:
            grid, kernel_size, positions = (1, *grid), (1, *kernel_size), (1, *positions)
        channels = self.layout.n_channels
        sizes = grid[0], grid[1] * channels, kernel_size[0], kernel_size[1] * channels, *positions
        return tuple(int(n) for n in (*sizes, self.stride, self.stride * channels))

    def _weights(self, dtype):
        lanes = 64 // dtype.itemsize
        padded = -(-self.n_filters // lanes) * lanes
        weights = np.zeros((self._flat.shape[1], padded), dtype=dtype)
        weights[:, : self.n_filters] = self._flat.T
        return weights.ravel()


def _block(values):
    return max(1, _BLOCK_BYTES // max(1, values[0].nbytes))

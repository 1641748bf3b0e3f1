"""Wavelets as the atoms of a `PolarizingCoder`."""

import math

import numpy as np
from scipy import sparse

from skrobust.kernels.rounding import gamma, round_up
from skrobust.operators import WaveletBasis
from skrobust.signals import batch_slices

from .atoms import Atoms


class WaveletAtoms(Atoms):
    """The analysis atoms of a periodized orthogonal wavelet transform, for each channel separately.

    Responses are the coefficients; `scale` holds the atoms' l1 norms.
    """

    is_nonnegative = False

    def __init__(self, wavelet, layout, level):
        self.layout = layout
        self.basis = WaveletBasis(wavelet, layout.grid, level)
        self.positions, self.n_filters = self.basis.shape, layout.n_channels
        bands = _bands(self.basis.plan)
        self.groups = (bands.ravel()[:, None] * self.n_filters + np.arange(self.n_filters)).ravel()
        norms = np.asarray(abs(self.analysis()).sum(axis=1)).ravel()
        # Atoms over the repeated last sample of an odd size may be zero.
        self.scale = np.repeat(np.where(norms > 1e-9, norms, 1.0), self.n_filters)

    def responses(self, values, *, n_jobs=None):
        """Coefficients, of shape (n_samples, n_atoms)."""
        coefficients = self.basis.transform(values, n_jobs=n_jobs)
        return np.ascontiguousarray(np.moveaxis(coefficients, 1, -1)).reshape(len(values), self.n_atoms)

    def spread(self, radii, *, n_jobs=None):
        matrix = abs(self.analysis()).T.astype(radii.dtype)
        per_channel = [radii[..., c].reshape(len(radii), -1) @ matrix for c in range(self.n_filters)]
        return np.stack(per_channel, axis=-1).reshape(len(radii), self.n_atoms)

    def dual_norms(self, norm):
        matrix = self.analysis()
        if norm == "l1":
            norms = abs(matrix).max(axis=1).toarray().ravel()
        elif norm == "l2":
            norms = np.sqrt(np.asarray(matrix.power(2).sum(axis=1)).ravel())
        else:
            norms = np.asarray(abs(matrix).sum(axis=1)).ravel()
        # The matrix itself has rounding errors, with the same bound as those of the transform.
        error = self._gain() * gamma(self._n_operations, np.float64)
        return np.repeat(round_up(norms + error), self.n_filters)

    def mass(self, norm):
        if norm == "l2" and self.basis.is_orthonormal:
            return 1 + 1e-6  # filters count as orthonormal if they are to within 1e-9
        matrix = abs(self.analysis())
        by_value = matrix.sum(axis=0).max() + self._gain().sum() * gamma(self._n_operations, np.float64)
        return float(by_value if norm == "l1" else round_up(by_value * self.dual_norms("linf").max()))

    def rounding(self, dtype):
        return np.repeat(self._gain() * gamma(self._n_operations, dtype), self.n_filters)

    def synthesis(self):
        """The inverse transform as a matrix, channels interleaved."""
        size = self.basis.size
        if self.basis.is_orthonormal:
            matrix = self.analysis().T
        else:
            columns = []
            for batch in batch_slices(size, 8 * (size + math.prod(self.layout.grid))):
                units = np.eye(size)[batch].reshape(-1, 1, *self.basis.shape)
                columns.append(sparse.csr_array(self.basis.synthesize(units).reshape(len(units), -1)))
            matrix = sparse.vstack(columns).T
        return sparse.csr_array(sparse.kron(matrix, sparse.eye_array(self.n_filters)))

    def analysis(self, absolute=False):
        """The transform of one channel as a sparse matrix; `absolute`: that of the magnitudes of its filters."""
        plan = self.basis.plan
        result = sparse.csr_array((self.basis.size, math.prod(self.layout.grid)))
        corner = sparse.eye_array(math.prod(self.layout.grid), format="csr")
        numbers = np.arange(self.basis.size).reshape(self.basis.shape)
        if plan.n_levels == 0:
            return corner
        for level in range(plan.n_levels):
            steps = [plan.analysis_matrix(axis, level) for axis in range(len(plan.sizes))]
            steps = [sparse.csr_array(np.abs(step) if absolute else step) for step in steps]
            block = sparse.csr_array(steps[0] if len(steps) == 1 else sparse.kron(*steps)) @ corner
            shape = tuple(step.shape[0] for step in steps)
            rows = numbers[tuple(slice(n) for n in shape)].ravel()
            is_final = np.ones(shape, dtype=bool)
            if level + 1 < plan.n_levels:
                is_final[tuple(slice(starts[level]) for starts in plan.starts)] = False
            kept = np.flatnonzero(is_final.ravel())
            ones, size = np.ones(len(kept)), (self.basis.size, block.shape[0])
            placement = sparse.csr_array((ones, (rows[kept], kept)), shape=size)
            result = result + placement @ block
            inner = np.arange(block.shape[0]).reshape(shape)
            corner = block[inner[tuple(slice(sizes[level + 1]) for sizes in plan.sizes)].ravel()]
        return sparse.csr_array(result)

    def _gain(self):
        """Row sums of the transform by magnitudes of the filters, to which its rounding errors are relative."""
        return np.asarray(self.analysis(absolute=True).sum(axis=1)).ravel()

    @property
    def _n_operations(self):
        plan = self.basis.plan
        return max(1, plan.n_levels) * len(plan.sizes) * (plan.taps.shape[1] + 2)


def _bands(plan):
    """Number of the band of each coefficient."""
    bands = np.zeros(plan.shape, dtype=np.int64)
    number = 1
    for level in reversed(range(plan.n_levels)):
        spans = []
        for sizes, starts in zip(plan.sizes, plan.starts, strict=True):
            spans.append((slice(sizes[level + 1]), slice(starts[level], starts[level] + sizes[level + 1])))
        if len(spans) == 1:
            bands[spans[0][1]] = number
            number += 1
            continue
        for vertical, horizontal in ((0, 1), (1, 0), (1, 1)):
            bands[spans[0][vertical], spans[1][horizontal]] = number
            number += 1
    return bands

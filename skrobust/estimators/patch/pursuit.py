"""Sums of coded patches, batch by batch."""

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import VECTOR_BYTES
from skrobust.pursuits.greedy.omp.atoms import UnitAtoms, aligned_zeros
from skrobust.pursuits.greedy.omp.batches import resolve_max_atoms
from skrobust.pursuits.greedy.omp.kernels import NOT_CODED
from skrobust.signals import batch_slices, groups_by_exponent, kernel_threads, times_power

_BAND = 2048
"""Minimum number of patches in a band, if the image has as many."""

_BLOCK_BYTES = 1 << 19
"""Correlations that a thread computes at a time, so that they stay in its second-level cache."""


class PatchPursuit:
    """Approximates each patch of images by few atoms, and adds the approximations at the positions of the patches.

    `components` are rows, channels last, in the dtype of the images; `n_nonzero_coefs`, `tol` (one number or None) and
    `selection` are as in `orthogonal_mp`. With `remove_mean` the channel means of a patch are subtracted before.
    """

    def __init__(self, grid, components, *, n_nonzero_coefs, tol, selection, remove_mean, n_jobs):
        self.grid, self.remove_mean, self.n_jobs = grid, remove_mean, n_jobs
        self.max_atoms = resolve_max_atoms(n_nonzero_coefs, tol, len(components), grid.n_features)
        self.by_gain = selection == "ols"
        self.tol = tol
        self.components = components
        planar = np.ascontiguousarray(grid.to_planes(components))
        with kernel_threads(n_jobs):
            self.atoms = UnitAtoms(planar)
            self.gram = self.atoms.gram() if self.atoms.affords_gram(len(planar)) else np.zeros(0, planar.dtype)
        lanes = VECTOR_BYTES // planar.itemsize
        padded = aligned_zeros((len(planar), -(-grid.n_features // lanes) * lanes), planar.dtype)
        padded[:, : grid.n_features] = planar
        self.padded_rows = padded
        # Bands overlap by the height of a patch: if at least as high, they take at most twice the memory of the image.
        self.band = min(len(grid.tops), max(grid.size[0], -(-_BAND // len(grid.lefts))))

    def sums(self, values, *, return_supports=False):
        """Sums over all patches of their approximations, of the shape of `values`; with `return_supports` also the
        atoms of each patch, (n_samples * n_patches, max_atoms), and their number.
        """
        result = np.empty_like(values)
        n_patches = self.grid.n_patches if return_supports else 0
        supports = np.zeros((len(values), n_patches, self.max_atoms), dtype=np.int32)
        sizes = np.zeros((len(values), n_patches), dtype=np.int32)
        with kernel_threads(self.n_jobs):
            for batch in self._batches(values):
                for exponent, padded_rows in groups_by_exponent(values[batch]):
                    images = times_power(values[batch][padded_rows], -exponent)
                    atoms = np.zeros((len(images) * n_patches, self.max_atoms), dtype=np.int32)
                    counts = np.zeros(len(images) * n_patches, dtype=np.int32)
                    planes = self._denoised(self.grid.planes(images), atoms, counts, exponent)
                    result[batch][padded_rows] = times_power(self.grid.values(planes, images), exponent)
                    supports[batch][padded_rows] = atoms.reshape(len(images), n_patches, self.max_atoms)
                    sizes[batch][padded_rows] = counts.reshape(len(images), n_patches)
        return (result, supports.reshape(-1, self.max_atoms), sizes.reshape(-1)) if return_supports else result

    def projections(self, values, supports, sizes):
        """The transpose of `sums` for fixed atoms of each patch, applied to `values`."""
        from .projection import project_bands

        grid, n_patches = self.grid, self.grid.n_patches
        result = np.empty_like(values)
        with kernel_threads(self.n_jobs):
            for batch in self._batches(values):
                part = slice(batch.start * n_patches, batch.stop * n_patches)
                planes = grid.planes(values[batch])
                sums = self._zeros(planes)
                on_threads(
                    project_bands, planes, grid.tops, grid.lefts, grid.size, self.band, self.remove_mean,
                    self.padded_rows, supports[part], sizes[part], sums, n_pieces=len(sums),
                    work=self._work(values[batch], self.max_atoms),
                )  # fmt: skip
                result[batch] = grid.values(self._merged(sums, planes), values[batch])
        return result

    def _batches(self, values):
        pixels = 3 * self.grid.coverage.size + self._band_pixels() * self._n_bands()
        return batch_slices(len(values), values.itemsize * self.grid.n_channels * pixels)

    def _work(self, images, n_atoms):
        """Multiply-adds of inner products of `n_atoms` atoms with all patches."""
        return len(images) * self.grid.n_patches * self.grid.n_features * n_atoms

    def _n_bands(self):
        return -(-len(self.grid.tops) // self.band)

    def _band_pixels(self):
        starts = self.grid.tops[:: self.band]
        ends = self.grid.tops[np.minimum(np.arange(len(starts)) * self.band + self.band, len(self.grid.tops)) - 1]
        return (int((ends - starts).max()) + self.grid.size[0]) * self.grid.image_size[1]

    def _zeros(self, planes):
        """Zeros for the sums of each band."""
        n_channels, width = self.grid.n_channels, self.grid.image_size[1]
        return np.zeros((len(planes) * self._n_bands(), n_channels, self._band_pixels() // width, width), planes.dtype)

    def _merged(self, sums, planes):
        from .kernels import merge_bands

        result = np.empty_like(planes)
        padded_rows = {"n_pieces": len(result) * result.shape[2], "work": sums.size}
        on_threads(merge_bands, sums, self.grid.tops, self.band, self.grid.size[0], result, **padded_rows)
        return result

    def _denoised(self, planes, supports, sizes, exponent):
        """Sums of the denoised patches of images divided by ``2**exponent``."""
        from .kernels import denoise_bands

        grid = self.grid
        sums = self._zeros(planes)
        tally = np.zeros((len(sums), 3), dtype=np.int64)
        block = max(1, min(_BLOCK_BYTES // self.atoms.columns[0].nbytes, self.band * len(grid.lefts)))
        squared_tol = np.zeros(0) if self.tol is None else np.array([times_power(self.tol, -exponent) ** 2])
        on_threads(
            denoise_bands, planes, grid.tops, grid.lefts, grid.size, self.band, self.remove_mean,
            self.atoms.columns, self.gram, self.padded_rows, self.atoms.inv_norms, self.by_gain, squared_tol,
            self.max_atoms, sums, supports, sizes, tally, block, n_pieces=len(sums),
            work=self._work(planes, len(self.padded_rows)),
        )  # fmt: skip
        if tally[:, NOT_CODED].any():
            raise ValueError(f"Values of X are too large for inner products in {planes.dtype}: scale X down.")
        return self._merged(sums, planes)

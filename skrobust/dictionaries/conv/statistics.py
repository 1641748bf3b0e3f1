"""Sufficient statistics of codes and signals for a convolutional dictionary; their size does not depend on the data."""

from dataclasses import replace

import numpy as np
from scipy import sparse

from skrobust.kernels.threads import on_threads
from skrobust.kernels.workspace import workspace
from skrobust.operators.conv.operator import flat_rows
from skrobust.signals import kernel_threads

MAX_TAPS = 12_000
"""Maximum number of atoms times their pixels; beyond it the sums would take more than a gigabyte."""


class ConvolutionalStatistics:
    """The squared error of a set of codes, a quadratic function of the atoms.

    Row i of the design matrix S holds the coefficients with which taps (values of atoms, the same for each channel)
    contribute to pixel i. The squared error of atoms d is then ``d^T (S^T S) d - 2 d^T (S^T X) + ||X||^2``. Both sums
    are exact at the edges, for any padding, stride and mask, and add up over signals.

    Parameters
    ----------
    components_shape : tuple of int
        ``(n_components, *kernel_size, n_channels)``.

    Attributes
    ----------
    gram : ndarray of shape (n_taps, n_taps)
        S^T S; taps are ordered atom by atom.
    products : ndarray of shape (n_taps, n_channels)
        S^T X.
    energy : float
        ||X||^2.

    Raises
    ------
    ValueError
        If there are more than 12 000 taps.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.dictionaries import ConvolutionalStatistics
    >>> from skrobust.operators import ConvolutionalOperator
    >>> atoms = np.array([[[1.0], [-1.0]]])
    >>> operator = ConvolutionalOperator(atoms, (3, 1))
    >>> codes = np.array([[[2.0], [0.0], [1.0]]])
    >>> statistics = ConvolutionalStatistics(atoms.shape)
    >>> statistics.add(operator.synthesize(codes), codes, operator.geometry)
    >>> statistics.gram
    array([[5., 0.],
           [0., 4.]])
    >>> float(statistics.squared_error(atoms))
    0.0
    """

    def __init__(self, components_shape):
        self.components_shape = tuple(components_shape)
        self.n_taps = int(np.prod(self.components_shape[:-1]))
        if self.n_taps > MAX_TAPS:
            raise ValueError(
                f"{self.components_shape[0]} atoms of {self.components_shape[1:-1]} have {self.n_taps} taps; learning "
                f"keeps sums over pairs of them and takes at most {MAX_TAPS}. Use fewer or smaller atoms."
            )
        self.gram = np.zeros((self.n_taps, self.n_taps))
        self.products = np.zeros((self.n_taps, self.components_shape[-1]))
        self.energy = 0.0

    def add(self, X, codes, geometry, *, mask=None, n_jobs=None):
        """Add signals and their codes.

        Parameters
        ----------
        X : ndarray of shape ``(n_samples, *grid, n_channels)``
        codes : ndarray of shape ``(n_samples, *code_grid, n_components)``
        geometry : ConvolutionGeometry
        mask : ndarray of shape ``(n_samples, *grid)`` or None, default=None
            True where a pixel is valid.
        n_jobs : int or None, default=None
        """
        codes, X = np.asarray(codes), np.asarray(X)
        valid = None if mask is None else np.asarray(mask, dtype=bool).reshape(X.shape[:-1])
        values = X if valid is None else np.where(valid[..., None], X, 0)
        with kernel_threads(n_jobs):
            if geometry.wraps and any(n % s for n, s in zip(geometry.grid, geometry.stride, strict=True)):
                # On such a grid the last and the first position are closer than the stride.
                design = design_matrix(codes, geometry, mask=valid)
                self._add_design(design, 1)
                self.products += design.T @ values.reshape(-1, X.shape[-1]).astype(np.float64)
            else:
                self._add_lags(codes, values, geometry)
                invalid = _invalid_pixels(geometry, valid)
                if invalid is not None:
                    self._add_design(design_matrix(codes, *invalid), -1)
        self.energy += float(np.sum(values * values, dtype=np.float64))

    def _add_lags(self, codes, values, geometry):
        """Add the sums for atoms on an unbounded plane, or with circular padding."""
        from .kernels import add_lags, add_tap_pairs, list_by_atom

        shape, kernel_size, stride = (_two_axes(v) for v in (geometry.code_grid, geometry.kernel_size, geometry.stride))
        n_samples, n_channels, n_atoms = len(codes), values.shape[-1], codes.shape[-1]
        flat = flat_rows(codes)
        n_entries = np.zeros((n_samples, n_atoms), dtype=np.int64)
        empty, options = (np.empty(0, np.int64), np.empty(0, flat.dtype)), {"n_pieces": n_samples, "work": flat.size}
        on_threads(list_by_atom, flat, n_entries, *empty, **options)
        starts = np.concatenate([[0], np.cumsum(n_entries.T)])
        positions, coefficients = np.empty(starts[-1], np.int64), np.empty(starts[-1], flat.dtype)
        next_free = starts[:-1].reshape(n_atoms, n_samples).T.copy()
        on_threads(list_by_atom, flat, next_free, positions, coefficients, **options)
        max_lag = tuple((k - 1) // s for k, s in zip(kernel_size, stride, strict=True))
        lags = np.zeros((n_atoms, (max_lag[0] + 1) * (2 * max_lag[1] + 1) * n_atoms))
        products = np.zeros((n_atoms, self.products.size // n_atoms))
        canvas = _canvas(values.astype(flat.dtype, copy=False), geometry)
        steps, row = (stride[0], stride[1] * n_channels), kernel_size[1] * n_channels
        settings = flat, canvas, starts, positions, coefficients, shape, max_lag, steps, geometry.wraps, row

        def add(next_atom):
            add_lags(*settings, lags, products, workspace(flat.dtype, lags.shape[1], products.shape[1]), next_atom)

        work = len(positions) * (lags[0].size + products[0].size)
        on_threads(add, n_pieces=n_atoms, work=work)
        self.products += products.reshape(self.products.shape)
        lags = lags.reshape(n_atoms, max_lag[0] + 1, 2 * max_lag[1] + 1, n_atoms)
        on_threads(add_tap_pairs, lags, kernel_size, stride, self.gram, n_pieces=n_atoms, work=self.gram.size)

    def _add_design(self, design, sign):
        from .kernels import add_gram

        columns = design.tocsc()
        data = sign * columns.data
        rows = design.data, design.indices, design.indptr
        options = {"n_pieces": self.n_taps, "work": design.nnz**2 / max(1, design.shape[0])}
        on_threads(add_gram, data, columns.indices, columns.indptr, *rows, self.gram, **options)

    def decay(self, factor):
        """Multiply all previous sums."""
        self.gram *= factor
        self.products *= factor
        self.energy *= factor

    def squared_error(self, components):
        """Squared error of the added codes with these atoms."""
        d = components.reshape(self.n_taps, -1)
        return max(0.0, float(np.sum(d * (self.gram @ d)) - 2 * np.sum(d * self.products) + self.energy))

    def usage(self):
        """Sum of squared coefficients of each atom, as seen by its taps."""
        n_components = self.components_shape[0]
        return np.diag(self.gram).reshape(n_components, -1).max(axis=1)

    def improve(self, components, *, n_passes=5, n_steps=3):
        """Atoms of norm at most 1 with a smaller squared error: block descent over the atoms.

        Parameters
        ----------
        components : ndarray of shape components_shape
        n_passes : int, default=5
            Passes over the atoms.
        n_steps : int, default=3
            Projected gradient steps on each.

        Returns
        -------
        ndarray of shape components_shape
        """
        n_components = len(components)
        d = components.reshape(self.n_taps, -1).astype(np.float64)
        taps = self.n_taps // n_components
        blocks = [slice(k * taps, (k + 1) * taps) for k in range(n_components)]
        curvatures = _norm_bounds(np.stack([self.gram[block, block] for block in blocks]))
        floor = 1e-12 * curvatures.max()
        for _ in range(n_passes):
            for block, curvature in zip(blocks, curvatures, strict=True):
                if curvature <= floor:
                    continue
                block_gram = self.gram[block, block]
                target = self.products[block] - self.gram[block] @ d + block_gram @ d[block]
                atom = d[block]
                for _ in range(n_steps):
                    atom = atom - (block_gram @ atom - target) / curvature
                    atom = atom / max(1.0, np.linalg.norm(atom))
                d[block] = atom
        return d.reshape(self.components_shape)


def _norm_bounds(matrices, n_squarings=3):
    """Upper bounds on the norms of symmetric matrices, from the Frobenius norm of a power."""
    scale = np.maximum(np.linalg.norm(matrices, axis=(1, 2)), np.finfo(np.float64).tiny)
    powers = matrices / scale[:, None, None]
    for _ in range(n_squarings):
        powers = powers @ powers
    return scale * np.linalg.norm(powers, axis=(1, 2)) ** (0.5**n_squarings)


def _two_axes(sizes, missing=1):
    return tuple(sizes) if len(sizes) == 2 else (missing, *sizes)


def _canvas(values, geometry):
    """Padded signals (n, height, width * channels) in which the atom at position p begins at pixel ``p * stride``."""
    n_samples, n_channels = len(values), values.shape[-1]
    grid, offset, extent = _two_axes(geometry.grid), _two_axes(geometry.offset, 0), _two_axes(geometry.extent)
    values = values.reshape(n_samples, *grid, n_channels)
    margins = [(o, max(0, r - o - n)) for n, o, r in zip(grid, offset, extent, strict=True)]
    padded = np.pad(values, [(0, 0), *margins, (0, 0)], mode="wrap" if geometry.wraps else "constant")
    return padded.reshape(n_samples, padded.shape[1], -1)


def _invalid_pixels(geometry, valid):
    """Geometry and mask of covered pixels that lie outside the signal or are masked; None if there are none."""
    if geometry.wraps:
        return None if valid is None else (geometry, ~valid)
    padded = replace(geometry, grid=geometry.extent, offset=(0,) * len(geometry.grid))
    inside = tuple(slice(o, o + n) for o, n in zip(geometry.offset, geometry.grid, strict=True))
    invalid = np.ones((1 if valid is None else len(valid), *padded.grid), dtype=bool)
    inside_mask = invalid[(slice(None), *inside)]
    inside_mask[...] = False if valid is None else ~valid[tuple(map(slice, inside_mask.shape))]
    return (padded, invalid) if invalid.any() else None


def design_matrix(codes, geometry, mask=None):
    """The design matrix: the coefficients with which taps contribute to pixels, one row for each pixel of each sample.
    Rows of masked pixels are zero.
    """
    from .kernels import write_design

    grid, kernel_size, stride = (_two_axes(v) for v in (geometry.grid, geometry.kernel_size, geometry.stride))
    offset = _two_axes(geometry.offset, 0)
    n_samples, n_components = len(codes), codes.shape[-1]
    maps = flat_rows(codes).reshape(n_samples, *_two_axes(codes.shape[1:-1]), -1)
    valid = np.ones((1, *grid), dtype=bool) if mask is None else flat_rows(mask).reshape(-1, *grid)
    n_entries = np.zeros((n_samples, int(np.prod(grid))), dtype=np.int64)
    empty = np.empty(0), np.empty(0, dtype=np.int64)
    shared = maps, valid, grid, kernel_size, stride, offset, geometry.wraps
    options = {"n_pieces": n_samples, "work": codes.size * int(np.prod(kernel_size))}
    on_threads(write_design, *shared, n_entries, *empty, **options)
    starts = np.concatenate([[0], np.cumsum(n_entries)])
    values, taps = np.empty(starts[-1]), np.empty(starts[-1], dtype=np.int64)
    next_free = starts[:-1].reshape(n_entries.shape).copy()
    on_threads(write_design, *shared, next_free, values, taps, **options)
    shape = n_entries.size, n_components * int(np.prod(kernel_size))
    return sparse.csr_array((values, taps, starts), shape=shape)

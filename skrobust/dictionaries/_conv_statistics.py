"""What codes and signals say about a convolutional dictionary: sums whose size does not grow with the data."""

import numpy as np
from scipy import sparse

from skrobust.pursuits._conv_operator import flat_rows
from skrobust.pursuits._threads import on_threads
from skrobust.signals import kernel_threads

MOST_TAPS = 12_000
"""Atoms times their pixels, beyond which the sums would take more than a gigabyte."""


class ConvolutionalStatistics:
    """The quadratic function of the atoms that is the squared error of a set of codes.

    Row i of the design matrix S tells which taps (values of atoms, the same for each channel) reach pixel i, with
    which coefficient; the squared error of atoms d is then ``d^T (S^T S) d - 2 d^T (S^T X) + ||X||^2``. Both sums are
    exact at the edges, for any padding, stride and mask, and add up over signals.

    Parameters
    ----------
    components_shape : tuple of int
        ``(n_components, *kernel_size, n_channels)``.

    Attributes
    ----------
    gram : ndarray of shape (n_taps, n_taps)
        S^T S; taps are counted atom by atom.
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
    >>> from skrobust.pursuits import ConvolutionalOperator
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
        if self.n_taps > MOST_TAPS:
            raise ValueError(
                f"{self.components_shape[0]} atoms of {self.components_shape[1:-1]} have {self.n_taps} taps; learning "
                f"keeps sums over pairs of them and takes at most {MOST_TAPS}. Use fewer or smaller atoms."
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
            True where a pixel is known.
        n_jobs : int or None, default=None
        """
        from ._conv_statistics_kernels import add_gram

        pixels = X.reshape(-1, X.shape[-1]).astype(np.float64)
        with kernel_threads(n_jobs, uses_blas=False):
            design = design_matrix(codes, geometry, mask)
            columns = design.tocsc()
            on_threads(
                add_gram,
                *(columns.data, columns.indices, columns.indptr),
                design.data,
                design.indices,
                design.indptr,
                self.gram,
                n_pieces=self.n_taps,
            )
        self.products += design.T @ pixels
        if mask is not None:
            pixels = pixels[mask.reshape(-1)]
        self.energy += float((pixels * pixels).sum())

    def fade(self, share):
        """Multiply what was seen so far."""
        self.gram *= share
        self.products *= share
        self.energy *= share

    def squared_error(self, components):
        """Of the codes that were added, with these atoms."""
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
        curvatures = [np.linalg.norm(self.gram[block, block], 2) for block in blocks]
        floor = 1e-12 * max(curvatures, default=0.0)
        for _ in range(n_passes):
            for block, curvature in zip(blocks, curvatures, strict=True):
                if curvature <= floor:
                    continue
                own = self.gram[block, block]
                target = self.products[block] - self.gram[block] @ d + own @ d[block]
                atom = d[block]
                for _ in range(n_steps):
                    atom = atom - (own @ atom - target) / curvature
                    atom = atom / max(1.0, np.linalg.norm(atom))
                d[block] = atom
        return d.reshape(self.components_shape)


def design_matrix(codes, geometry, mask=None):
    """Which taps reach which pixels, with which coefficients.

    Parameters
    ----------
    codes : ndarray of shape ``(n_samples, *code_grid, n_components)``
    geometry : ConvolutionGeometry
    mask : ndarray of shape ``(n_samples, *grid)`` or None, default=None

    Returns
    -------
    scipy.sparse.csr_array of shape (n_samples * n_pixels, n_components * n_kernel_pixels)
    """
    from ._conv_statistics_kernels import write_design

    grid, kernel_size, stride, offset = (
        np.array(sizes if len(sizes) == 2 else (missing, *sizes), dtype=np.int64)
        for sizes, missing in (
            (geometry.grid, 1),
            (geometry.kernel_size, 1),
            (geometry.stride, 1),
            (geometry.offset, 0),
        )
    )
    n_samples, n_components = len(codes), codes.shape[-1]
    code_grid = codes.shape[1:-1]
    maps = flat_rows(codes).reshape(n_samples, *(code_grid if len(code_grid) == 2 else (1, *code_grid)), -1)
    known = np.ones((1, *grid), dtype=bool) if mask is None else flat_rows(mask).reshape(n_samples, *grid)
    counts = np.zeros((n_samples, int(np.prod(grid))), dtype=np.int64)
    empty = np.empty(0), np.empty(0, dtype=np.int64)
    shared = maps, known, grid, kernel_size, stride, offset, geometry.wraps
    on_threads(write_design, *shared, counts, *empty, n_pieces=n_samples)
    starts = np.concatenate([[0], np.cumsum(counts)])
    values, taps = np.empty(starts[-1]), np.empty(starts[-1], dtype=np.int64)
    next_free = starts[:-1].reshape(counts.shape).copy()
    on_threads(write_design, *shared, next_free, values, taps, n_pieces=n_samples)
    shape = counts.size, n_components * int(np.prod(kernel_size))
    return sparse.csr_array((values, taps, starts), shape=shape)

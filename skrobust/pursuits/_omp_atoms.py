"""Atoms as the pursuit kernels read them: columns of unit norm, padded to whole groups of vectors."""

import math

import numpy as np
from numba import types
from sklearn import get_config

from ._omp_products import gram_rows
from ._threads import on_threads
from ._vectors import VECTOR_BYTES, VectorType

GROUP = 4
"""Vectors that a kernel takes at a time."""

_ROWS = 32
"""Rows of a Gram matrix that a thread makes at a time."""


def padded_width(n_atoms, dtype):
    """`n_atoms` rounded up to whole groups of vectors."""
    scalar = types.float32 if dtype == np.float32 else types.float64
    group = GROUP * VectorType(scalar).lanes
    return -(-n_atoms // group) * group


def aligned_zeros(shape, dtype):
    """Zeros whose first value begins a cache line."""
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    values = np.zeros(size + VECTOR_BYTES // dtype.itemsize, dtype)
    skip = -values.ctypes.data % VECTOR_BYTES // dtype.itemsize
    return values[skip : skip + size].reshape(shape)


class UnitAtoms:
    """The rows of `components`, scaled to unit norm, as columns; zero atoms stay zero.

    Parameters
    ----------
    components : ndarray of shape (n_atoms, n_features)
        float32 or float64.

    Attributes
    ----------
    columns : ndarray of shape (n_features, width)
    inverse_norms : ndarray of shape (n_atoms,)
        0 for zero atoms.
    """

    def __init__(self, components):
        self.n_atoms, self.n_features = components.shape
        self.inverse_norms = inverse_norms(components)
        self.columns = aligned_zeros((self.n_features, padded_width(self.n_atoms, components.dtype)), components.dtype)
        np.multiply(components.T, self.inverse_norms, out=self.columns[:, : self.n_atoms])

    def gram(self, given=None):
        """Inner products of the atoms, flat, each row padded; computed unless those of the components are given."""
        if given is not None:
            return padded_gram(given, self.inverse_norms)
        return gram_of(self.columns, self.n_atoms)

    def affords_gram(self, n_selections):
        """Whether the Gram matrix fits in the working memory, and so many selected atoms are worth computing it."""
        size = self.n_atoms * self.columns[0].nbytes
        return n_selections >= self.n_atoms and size <= get_config()["working_memory"] * 2**20


def inverse_norms(components):
    """1 / norm of each row, 0 for zero rows; norms that over- or underflow when squared are no exception."""
    largest = np.abs(components).max(axis=1, initial=0)
    unit = np.where(largest > 0, largest, 1).astype(components.dtype)
    norms = np.sqrt(np.square(components / unit[:, None]).sum(axis=1))
    return np.divide(1, norms * unit, out=np.zeros_like(norms), where=largest > 0)


def gram_of(columns, n_atoms):
    """Inner products of the atoms that are the first `n_atoms` of padded columns, flat, each row padded."""
    padded = aligned_zeros((n_atoms, columns.shape[1]), columns.dtype)
    rows = np.ascontiguousarray(columns[:, :n_atoms].T)
    work = rows.size * columns.shape[1]
    on_threads(gram_rows, rows, columns, padded, _ROWS, n_pieces=-(-n_atoms // _ROWS), work=work)
    return padded.reshape(-1)


def padded_gram(gram, scales):
    """``gram[i, j] * scales[i] * scales[j]``, flat, each row padded."""
    padded = aligned_zeros((len(gram), padded_width(len(gram), gram.dtype)), gram.dtype)
    np.multiply(gram, scales, out=padded[:, : len(gram)])
    padded *= scales[:, None]
    return padded.reshape(-1)

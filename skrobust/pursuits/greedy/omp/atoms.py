"""Atoms in the memory layout of the pursuit kernels: columns of unit norm, padded to whole groups of vectors."""

import math

import numpy as np
from numba import types
from sklearn import get_config

from skrobust.kernels.vectors import VECTOR_BYTES, VectorType

GROUP = 4
"""Vectors that a kernel processes at a time."""


def padded_width(n_atoms, dtype):
    """`n_atoms` rounded up to whole groups of vectors."""
    scalar = types.float32 if dtype == np.float32 else types.float64
    group = GROUP * VectorType(scalar).lanes
    return -(-n_atoms // group) * group


def aligned_zeros(shape, dtype):
    """Zeros, aligned to a cache line."""
    dtype = np.dtype(dtype)
    size = math.prod(shape)
    values = np.zeros(size + VECTOR_BYTES // dtype.itemsize, dtype)
    skip = -values.ctypes.data % VECTOR_BYTES // dtype.itemsize
    return values[skip : skip + size].reshape(shape)


class UnitAtoms:
    """The rows of `components`, scaled to unit norm, as columns; zero atoms stay zero, with inverse norm 0."""

    def __init__(self, components):
        self.n_atoms, self.n_features = components.shape
        self.inv_norms = inv_norms(components)
        self.columns = aligned_zeros((self.n_features, padded_width(self.n_atoms, components.dtype)), components.dtype)
        np.multiply(components.T, self.inv_norms, out=self.columns[:, : self.n_atoms])

    def gram(self, given=None):
        """Gram matrix of the atoms, flat, with padded rows; computed unless that of the components is given."""
        if given is not None:
            return padded_gram(given, self.inv_norms)
        return gram_of(self.columns, self.n_atoms)

    def affords_gram(self, n_selections):
        """Whether the Gram matrix fits into the working memory, and enough atoms are selected to compute it."""
        size = self.n_atoms * self.columns[0].nbytes
        return n_selections >= self.n_atoms and size <= get_config()["working_memory"] * 2**20


def inv_norms(components):
    """1 / norm of each row, 0 for zero rows; also correct where squared norms over- or underflow."""
    largest = np.abs(components).max(axis=1, initial=0)
    unit = np.where(largest > 0, largest, 1).astype(components.dtype)
    norms = np.sqrt(np.square(components / unit[:, None]).sum(axis=1))
    return np.divide(1, norms * unit, out=np.zeros_like(norms), where=largest > 0)


def gram_of(columns, n_atoms):
    """Gram matrix of the first `n_atoms` of padded columns, flat, with padded rows."""
    padded = aligned_zeros((n_atoms, columns.shape[1]), columns.dtype)
    np.matmul(columns[:, :n_atoms].T, columns, out=padded)
    return padded.reshape(-1)


def padded_gram(gram, scales):
    """``gram[i, j] * scales[i] * scales[j]``, flat, with padded rows."""
    padded = aligned_zeros((len(gram), padded_width(len(gram), gram.dtype)), gram.dtype)
    np.multiply(gram, scales, out=padded[:, : len(gram)])
    padded *= scales[:, None]
    return padded.reshape(-1)

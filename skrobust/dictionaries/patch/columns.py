"""Sparse codes in column order (by atom), and sums over the signals of each atom."""

import numpy as np

from skrobust.kernels.rows import add_scaled, dot
from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel, take_number

_ROWS, _ATOMS = 2048, 8
"""Signals and atoms that a thread processes at a time."""


@kernel
def _sort_by_atom(indices, indptr, ends, signals, entries):
    """Counting sort of the entries of the codes; `ends` holds the atoms' starts on input, their ends on output."""
    for i in range(indptr.size - 1):
        for e in range(indptr[i], indptr[i + 1]):
            at = ends[indices[e]]
            ends[indices[e]] = at + 1
            signals[at] = i
            entries[at] = e


@kernel
def _residuals(X, indptr, indices, values, components, residuals, energies, next_piece):
    n, d = X.shape
    atoms, target = components.reshape(-1), residuals.reshape(-1)
    wants_residuals = target.size > 0
    row, at = np.zeros(d, X.dtype), 0
    first = take_number(next_piece) * _ROWS
    while first < n:
        for i in range(first, min(n, first + _ROWS)):
            if wants_residuals:
                row, at = target, i * d
            for f in range(d):
                row[at + f] = X[i, f]
            for e in range(indptr[i], indptr[i + 1]):
                add_scaled(row, at, -values[e], atoms, np.int64(indices[e]) * d, d)
            energies[i] = dot(row, at, row, at, d)
        first = take_number(next_piece) * _ROWS


@kernel
def _atom_sums(X, indptr, indices, values, starts, signals, entries, gram, products, next_piece):
    """``gram = Z.T @ Z`` and ``products = Z.T @ X`` of codes Z, atom by atom, identical for any number of threads."""
    d, n_atoms = X.shape[1], starts.size - 1
    flat, target = X.reshape(-1), products.reshape(-1)
    first = take_number(next_piece) * _ATOMS
    while first < n_atoms:
        for j in range(first, min(n_atoms, first + _ATOMS)):
            for at in range(starts[j], starts[j + 1]):
                i, z = np.int64(signals[at]), values[entries[at]]
                add_scaled(target, j * d, z, flat, i * d, d)
                for e in range(indptr[i], indptr[i + 1]):
                    gram[j, indices[e]] += z * values[e]
        first = take_number(next_piece) * _ATOMS


class AtomColumns:
    """The entries of csr codes in the order of their atoms: `starts` of the entries of each atom, the signal of each
    entry, and its position in ``codes.data``.
    """

    def __init__(self, codes):
        self.codes = codes
        self.starts = np.zeros(codes.shape[1] + 1, dtype=np.int64)
        np.cumsum(np.bincount(codes.indices, minlength=codes.shape[1]), out=self.starts[1:])
        self.signals = np.empty(codes.nnz, dtype=np.int32)
        self.entries = np.empty(codes.nnz, dtype=np.int64)
        _sort_by_atom(codes.indices, codes.indptr, self.starts[:-1].copy(), self.signals, self.entries)

    def statistics(self, X):
        """``Z.T @ Z`` and ``Z.T @ X`` of the codes Z of the signals X, which determine the best atoms for them."""
        codes, n_atoms = self.codes, self.codes.shape[1]
        gram = np.zeros((n_atoms, n_atoms), dtype=X.dtype)
        products = np.zeros((n_atoms, X.shape[1]), dtype=X.dtype)
        arrays = X, codes.indptr, codes.indices, codes.data, self.starts, self.signals, self.entries, gram, products
        on_threads(_atom_sums, *arrays, n_pieces=-(-n_atoms // _ATOMS), work=codes.nnz * X.shape[1])
        return gram, products


def residuals(X, codes, components):
    """``X - codes @ components`` and its squared norms by rows."""
    differences, energies = np.empty_like(X), np.empty(len(X))
    _by_rows(X, codes, components, differences, energies)
    return differences, energies


def residual_energies(X, codes, components):
    """Squared norms of the rows of ``X - codes @ components``, computed in blocks."""
    energies = np.empty(len(X))
    _by_rows(X, codes, components, np.empty((0, 0), X.dtype), energies)
    return energies


def _by_rows(X, codes, components, differences, energies):
    arrays = X, codes.indptr, codes.indices, codes.data, components, differences, energies
    on_threads(_residuals, *arrays, n_pieces=-(-len(X) // _ROWS), work=(codes.nnz + len(X)) * X.shape[1])


def usage(codes):
    """Number of signals that use each atom."""
    return np.bincount(codes.indices[codes.data != 0], minlength=codes.shape[1])

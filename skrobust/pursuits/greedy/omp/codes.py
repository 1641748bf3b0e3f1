"""Sparse codes: from one row of fixed capacity per signal to CSR."""

import numpy as np
from scipy import sparse

from skrobust.kernels.threads import on_threads
from skrobust.kernels.vectors import kernel, take_number

_ROWS = 4096
"""Codes that a thread packs at a time."""


@kernel
def _gather(indices, values, counts, starts, packed_indices, packed_values, next_block):
    b = take_number(next_block)
    while b * _ROWS < counts.size:
        for row in range(b * _ROWS, min(counts.size, (b + 1) * _ROWS)):
            start = starts[row]
            for p in range(counts[row]):
                packed_indices[start + p] = indices[row, p]
                packed_values[start + p] = values[row, p]
        b = take_number(next_block)


class CodeRows:
    """Codes of a batch as written by the kernels: one row per signal, atoms in order, then unused entries; `counts`
    says how many are used.
    """

    def __init__(self, n_signals, max_atoms, dtype):
        # Zeros, so that every index is valid even if a value is NaN.
        self.indices = np.zeros((n_signals, max_atoms), dtype=np.int32)
        self.values = np.empty((n_signals, max_atoms), dtype=dtype)
        self.counts = np.zeros(n_signals, dtype=np.int32)

    def packed(self):
        """Indices and values without unused entries, and the number of atoms per signal."""
        ends = np.cumsum(self.counts, dtype=np.int64)
        if len(ends) == 0 or ends[-1] == self.indices.size:
            return self.indices.reshape(-1), self.values.reshape(-1), self.counts
        indices, values = np.empty(ends[-1], dtype=np.int32), np.empty(ends[-1], dtype=self.values.dtype)
        options = {"n_pieces": -(-len(ends) // _ROWS), "work": 4 * len(indices)}
        on_threads(_gather, self.indices, self.values, self.counts, ends - self.counts, indices, values, **options)
        return indices, values, self.counts


def compressed_rows(packed, n_atoms):
    """One csr_array from the `packed` codes of several batches."""
    indices, values, counts = (
        packed[0] if len(packed) == 1 else (np.concatenate(parts) for parts in zip(*packed, strict=True))
    )
    indptr = np.zeros(len(counts) + 1, dtype=np.int32 if len(indices) <= np.iinfo(np.int32).max else np.int64)
    np.cumsum(counts, out=indptr[1:])
    codes = sparse.csr_array((values, indices, indptr), shape=(len(counts), n_atoms))
    codes.has_canonical_format = True
    return codes

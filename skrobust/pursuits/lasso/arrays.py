"""The lasso of NumPy arrays, by kernels."""

import numpy as np
from sklearn.utils import assert_all_finite

from skrobust.kernels.threads import on_threads, threads_for
from skrobust.pursuits.greedy.omp.arrays import checked_gram, checked_signals
from skrobust.pursuits.greedy.omp.atoms import aligned_zeros, gram_of, padded_gram, padded_width
from skrobust.pursuits.greedy.omp.codes import CodeRows, compressed_rows
from skrobust.pursuits.result import Result
from skrobust.signals import batch_slices, kernel_threads, scale_exponents, times_power

from .kernels import GAP, OBJECTIVE, SWEEPS, pursue_l1

_BATCH_BYTES = 1 << 26
"""Codes, at full capacity, that are computed between two compressions."""


def basis_pursuit_of_arrays(X, components, *, alpha, positive, tol, max_iter, gram, sparse_output, n_jobs):
    """The `Result` of `basis_pursuit` for an array `X`."""
    X, components = checked_signals(X, components)
    alphas = one_alpha_per_signal(alpha, len(X))
    exponents = scale_exponents(X)
    with kernel_threads(n_jobs):
        codes, report = _pursue(
            times_power(X, -exponents), components, times_power(alphas, -exponents), positive, tol, max_iter, gram
        )
    codes.data = times_power(codes.data, np.repeat(exponents, np.diff(codes.indptr)))
    gap, objective, n_iter = report[:, GAP], report[:, OBJECTIVE], report[:, SWEEPS].astype(np.int64)
    codes = codes if sparse_output else codes.toarray()
    figures = times_power(objective, 2 * exponents), times_power(gap, 2 * exponents)
    return Result(codes, *figures, n_iter, gap <= tol * objective)


def one_alpha_per_signal(alpha, n_signals):
    """`alpha` as float64, one per signal; a ValueError unless all values are positive and finite."""
    alphas = np.asarray(alpha, dtype=np.float64)
    if alphas.shape not in ((), (n_signals,)):
        raise ValueError(f"alpha must be a number or have shape ({n_signals},), got shape {alphas.shape}.")
    if not np.all((alphas > 0) & (alphas < np.inf)):
        raise ValueError(f"alpha must be positive and finite, got {alphas[~((alphas > 0) & (alphas < np.inf))][0]}.")
    return np.broadcast_to(alphas, (n_signals,))


def _pursue(X, components, alphas, positive, tol, max_iter, gram):
    """Codes (csr), and a row of the kernel's report for each signal."""
    n_atoms, n_features = components.shape
    columns = aligned_zeros((n_features, padded_width(n_atoms, X.dtype)), X.dtype)
    columns[:, :n_atoms] = components.T
    if gram is None:
        rows = gram_of(columns, n_atoms)
    else:
        rows = padded_gram(checked_gram(gram, n_atoms, X.dtype), np.ones(n_atoms, X.dtype))
    squares = np.maximum(rows.reshape(n_atoms, -1).diagonal(), 0)
    inverses = np.divide(1, squares, out=np.zeros(n_atoms, X.dtype), where=squares > 0)
    batches, report = [], np.zeros((len(X), 3))
    bytes_per_signal = n_atoms * (4 + X.itemsize)
    for batch in batch_slices(len(X), bytes_per_signal, batch_size=max(1, _BATCH_BYTES // bytes_per_signal)):
        n = batch.stop - batch.start
        work = n * columns.size
        block = max(1, min(_block(columns), -(-n // threads_for(n, work))))
        codes = CodeRows(n, n_atoms, X.dtype)
        n_blocks = -(-n // block)
        not_finite = np.zeros(n_blocks, dtype=np.int64)
        on_threads(
            pursue_l1, X[batch], alphas[batch], columns, rows, inverses, positive, tol, max_iter,
            codes.indices, codes.values, codes.counts, report[batch], not_finite, block,
            n_pieces=n_blocks, work=work,
        )  # fmt: skip
        if not_finite.any():
            assert_all_finite(X, input_name="X")
            raise ValueError(f"Values of X are too large for squares in {X.dtype}: scale X down.")
        batches.append(codes.packed())
    return compressed_rows(batches, n_atoms), report


def _block(columns):
    """Signals that a thread codes at a time, so that their correlations stay in its second-level cache."""
    return (1 << 19) // columns[0].nbytes

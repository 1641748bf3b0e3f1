"""Greedy pursuits in batches: parameters, calls of the kernels, results and warnings."""

from numbers import Integral

import numpy as np

from skrobust.kernels.threads import on_threads, threads_for
from skrobust.pursuits.result import Result
from skrobust.signals import batch_slices, count_of, times_power, warn_not_converged

from . import kernels
from .atoms import padded_width
from .codes import CodeRows, compressed_rows

_BLOCK_BYTES = 1 << 19
"""Correlations that a thread computes at a time, so that they stay in its second-level cache."""


class Pursuit:
    """A greedy pursuit of `n_signals` signals; parameters as of `orthogonal_mp`.

    `max_atoms` is the maximum number of atoms of a code.
    """

    def __init__(
        self, n_signals, n_atoms, n_features, dtype, *, n_nonzero_coefs, tol, selection, sparse_output, return_result
    ):
        self.n_signals, self.n_atoms, self.n_features, self.dtype = n_signals, n_atoms, n_features, dtype
        self.max_atoms = resolve_max_atoms(n_nonzero_coefs, tol, n_atoms, n_features)
        self.tol = None if tol is None else one_per_signal(tol, n_signals, "tol")
        self.warns_of_tol = n_nonzero_coefs is None
        self.by_gain = selection == "ols"
        self.sparse_output, self.return_result = sparse_output, return_result

    def codes(self, name, per_signal, shared, scaled):
        """Yield codes, the report of each signal (or none), and the tally of reasons for stopping, batch by batch.

        `name` is the name of the kernel, whose first arguments are `per_signal`, arrays with a row for each signal, and
        `shared`. ``scaled(*per_signal)`` returns exponents of powers of two near the size of the signals, and the
        arrays of the signals divided by these powers.
        """
        kernel = getattr(kernels, name)
        # Without a tolerance codes use their whole capacity; with one they are packed batch by batch.
        code_bytes = 0 if self.tol is None else self.max_atoms * (4 + self.dtype.itemsize)
        for batch in batch_slices(self.n_signals, code_bytes):
            arrays = [array[batch] if len(array) else array for array in per_signal]
            tol = None if self.tol is None else self.tol[batch]
            rows, report, tally = self._code(kernel, arrays, shared, tol, batch.stop - batch.start, kernels.SMALL)
            if tally[kernels.NOT_CODED]:
                self._code_scaled(kernel, arrays, shared, tol, scaled, rows, report, tally)
            yield rows, report, tally

    def _code(self, kernel, arrays, shared, tol, n, smallest):
        """Code the `n` signals of `arrays`; not those whose largest correlation is below `smallest` or above 1 / it."""
        squared_tol = np.zeros(0) if tol is None else np.square(tol)
        width = padded_width(self.n_atoms, self.dtype)
        work = n * width * self.n_features
        block = max(1, min(_BLOCK_BYTES // (width * self.dtype.itemsize), -(-n // threads_for(n, work))))
        rows = CodeRows(n, self.max_atoms, self.dtype)
        report = np.zeros((n if self.return_result else 0, 2))
        tally = np.zeros((-(-n // block), 3), dtype=np.int64)
        on_threads(
            kernel, *arrays, *shared, self.by_gain, smallest, squared_tol, rows.indices, rows.values, rows.counts,
            report, tally, block, n_pieces=len(tally), work=work,
        )  # fmt: skip
        return rows, report, tally.sum(axis=0)

    def _code_scaled(self, kernel, arrays, shared, tol, scaled, rows, report, tally):
        """Code the signals without a code again, divided by powers of two near their size; updates the last three."""
        empty = np.flatnonzero(rows.counts == 0)
        exponents, arrays = scaled(*(array[empty] if len(array) else array for array in arrays))
        tol = None if tol is None else times_power(tol[empty], -exponents)
        new_rows, new_report, new_tally = self._code(kernel, arrays, shared, tol, len(empty), 0.0)
        rows.indices[empty], rows.counts[empty] = new_rows.indices, new_rows.counts
        rows.values[empty] = times_power(new_rows.values, exponents)
        if len(report):
            new_report[:, kernels.OBJECTIVE] = times_power(new_report[:, kernels.OBJECTIVE], 2 * exponents)
            report[empty] = new_report
        tally[kernels.NOT_CODED] = 0
        tally += new_tally

    def run(self, name, per_signal, shared, scaled, refuse):
        """Return value of `orthogonal_mp`; `refuse` raises the error for signals that are not finite."""
        batches, reports, tally = [], [], np.zeros(3, dtype=np.int64)
        for rows, report, batch_tally in self.codes(name, per_signal, shared, scaled):
            if batch_tally[kernels.NOT_CODED]:
                refuse()
            tally += batch_tally
            batches.append(rows.packed())
            reports.append(report)
        self.warn(tally)
        codes = compressed_rows(batches, self.n_atoms)
        if not self.return_result:
            return codes if self.sparse_output else codes.toarray()
        n_iter = np.diff(codes.indptr).astype(np.int64)
        report = np.concatenate(reports)
        converged = None if self.tol is None else report[:, kernels.IS_SHORT] == 0
        codes = codes if self.sparse_output else codes.toarray()
        return Result(codes, report[:, kernels.OBJECTIVE], None, n_iter, converged)

    def warn(self, tally):
        """Warn about signals that missed `tol` or met dependent atoms."""
        n_short, reason = tally[kernels.DEPENDENT], "ended early: the next atom depended linearly on those selected."
        if self.warns_of_tol and tally[kernels.UNMET]:
            n_short = tally[kernels.UNMET]
            reason = (
                f"did not reach tol with {self.max_atoms} atoms or all that correlate with their residual. Raise tol "
                "or give n_nonzero_coefs."
            )
        warn_not_converged(int(n_short), self.n_signals, reason, stacklevel=4)


def resolve_max_atoms(n_nonzero_coefs, tol, n_atoms, n_features):
    """Maximum number of atoms of each signal; a ValueError if it exceeds the number of atoms or features."""
    if n_nonzero_coefs is None:
        return min(n_atoms, n_features) if tol is not None else min(n_atoms, max(1, n_features // 10))
    if not isinstance(n_nonzero_coefs, Integral):
        return min(n_atoms, count_of(n_nonzero_coefs, n_features))
    for limit, what in ((n_atoms, "atoms"), (n_features, "features")):
        if n_nonzero_coefs > limit:
            raise ValueError(
                f"n_nonzero_coefs={n_nonzero_coefs} is more than the {limit} {what}: a code of linearly independent "
                f"atoms has at most {min(n_atoms, n_features)} here. Lower n_nonzero_coefs."
            )
    return int(n_nonzero_coefs)


def one_per_signal(values, n_signals, name):
    """`values` as float64, one per signal; a ValueError for other shapes, negative values and NaN."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape not in ((), (n_signals,)):
        raise ValueError(f"{name} must be a number or have shape ({n_signals},), got shape {values.shape}.")
    if not np.all(values >= 0):
        raise ValueError(f"{name} must not have negative values or NaN.")
    return np.broadcast_to(values, (n_signals,))

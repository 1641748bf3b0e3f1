"""The solvers of convolutional basis pursuit: which of them takes which signals."""

import numpy as np

from skrobust.signals import batch_slices, kernel_threads

from ._conv_fista import Problem, fista, largest_of_samples
from ._conv_operator import flat_rows
from ._threads import on_threads, threads_for

DENSE_SHARE, DENSE_PER_VALUE = 0.5, 0.5
"""Coefficients other than zero, as a share of all and for each value of the signal, up to which descent goes on."""

SMALL_ALPHA = 0.03
"""Share of the largest penalty below which ADMM, not proximal gradient, takes over what descent leaves unsolved."""

FAR, LARGE_GAP = 10, 1e-2
"""ADMM takes over where descent ends at a gap of more than so many times `tol`, and of more than this."""

MOST_CANDIDATES = 1 << 22
"""Candidates for which there is room in any case: what is not used of it costs nothing."""

CACHED_BYTES = 1 << 21
"""Codes that proximal gradient treats at a time: they stay in the cache."""


def solve_arrays(X, mask, init, alpha, operator, positive, weights, tol, max_iter, *, solver, n_jobs):
    """Codes, gaps, objectives and iterations of arrays that are checked, by the solver that suits them."""
    n_samples = len(X)
    if init is None:
        codes = np.zeros((n_samples, *operator.code_shape), dtype=X.dtype)
    else:
        codes = np.array(init, dtype=X.dtype, order="C")
        if positive:
            np.maximum(codes, 0, out=codes)
    gaps, objectives = np.full(n_samples, np.inf), np.empty(n_samples)
    counts = np.zeros(n_samples, dtype=np.int64)
    dense = np.arange(n_samples)
    # However large the atoms: sparse codes need few of their products.
    if solver == "descent" or (solver == "auto" and operator.evaluation != "fft"):
        most = codes[0].size
        if solver == "auto":
            most = int(min(DENSE_SHARE * most, DENSE_PER_VALUE * X[0].size))
        report = _descend(
            X, operator, alpha, positive, weights, mask, codes, init is not None, tol, max_iter, most, n_jobs
        )
        gaps, objectives, counts = report[:, 0].copy(), report[:, 1].copy(), report[:, 2].astype(np.int64)
        dense = np.flatnonzero(np.isinf(gaps))
    penalties = np.maximum(alpha * weights, np.finfo(X.dtype).tiny)  # in the dtype of X still more than 0
    by_admm = dense[:0]
    if solver == "admm":
        dense, by_admm = by_admm, dense
    elif solver == "auto":
        unsolved = np.flatnonzero(np.isinf(gaps) | (gaps > max(FAR * tol, LARGE_GAP) * objectives))
        by_admm = unsolved[_largest_penalties(X[unsolved], operator, penalties, positive, n_jobs) > 1 / SMALL_ALPHA]
        dense = np.setdiff1d(dense, by_admm)
    if len(dense):
        each = max(1, CACHED_BYTES // codes[0].nbytes)
        threaded = _Threaded(operator, n_jobs)
        for first in range(0, len(dense), each):
            rows = dense[first : first + each]
            counted = None if mask is None else np.broadcast_to(mask, X.shape)[rows]
            problem = Problem(X[rows], threaded, penalties.astype(X.dtype), counted, positive, operator.geometry)
            codes[rows], gaps[rows], objectives[rows], steps = fista(problem, codes[rows], tol=tol, max_iter=max_iter)
            counts[rows] += steps
    if len(by_admm):
        found = _alternate(X, operator, penalties, positive, mask, codes, by_admm, tol, max_iter, n_jobs)
        better = ~(found[2] >= objectives[by_admm]) | ~np.isfinite(gaps[by_admm])
        rows = by_admm[better]
        codes[rows], gaps[rows], objectives[rows] = (values[better] for values in found[:3])
        counts[by_admm] += found[3]
    return (codes, gaps, objectives, counts)


def _largest_penalties(X, operator, penalties, positive, n_jobs):
    """For each signal the factor of the penalties at which its code becomes zero."""
    tops = np.empty(len(X))
    problem = Problem(None, _Threaded(operator, n_jobs), penalties.astype(X.dtype), None, positive)
    for batch in batch_slices(len(X), 3 * int(np.prod(operator.code_shape)) * X.itemsize):
        tops[batch] = largest_of_samples(problem.relative_correlations(X[batch]))
    return tops


def _alternate(X, operator, penalties, positive, mask, codes, rows, tol, max_iter, n_jobs):
    """Codes, gaps, objectives and iterations of some signals by ADMM."""
    from ._conv_admm import admm
    from ._conv_spectrum import Spectrum

    spectrum = Spectrum(np.asarray(operator.components, dtype=np.float64), operator.geometry)
    each = max(1, CACHED_BYTES // (8 * codes[0].size))
    parts = []
    with kernel_threads(n_jobs):
        for first in range(0, len(rows), each):
            own = rows[first : first + each]
            counted = None if mask is None else np.broadcast_to(mask, X.shape)[own].astype(np.float64)
            problem = Problem(X[own].astype(np.float64), spectrum, penalties, counted, positive, operator.geometry)
            found, gaps, objectives, steps = admm(problem, spectrum, codes[own], tol=tol, max_iter=max_iter)
            found = found.astype(X.dtype)
            if X.dtype != np.float64:  # the objective of what is returned
                lower, exact = objectives - gaps, found.astype(np.float64)
                objectives = problem.objective(exact, problem.residual(spectrum.synthesize(exact)))
                gaps = (objectives - lower).clip(0)
            parts.append((found, gaps, objectives, steps))
    return tuple(np.concatenate(values) for values in zip(*parts, strict=True))


def _descend(X, operator, alpha, positive, weights, mask, codes, warm, tol, max_iter, most, n_jobs):
    """Coordinate descent, into `codes`; gap, objective and sweeps of each signal, infinite where it is too dense."""
    from ._conv_bands import band_parts
    from ._conv_descent import descend_signals

    plan, tables, padded, rates = operator.descent_tables(weights, X.dtype)
    n_samples = len(X)
    flat = flat_rows(X)
    if mask is None:
        masks = np.empty((n_samples, 0), dtype=X.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, X.shape))
    report = np.empty((n_samples, 4))
    room = min(codes[0].size, max(MOST_CANDIDATES, most)) + 64, most + 64
    maps = codes.reshape(n_samples, -1, codes.shape[-1])
    settings = warm, tables, plan, padded, rates, float(alpha), bool(positive), float(tol), int(max_iter)
    parts = band_parts(operator.geometry)
    with kernel_threads(n_jobs):
        if parts is None:
            # At least two scans of all correlations.
            how = {"n_pieces": n_samples, "work": 2 * operator.products(codes)}
            on_threads(descend_signals, flat, masks, maps, *settings, room, report, **how)
        else:
            for n in range(n_samples):
                report[n] = _descend_in_bands(flat[n], masks[n], maps[n], *settings, room, parts)
    return report


def _descend_in_bands(x, mask, code, warm, tables, plan, weights, rates, alpha, positive, tol, most, room, parts):
    """Gap, objective, sweeps and ending of one large signal, several threads on it."""
    from ._conv_bands import DONE, ENDING, GAP, OBJECTIVE, STATE_SIZE, descend_in_bands
    from ._conv_kernels import lay_signal
    from ._conv_plan import BLOCK, lanes_of

    n_parts, dtype = len(parts), x.dtype
    n_threads = threads_for(n_parts // 2)
    shown, signal = np.zeros((2, plan.rows * plan.pitch), dtype=dtype)
    lay_signal(np.ones_like(x) if mask.size == 0 else mask, shown, plan)
    lay_signal(x, signal, plan)
    signal *= shown
    most_rows = int(np.diff(parts, axis=1).max())
    of_part = min(4 * room[0] // n_parts, most_rows * plan.code_width * plan.atoms) + 64
    kinds = [np.int64, np.int64, np.int64, np.int8, dtype, dtype, dtype]
    state = np.zeros(STATE_SIZE)
    on_threads(
        descend_in_bands,
        signal,
        shown,
        np.empty_like(signal),
        np.zeros_like(signal),
        code,
        tables,
        plan,
        weights,
        rates,
        alpha,
        positive,
        mask.size > 0,
        warm,
        tol,
        most,
        parts,
        tuple(np.empty((n_parts, of_part), dtype=kind) for kind in kinds),
        np.empty((n_threads, of_part), dtype=np.int64),
        np.zeros(len(code) * (plan.padded_atoms // lanes_of(dtype)), dtype=np.uint16),
        np.empty(len(code), dtype=dtype),
        room[1],
        np.zeros((n_threads, (plan.code_width + BLOCK) * plan.padded_atoms), dtype=dtype),
        np.zeros(n_parts, dtype=np.int64),
        np.zeros(n_parts, dtype=dtype),
        state,
        np.zeros(1, dtype=np.int64),
        n_threads,
        n_pieces=n_parts // 2,
    )
    return state[GAP], state[OBJECTIVE], state[DONE], state[ENDING]


def solve_tensors(X, mask, init, alpha, operator, positive, weights, tol, max_iter):
    """The same of tensors, by proximal gradient where they are."""
    import torch

    with torch.no_grad():
        codes = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
        each = len(X) if X.device.type != "cpu" else max(1, CACHED_BYTES // (codes[0].numel() * codes.element_size()))
        gaps, objectives = np.empty(len(X)), np.empty(len(X))
        counts = np.empty(len(X), dtype=np.int64)
        solved = []
        for first in range(0, len(X), each):
            rows = slice(first, first + each)
            counted = None if mask is None else mask.expand(X.shape)[rows]
            penalties = X.new_tensor(alpha * weights)
            problem = Problem(X[rows], operator, penalties, counted, positive, operator.geometry)
            part, gaps[rows], objectives[rows], counts[rows] = fista(problem, codes[rows], tol=tol, max_iter=max_iter)
            solved.append(part)
        return (torch.cat(solved), gaps, objectives, counts)


class _Threaded:
    """An operator on arrays with a bound on its threads."""

    def __init__(self, operator, n_jobs):
        self.operator, self.n_jobs = operator, n_jobs
        self.lipschitz = operator.lipschitz

    def synthesize(self, codes):
        return self.operator.synthesize(codes, n_jobs=self.n_jobs)

    def analyze(self, X):
        return self.operator.analyze(X, n_jobs=self.n_jobs)

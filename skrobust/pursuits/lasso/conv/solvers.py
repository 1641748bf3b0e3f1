"""The solvers of convolutional basis pursuit, and the rules that choose among them."""

import numpy as np

from skrobust.kernels.threads import on_threads, threads_for
from skrobust.operators.conv.operator import ConvolutionalOperator, flat_rows
from skrobust.pursuits.problem import Problem
from skrobust.pursuits.proximal.fista import fista
from skrobust.pursuits.result import Result
from skrobust.signals import batch_slices, kernel_threads

DENSE_SHARE, DENSE_PER_VALUE = 0.5, 1.5
"""Largest number of nonzero coefficients for descent, on the way too, per coefficient and per value of the signal."""

SMALL_ALPHA = 0.03
"""alpha / alpha_max below which ADMM, not FISTA, solves the signals that descent does not."""

FAR, LARGE_GAP = 10, 1e-2
"""ADMM follows descent that ends at a relative gap above FAR * tol and above LARGE_GAP."""

MOST_CANDIDATES = 1 << 22
"""Minimum capacity of the working set; untouched memory costs nothing."""

SLACK = 64
"""Added to both limits of the working set: space for a vector of candidates, and for the codes of tiny signals."""

CACHED_BYTES = 1 << 21
"""Bytes of codes per batch of FISTA, so that they stay in the cache."""


def solve_arrays(X, operator, alpha, penalty, by_atom, mask, init, tol, max_iter, *, solver, n_jobs):
    """The `Result` of validated arrays, by the given solver or the best suited one.

    `by_atom` are the weights of the atoms if coordinate descent can solve for the penalty.
    """
    n_samples = len(X)
    positive = getattr(penalty, "positive", False)
    if init is None:
        codes = np.zeros((n_samples, *operator.code_shape), dtype=X.dtype)
    else:
        codes = np.array(init, dtype=X.dtype, order="C")
        if positive:
            np.maximum(codes, 0, out=codes)
    gaps, objectives = np.full(n_samples, np.inf), np.empty(n_samples)
    n_iter = np.zeros(n_samples, dtype=np.int64)
    dense = np.arange(n_samples)
    # Sparse codes need few products, even with large atoms.
    if solver == "descent" or (solver == "auto" and by_atom is not None and operator.evaluation != "fft"):
        max_active = codes[0].size
        if solver == "auto":
            max_active = int(min(DENSE_SHARE * max_active, DENSE_PER_VALUE * X[0].size))
        report = _descend(
            X, operator, alpha, positive, by_atom, mask, codes, init is not None, tol, max_iter, max_active, n_jobs
        )
        gaps, objectives, n_iter = report[:, 0].copy(), report[:, 1].copy(), report[:, 2].astype(np.int64)
        dense = np.flatnonzero(np.isinf(gaps))
    converged = gaps <= tol * objectives
    alpha = max(alpha, float(np.finfo(X.dtype).tiny))  # stays > 0 in the dtype of X
    by_admm = dense[:0]
    if solver == "admm":
        dense, by_admm = by_admm, dense
    elif solver == "auto" and init is None:  # a learner, which goes on from its last codes, needs no exact pursuit
        unsolved = np.flatnonzero(np.isinf(gaps) | (gaps > max(FAR * tol, LARGE_GAP) * objectives))
        top = _alpha_max(X[unsolved], operator, penalty, n_jobs)
        by_admm = unsolved[top > alpha / SMALL_ALPHA] if top is not None else by_admm
        dense = np.setdiff1d(dense, by_admm)
    if len(dense):
        each = max(1, CACHED_BYTES // codes[0].nbytes)
        for first in range(0, len(dense), each):
            rows = dense[first : first + each]
            valid_rows = None if mask is None else np.broadcast_to(mask, X.shape)[rows]
            problem = Problem(X[rows], operator, alpha, penalty, valid_rows, n_jobs)
            codes[rows], objectives[rows], gaps[rows], steps, converged[rows] = fista(
                problem, codes[rows], tol=tol, max_iter=max_iter
            )
            n_iter[rows] += steps
    if len(by_admm):
        found = _alternate(X, operator, alpha, penalty, mask, codes, by_admm, tol, max_iter, n_jobs)
        better = ~(found.objective >= objectives[by_admm]) | ~np.isfinite(gaps[by_admm])
        rows = by_admm[better]
        codes[rows], objectives[rows], gaps[rows] = found.codes[better], found.objective[better], found.gap[better]
        converged[rows] = gaps[rows] <= tol * objectives[rows]
        n_iter[by_admm] += found.n_iter
    return Result(codes, objectives, gaps, n_iter, converged)


def _alpha_max(X, operator, penalty, n_jobs):
    """Smallest alpha at which each code is zero, or None if the penalty has no known dual norm."""
    tops = [np.empty(0)]
    for batch in batch_slices(len(X), 3 * int(np.prod(operator.code_shape)) * X.itemsize):
        top = penalty.dual_norm(operator.analyze(X[batch], n_jobs=n_jobs))
        if top is None:
            return None
        tops.append(top)
    return np.concatenate(tops)


def _alternate(X, operator, alpha, penalty, mask, codes, rows, tol, max_iter, n_jobs):
    """The `Result` of some signals by ADMM, in double precision."""
    from .admm import admm

    settings = {"padding": operator.padding, "stride": operator.stride, "evaluation": "fft"}
    exact = ConvolutionalOperator(np.asarray(operator.components, dtype=np.float64), operator.signal_shape, **settings)
    each = max(1, CACHED_BYTES // (8 * codes[0].size))
    parts = []
    with kernel_threads(n_jobs):
        for first in range(0, len(rows), each):
            own = rows[first : first + each]
            valid_rows = None if mask is None else np.broadcast_to(mask, X.shape)[own].astype(np.float64)
            problem = Problem(X[own].astype(np.float64), exact, alpha, penalty, valid_rows, n_jobs)
            found = admm(problem, codes[own], tol=tol, max_iter=max_iter)
            if X.dtype != np.float64:  # the objective of the returned codes
                lower = found.objective - found.gap
                rounded = found.codes.astype(X.dtype)
                as_returned = rounded.astype(np.float64)
                objective = problem.objective(as_returned, problem.residual(exact.synthesize(as_returned)))
                found = found._replace(codes=rounded, objective=objective, gap=(objective - lower).clip(0))
            parts.append(found)
    return Result(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _descend(X, operator, alpha, positive, weights, mask, codes, warm, tol, max_iter, max_active, n_jobs):
    """Coordinate descent into `codes`; returns gap, objective and sweeps per signal, an infinite gap if too dense."""
    from .descent import descend_signals, descent_workspaces
    from .team import band_parts

    plan, tables, padded, inv_weights = operator.descent_tables(weights, X.dtype)
    n_samples = len(X)
    flat, maps = flat_rows(X), codes.reshape(n_samples, -1)
    if mask is None:
        masks = np.empty((n_samples, 0), dtype=X.dtype)
    else:
        masks = flat_rows(np.broadcast_to(mask, X.shape))
    report = np.empty((n_samples, 4))
    rows = band_parts(operator.geometry)
    n_bands, most_rows = (len(rows) + 1) // 2, int(np.diff(rows, axis=1).max())
    capacity, max_active = min(codes[0].size, max(MOST_CANDIDATES, max_active)) + SLACK, max_active + SLACK
    if n_bands > 1:
        capacity = min(4 * capacity // len(rows), most_rows * codes[0].size // len(codes[0])) + SLACK
    settings = warm, tables, plan, padded, inv_weights, float(alpha), bool(positive), float(tol), int(max_iter)
    with kernel_threads(n_jobs):
        n_threads = threads_for(n_bands)
        if n_samples >= 2 * n_threads:  # a signal for each thread needs no waiting
            n_threads = 1

        def workspaces():
            return descent_workspaces(plan, len(rows), capacity, max_active, n_threads, X.dtype)

        shared = workspaces() if n_threads > 1 else None

        def descend(counters):
            descend_signals(
                flat, masks, maps, *settings, capacity, max_active, rows, shared or workspaces(), report, n_threads,
                counters,
            )  # fmt: skip

        if n_threads > 1:
            on_threads(descend, n_pieces=n_threads, n_counters=3)
        else:  # at least two scans of all correlations
            on_threads(descend, n_pieces=n_samples, work=2 * operator.products(codes), n_counters=3)
    return report


def solve_tensors(X, operator, alpha, penalty, mask, init, tol, max_iter):
    """The `Result` of tensors, by proximal gradient on their device."""
    import torch

    with torch.no_grad():
        codes = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
        each = len(X) if X.device.type != "cpu" else max(1, CACHED_BYTES // (codes[0].numel() * codes.element_size()))
        parts = []
        for first in range(0, len(X), each):
            rows = slice(first, first + each)
            valid_rows = None if mask is None else mask.expand(X.shape)[rows]
            problem = Problem(X[rows], operator, alpha, penalty, valid_rows)
            parts.append(fista(problem, codes[rows], tol=tol, max_iter=max_iter))
        solved, *figures = zip(*parts, strict=True)
        return Result(torch.cat(solved), *map(np.concatenate, figures))

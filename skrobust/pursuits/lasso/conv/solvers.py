"""The solvers of convolutional basis pursuit, and the rules that choose among them."""

import numpy as np

from skrobust.kernels.threads import on_threads, threads_for
from skrobust.operators.conv.operator import ConvolutionalOperator, flat_rows
from skrobust.pursuits.problem import Problem
from skrobust.pursuits.proximal.fista import fista
from skrobust.pursuits.result import Result
from skrobust.signals import batch_slices, kernel_threads

DENSE_SHARE, DENSE_PER_VALUE = 0.5, 0.5
"""Largest number of nonzero coefficients for descent, per coefficient and per value of the signal."""

SMALL_ALPHA = 0.03
"""alpha / alpha_max below which ADMM, not FISTA, solves the signals that descent does not."""

FAR, LARGE_GAP = 10, 1e-2
"""ADMM follows descent that ends at a relative gap above FAR * tol and above LARGE_GAP."""

MOST_CANDIDATES = 1 << 22
"""Minimum capacity of the working set; untouched memory costs nothing."""

CACHED_BYTES = 1 << 21
"""Bytes of codes per batch of FISTA, so that they stay in the cache."""


def solve_arrays(X, operator, alpha, penalty, by_atom, mask, init, tol, max_iter, *, solver, n_jobs):
    """The `Result` of validated arrays, by the given solver or the best suited one.

    Parameters
    ----------
    by_atom : ndarray of shape (n_components,) or None
        Weights of the atoms if coordinate descent can solve for the penalty.
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
    counts = np.zeros(n_samples, dtype=np.int64)
    dense = np.arange(n_samples)
    # Sparse codes need few products, even with large atoms.
    if solver == "descent" or (solver == "auto" and by_atom is not None and operator.evaluation != "fft"):
        most = codes[0].size
        if solver == "auto":
            most = int(min(DENSE_SHARE * most, DENSE_PER_VALUE * X[0].size))
        report = _descend(
            X, operator, alpha, positive, by_atom, mask, codes, init is not None, tol, max_iter, most, n_jobs
        )
        gaps, objectives, counts = report[:, 0].copy(), report[:, 1].copy(), report[:, 2].astype(np.int64)
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
            known = None if mask is None else np.broadcast_to(mask, X.shape)[rows]
            problem = Problem(X[rows], operator, alpha, penalty, known, n_jobs)
            codes[rows], objectives[rows], gaps[rows], steps, converged[rows] = fista(
                problem, codes[rows], tol=tol, max_iter=max_iter
            )
            counts[rows] += steps
    if len(by_admm):
        found = _alternate(X, operator, alpha, penalty, mask, codes, by_admm, tol, max_iter, n_jobs)
        better = ~(found.objective >= objectives[by_admm]) | ~np.isfinite(gaps[by_admm])
        rows = by_admm[better]
        codes[rows], objectives[rows], gaps[rows] = found.codes[better], found.objective[better], found.gap[better]
        converged[rows] = gaps[rows] <= tol * objectives[rows]
        counts[by_admm] += found.n_iter
    return Result(codes, objectives, gaps, counts, converged)


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
            known = None if mask is None else np.broadcast_to(mask, X.shape)[own].astype(np.float64)
            problem = Problem(X[own].astype(np.float64), exact, alpha, penalty, known, n_jobs)
            found = admm(problem, codes[own], tol=tol, max_iter=max_iter)
            if X.dtype != np.float64:  # the objective of the returned codes
                lower = found.objective - found.gap
                rounded = found.codes.astype(X.dtype)
                as_returned = rounded.astype(np.float64)
                objective = problem.objective(as_returned, problem.residual(exact.synthesize(as_returned)))
                found = found._replace(codes=rounded, objective=objective, gap=(objective - lower).clip(0))
            parts.append(found)
    return Result(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _descend(X, operator, alpha, positive, weights, mask, codes, warm, tol, max_iter, most, n_jobs):
    """Coordinate descent into `codes`; returns gap, objective and sweeps per signal, an infinite gap if too dense."""
    from .bands import band_parts
    from .descent import descend_signals

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
    """Gap, objective, sweeps and reason for stopping of one large signal, solved by several threads."""
    from skrobust.operators.conv.kernels import lay_signal
    from skrobust.operators.conv.plan import BLOCK, lanes_of

    from .bands import DONE, ENDING, GAP, OBJECTIVE, STATE_SIZE, descend_in_bands

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


def solve_tensors(X, operator, alpha, penalty, mask, init, tol, max_iter):
    """The `Result` of tensors, by proximal gradient on their device."""
    import torch

    with torch.no_grad():
        codes = X.new_zeros((len(X), *operator.code_shape)) if init is None else init
        each = len(X) if X.device.type != "cpu" else max(1, CACHED_BYTES // (codes[0].numel() * codes.element_size()))
        parts = []
        for first in range(0, len(X), each):
            rows = slice(first, first + each)
            known = None if mask is None else mask.expand(X.shape)[rows]
            problem = Problem(X[rows], operator, alpha, penalty, known)
            parts.append(fista(problem, codes[rows], tol=tol, max_iter=max_iter))
        solved, *figures = zip(*parts, strict=True)
        return Result(torch.cat(solved), *map(np.concatenate, figures))

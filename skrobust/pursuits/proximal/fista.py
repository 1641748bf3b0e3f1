"""Accelerated proximal gradient with adaptive restart, for arrays and tensors, any operator and any penalty."""

import numpy as np

from skrobust.pursuits.result import Result
from skrobust.signals.arrays import by_sample, choose, ones_like_samples, row_index, sample_largest

from .momentum import next_momentum

CHECK_EVERY = 10
"""Iterations between two evaluations of the duality gap, which costs as much as an iteration."""


def fista(problem, codes, *, tol, max_iter):
    """Solve a batch; samples leave it when they have converged.

    The momentum of a sample restarts when it points uphill ([1]_, the gradient scheme).

    Parameters
    ----------
    problem : Problem
    codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``
        Starting point.
    tol : float
        Relative duality gap; 0: all `max_iter` steps, even if rounding makes the gap 0. For a penalty without known
        dual: largest change of a coefficient in one step, relative to the largest coefficient.
    max_iter : int

    Returns
    -------
    Result

    References
    ----------
    .. [1] B. O'Donoghue, E. Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 2015.
    """
    n_samples = len(codes)
    step = problem.operator.step
    solution = codes * 1
    gaps, objectives = np.empty(n_samples), np.empty(n_samples)
    n_iter, converged = np.zeros(n_samples, dtype=np.int64), np.zeros(n_samples, dtype=bool)
    active, dual_bounds, relative_change = np.arange(n_samples), np.zeros(n_samples), np.full(n_samples, np.inf)
    z, signals = codes, problem.synthesize(codes)
    y, extrapolated = z, signals
    t = ones_like_samples(codes)
    for iteration in range(max_iter + 1):
        is_last = iteration == max_iter
        if iteration % CHECK_EVERY == 0 or is_last:
            gap, objective = problem.gap(z, signals, dual_bounds, tol, is_last)
            done = (gap <= tol * objective) | (np.isnan(gap) & (relative_change <= tol))
            done &= (tol > 0) | is_last
            gaps[active], objectives[active], n_iter[active], converged[active] = gap, objective, iteration, done
            finished = done | is_last
            if finished.any():
                solution[row_index(active[finished], codes)] = z[row_index(finished, codes)]
                if finished.all():
                    break
                keep = row_index(~finished, codes)
                problem = problem.rows(keep)
                active, dual_bounds = active[~finished], dual_bounds[~finished]
                relative_change = relative_change[~finished]
                z, y, signals, extrapolated, t = z[keep], y[keep], signals[keep], extrapolated[keep], t[keep]
        new_codes = problem.prox(y + problem.analyze(problem.residual(extrapolated)) * step, step)
        if (iteration + 1) % CHECK_EVERY == 0 and np.isnan(gaps[active]).any():
            relative_change = _relative_change(y, new_codes)
        move = new_codes - z
        uphill = ((y - new_codes) * move).reshape(len(z), -1).sum(1) > 0
        t = choose(uphill, ones_like_samples(z), t)
        t, momentum = next_momentum(t)
        new_signals = problem.synthesize(new_codes)
        y = new_codes + by_sample(momentum, z) * move
        extrapolated = new_signals + by_sample(momentum, signals) * (new_signals - signals)
        z, signals = new_codes, new_signals
    return Result(solution, objectives, gaps, n_iter, converged)


def _relative_change(before, after):
    """Largest change of a coefficient relative to the largest coefficient, of each sample."""
    change, size = sample_largest(abs(after - before)), sample_largest(abs(after))
    relative = change / (size + (size == 0))
    return np.asarray(relative.detach().cpu() if hasattr(relative, "detach") else relative, dtype=np.float64)

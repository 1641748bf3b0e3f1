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
    solved = codes * 1
    gaps, objectives = np.empty(n_samples), np.empty(n_samples)
    counts, converged = np.zeros(n_samples, dtype=np.int64), np.zeros(n_samples, dtype=bool)
    left, bounds, moved = np.arange(n_samples), np.zeros(n_samples), np.full(n_samples, np.inf)
    z, signals = codes, problem.synthesize(codes)
    y, ahead = z, signals
    t = ones_like_samples(codes)
    for iteration in range(max_iter + 1):
        last = iteration == max_iter
        if iteration % CHECK_EVERY == 0 or last:
            gap, objective = problem.gap(z, signals, bounds, tol, last)
            done = (gap <= tol * objective) | (np.isnan(gap) & (moved <= tol))
            done &= (tol > 0) | last
            gaps[left], objectives[left], counts[left], converged[left] = gap, objective, iteration, done
            leaving = done | last
            if leaving.any():
                solved[row_index(left[leaving], codes)] = z[row_index(leaving, codes)]
                if leaving.all():
                    break
                keep = row_index(~leaving, codes)
                problem = problem.rows(keep)
                left, bounds, moved = left[~leaving], bounds[~leaving], moved[~leaving]
                z, y, signals, ahead, t = z[keep], y[keep], signals[keep], ahead[keep], t[keep]
        forward = problem.prox(y + problem.analyze(problem.residual(ahead)) * step, step)
        if (iteration + 1) % CHECK_EVERY == 0 and np.isnan(gaps[left]).any():
            moved = _relative_move(y, forward)
        move = forward - z
        uphill = ((y - forward) * move).reshape(len(z), -1).sum(1) > 0
        t = choose(uphill, ones_like_samples(z), t)
        t, momentum = next_momentum(t)
        reached = problem.synthesize(forward)
        y = forward + by_sample(momentum, z) * move
        ahead = reached + by_sample(momentum, signals) * (reached - signals)
        z, signals = forward, reached
    return Result(solved, objectives, gaps, counts, converged)


def _relative_move(before, after):
    """Largest change of a coefficient relative to the largest coefficient, of each sample."""
    change, size = sample_largest(abs(after - before)), sample_largest(abs(after))
    relative = change / (size + (size == 0))
    return np.asarray(relative.detach().cpu() if hasattr(relative, "detach") else relative, dtype=np.float64)

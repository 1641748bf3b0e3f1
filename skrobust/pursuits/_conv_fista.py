"""Accelerated proximal gradient with adaptive restart, for arrays and tensors, over any linear operator.

An operator has ``synthesize`` (codes to signals), ``analyze`` (its adjoint) and ``lipschitz`` (its squared norm).
"""

import numpy as np

from skrobust.signals import is_tensor

from ._conv_geometry import least_over_cover
from ._conv_operator import safe_step

CHECK_EVERY = 10
"""Iterations from one duality gap to the next."""

LOCAL_FROM = 20
"""Gaps up to so many times the wanted one are worth correlations more, of a residual scaled pixel by pixel."""


def shrink(values, thresholds, positive):
    """Soft thresholding; with `positive`, followed by the positive part."""
    if positive:
        return (values - thresholds).clip(0)
    return values - values.clip(-thresholds, thresholds)


class Problem:
    """min_z 1/2 ||mask (x - D z)||^2 + alpha sum_k w_k ||z_k||_1 for a batch, with its duality gap.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        Zero where masked.
    operator : object with synthesize, analyze and lipschitz
    penalties : ndarray or Tensor that broadcasts over codes
        alpha * w.
    mask : ndarray, Tensor or None
        Of the shape of X.
    positive : bool
    geometry : ConvolutionGeometry or None, default=None
        Where the atoms of a convolutional operator lie: its residuals are scaled pixel by pixel, too.
    """

    def __init__(self, X, operator, penalties, mask, positive, geometry=None):
        self.X, self.operator, self.penalties = X, operator, penalties
        self.mask, self.positive, self.geometry = mask, positive, geometry

    def rows(self, keep):
        """The problem of some samples."""
        return Problem(
            self.X[keep],
            self.operator,
            self.penalties,
            None if self.mask is None else self.mask[keep],
            self.positive,
            self.geometry,
        )

    def residual(self, signals):
        """What signals leave of X."""
        left = self.X - signals
        return left if self.mask is None else left * self.mask

    def objective(self, codes, residual):
        """Objective of each sample."""
        return sums_of_samples(residual * residual) / 2 + sums_of_samples(abs(codes) * self.penalties)

    def gap(self, codes, signals, bounds, tol, last):
        """Duality gap and objective of each sample.

        Parameters
        ----------
        codes, signals : ndarray or Tensor
        bounds : ndarray of shape (n_samples,)
            Largest lower bound on the objective so far; raised.
        tol : float
        last : bool
            Whether no other gap will follow.
        """
        residual = self.residual(signals)
        correlations = self.relative_correlations(residual)
        objective = self.objective(codes, residual)
        np.maximum(bounds, self.dual_value(residual, correlations), out=bounds)
        gap = (objective - bounds).clip(0)
        if self.geometry is not None:
            near = np.flatnonzero((gap > tol * objective) & ((gap <= LOCAL_FROM * tol * objective) | last))
            if len(near):
                part = self.rows(_index(near, codes))
                kept = _index(near, codes)
                scales = least_over_cover(1 / _most_of_atoms(correlations[kept]).clip(1, None), self.geometry)
                point = residual[kept] * scales[..., None]
                value = part.dual_value(point, part.relative_correlations(point))
                bounds[near] = np.maximum(bounds[near], value)
                gap = (objective - bounds).clip(0)
        return gap, objective

    def relative_correlations(self, points):
        """Correlations with all atoms, relative to their penalties; their magnitudes where codes may be negative."""
        with np.errstate(over="ignore"):  # infinity: no multiple of the point is feasible but zero
            correlations = self.operator.analyze(points) / self.penalties
        return correlations if self.positive else abs(correlations)

    def dual_value(self, points, correlations):
        """Lower bounds on the objective by points scaled to be feasible and, within that, best."""
        top, squares, products = (
            largest_of_samples(correlations),
            sums_of_samples(points * points),
            sums_of_samples(points * self.X),
        )
        tiny = np.finfo(np.float64).tiny
        scale = np.minimum(products / np.maximum(squares, tiny), 1 / np.maximum(top, tiny)).clip(0)
        return scale * products - scale * scale * squares / 2


def fista(problem, codes, *, tol, max_iter):
    """Solve a batch; samples leave it as their relative duality gap falls to `tol`.

    The momentum of a sample starts anew where it points uphill ([1]_, the gradient scheme).

    Parameters
    ----------
    problem : Problem
    codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``
        Where to begin.
    tol : float
        0: all `max_iter` steps, even where rounding makes the gap 0.
    max_iter : int

    Returns
    -------
    codes : ndarray or Tensor
    gaps, objectives, n_iter : ndarray of shape (n_samples,)

    References
    ----------
    .. [1] B. O'Donoghue, E. Candes, "Adaptive restart for accelerated gradient schemes", Found. Comput. Math. 2015.
    """
    n_samples = len(codes)
    operator = problem.operator
    step = safe_step(operator.lipschitz)
    thresholds = problem.penalties * step
    per_sample = (-1, *[1] * (codes.ndim - 1))
    per_signal = (-1, *[1] * (problem.X.ndim - 1))
    solved = codes * 1
    gaps, objectives, counts = np.empty(n_samples), np.empty(n_samples), np.zeros(n_samples, dtype=np.int64)
    left, bounds = np.arange(n_samples), np.zeros(n_samples)
    z, signals = codes, operator.synthesize(codes)
    y, ahead = z, signals
    t = _ones(codes, n_samples)
    for iteration in range(max_iter + 1):
        if iteration % CHECK_EVERY == 0 or iteration == max_iter:
            gap, objective = problem.gap(z, signals, bounds, tol, iteration == max_iter)
            gaps[left], objectives[left], counts[left] = gap, objective, iteration
            going = ~(gap <= tol * objective)
            going[:] = (going | (tol == 0)) & (iteration < max_iter)
            if not going.all():
                solved[_index(left[~going], codes)] = z[_index(~going, codes)]
                if not going.any():
                    break
                keep = _index(going, codes)
                problem, left, bounds = problem.rows(keep), left[going], bounds[going]
                z, y, signals, ahead, t = z[keep], y[keep], signals[keep], ahead[keep], t[keep]
        forward = shrink(y + operator.analyze(problem.residual(ahead)) * step, thresholds, problem.positive)
        move = forward - z
        uphill = _inner(y - forward, move) > 0
        t = _where(uphill, _ones(t, len(t)), t)
        later = (1 + (1 + 4 * t * t) ** 0.5) / 2
        momentum = _where(uphill, 0 * t, (t - 1) / later)
        reached = operator.synthesize(forward)
        y = forward + momentum.reshape(per_sample) * move
        ahead = reached + momentum.reshape(per_signal) * (reached - signals)
        z, signals, t = forward, reached, later
    return solved, gaps, objectives, counts


def sums_of_samples(values):
    """Sum of each sample in double precision, as an array."""
    flat = values.reshape(len(values), -1)
    if is_tensor(flat):
        return flat.detach().double().sum(1).cpu().numpy()
    return flat.sum(axis=1, dtype=np.float64)


def largest_of_samples(values):
    flat = values.reshape(len(values), -1)
    if is_tensor(flat):
        return flat.detach().amax(1).double().cpu().numpy()
    return flat.max(axis=1).astype(np.float64)


def _most_of_atoms(values):
    """Largest value over the atoms at each position."""
    return values.amax(-1) if is_tensor(values) else values.max(axis=-1)


def _inner(a, b):
    return (a * b).reshape(len(a), -1).sum(1)


def _ones(like, n):
    return like.new_ones(n) if is_tensor(like) else np.ones(n, dtype=like.dtype)


def _where(condition, a, b):
    if is_tensor(a):
        return a.where(condition, b)
    return np.where(condition, a, b)


def _index(rows, like):
    """An index or mask of samples that `like` takes."""
    if not is_tensor(like):
        return rows
    import torch

    return torch.as_tensor(rows, device=like.device)

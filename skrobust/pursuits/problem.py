"""A penalised least-squares problem for a batch of signals, and its duality gap."""

import numpy as np

from skrobust.operators.conv.geometry import least_over_cover
from skrobust.signals import is_tensor
from skrobust.signals.arrays import as_array, by_sample, choose, row_index, sample_sums

LOCAL_SCALING_FROM = 20
"""Try per-pixel dual scaling once gap <= this multiple of the wanted gap: it costs one more analysis."""


class Problem:
    """``min_z 1/2 ||mask (x - D z)||^2 + alpha g(z)`` for each of a batch of signals.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        0 where masked.
    operator : Operator
    alpha : float or ndarray of shape (n_samples,)
        > 0.
    penalty : Penalty
    mask : ndarray, Tensor or None, default=None
        0 and 1, broadcast to the shape of X.
    n_jobs : int or None, default=None
        Threads of the operator.
    """

    def __init__(self, X, operator, alpha, penalty, mask=None, n_jobs=None):
        self.X, self.operator, self.alpha, self.penalty = X, operator, alpha, penalty
        self.mask, self.n_jobs = mask, n_jobs

    def rows(self, keep):
        """The problem of some samples."""
        mask = None if self.mask is None else self.mask[keep]
        alpha = self.alpha
        if np.ndim(alpha):  # an array, whatever X is
            alpha = alpha[keep.cpu().numpy() if is_tensor(keep) else keep]
        return Problem(self.X[keep], self.operator, alpha, self.penalty, mask, self.n_jobs)

    def synthesize(self, codes):
        """Signals of codes."""
        return self.operator.synthesize(codes, n_jobs=self.n_jobs)

    def analyze(self, signals):
        """Correlations of signals with all atoms."""
        return self.operator.analyze(signals, n_jobs=self.n_jobs)

    def residual(self, signals):
        """``mask (x - signals)``."""
        residual = self.X - signals
        return residual if self.mask is None else residual * self.mask

    def prox(self, values, step):
        """Proximal operator of ``step alpha g``."""
        return self.penalty.prox(values, by_sample(step * self.alpha, values))

    def objective(self, codes, residual):
        """Objective of each sample, float64."""
        return as_array(sample_sums(residual * residual)) / 2 + self.alpha * as_array(self.penalty.value(codes))

    def gap(self, codes, signals, bounds, tol, last):
        """Duality gap and objective of each sample.

        Parameters
        ----------
        codes, signals : ndarray or Tensor
        bounds : ndarray of shape (n_samples,)
            Largest lower bound on the objective so far; raised.
        tol : float
            Wanted relative gap.
        last : bool
            Whether this is the last call: then the sharper, more expensive bound is always tried.

        Returns
        -------
        gap, objective : ndarray of shape (n_samples,)
            gap is NaN where the penalty has no known dual.
        """
        residual = self.residual(signals)
        objective = self.objective(codes, residual)
        correlations = self.analyze(residual)
        bound = self.dual_value(residual, correlations)
        if bound is None:
            return np.full(len(objective), np.nan), objective
        np.maximum(bounds, bound, out=bounds)
        gap = (objective - bounds).clip(0)
        near = np.flatnonzero((gap > tol * objective) & ((gap <= LOCAL_SCALING_FROM * tol * objective) | last))
        if len(near):
            at = row_index(near, codes)
            part = self.rows(at)
            point = part.locally_scaled(residual[at], correlations[at])
            if point is not None:
                bounds[near] = np.maximum(bounds[near], part.dual_value(point, part.analyze(point)))
                gap = (objective - bounds).clip(0)
        return gap, objective

    def dual_value(self, points, correlations):
        """Lower bound on each objective by a multiple of `points` that is feasible and, among these, best.

        The dual problem is ``max_u <u, x> - 1/2 ||u||^2 - (alpha g)*(D^T u)``. For a norm g the last term is 0 where
        the dual norm of ``D^T u`` is at most alpha, and infinite elsewhere.

        Returns
        -------
        ndarray of shape (n_samples,), or None if the penalty has no known dual
        """
        squares, products = as_array(sample_sums(points * points)), as_array(sample_sums(points * self.X))
        top = self.penalty.dual_norm(correlations)
        if top is None:
            conjugate = self.penalty.conjugate(correlations, self.alpha)
            return None if conjugate is None else products - squares / 2 - as_array(conjugate)
        with np.errstate(over="ignore"):  # infinity: no multiple of the point but 0 is feasible
            relative = as_array(top) / self.alpha
        return best_scaled_dual(products, squares, relative)

    def locally_scaled(self, residual, correlations):
        """The residual scaled pixel by pixel so that fewer atoms are too correlated, or None."""
        geometry = getattr(self.operator, "geometry", None)
        local = None if geometry is None else self.penalty.local_dual_norm(correlations)
        if local is None:
            return None
        relative = local / by_sample(self.alpha, local)
        return residual * least_over_cover(1 / relative.clip(1, None), geometry)[..., None]


def best_scaled_dual(products, squares, top):
    """Largest dual value over the feasible multiples of a point.

    `products` are inner products of the point with the signal, `squares` its squared norms, `top` the dual norms of its
    correlations relative to the penalty; a multiple s is feasible if ``s * top <= 1``.
    """
    tiny = np.finfo(np.float64).tiny
    unbounded, most = products / squares.clip(tiny), 1 / top.clip(tiny)
    scale = choose(unbounded < most, unbounded, most).clip(0)
    return scale * products - scale * scale * squares / 2

"""Alternating direction method of multipliers in the frequency domain, for small penalties.

There codes have nearly as many coefficients as the signal has values, and first-order methods stall. The problem ::

    min 1/2 ||mask (x - v)||^2 + sum_k alpha_k ||u_k||_1    subject to  u = z,  v = D z

has variables on a grid on which nothing wraps that should not; values beyond the signal count as masked ([1]_). The
step in z is a system of n_channels equations at each frequency; the others are pixel by pixel. All in double precision:
residuals are of the size of the penalty.

References
----------
.. [1] B. Wohlberg, "Boundary handling for convolutional sparse representations", ICIP 2016.
"""

import numpy as np
from scipy import fft

from skrobust.signals import allowed_threads

from ._conv_fista import CHECK_EVERY, largest_of_samples, shrink, sums_of_samples

RELAXATION = 1.8
"""Over-relaxation; values of 1.5 to 1.8 are usual."""

FIRST_RHO = 30.0
"""Weight of u = z at the start, times the penalty as a share of the largest one and the squared norm of an atom."""

UNEVEN, MOST_CHANGE = 2.0, 10.0
"""Ratio of the relative residuals, primal and dual, from which rho changes, and by how much at most."""


class _Splitting:
    """Variables of a batch: u and v, scaled multipliers of both constraints, and their weights, one a sample."""

    def __init__(self, problem, spectrum, codes):
        self.problem, self.spectrum = problem, spectrum
        geometry = spectrum.geometry
        self.inside = (slice(None), *(slice(o, o + n) for o, n in zip(geometry.offset, geometry.grid, strict=True)))
        self.lattice = (slice(None), *spectrum.lattice())
        # Signals of frequencies are codes of frequencies times this, row by row.
        self.synthesis = np.ascontiguousarray(np.moveaxis(spectrum.transfer, 0, -2))
        self.analysis = np.ascontiguousarray(self.synthesis.conj().swapaxes(-1, -2))
        self.eigenvalues, self.basis = np.linalg.eigh(self.analysis @ self.synthesis)
        n = len(codes)
        self.x = np.zeros((n, *spectrum.size, problem.X.shape[-1]))
        self.known = np.zeros_like(self.x)
        self.x[self.inside] = problem.X
        self.known[self.inside] = 1 if problem.mask is None else problem.mask
        self.may_differ = np.zeros((*spectrum.size, 1), dtype=bool)
        self.may_differ[self.lattice[1:]] = True
        correlations = problem.relative_correlations(problem.X)
        share = (1 / np.maximum(largest_of_samples(correlations), 1)).reshape(-1, *[1] * (codes.ndim - 1))
        norm = float((self.synthesis.real**2 + self.synthesis.imag**2).mean() * problem.X.shape[-1])
        self.rho, self.sigma = FIRST_RHO * share * norm, np.sqrt(share)
        self.u = np.zeros((n, *spectrum.size, codes.shape[-1]))
        self.u[self.lattice] = codes
        signals = self._back(self._forward(self.u) @ self.synthesis)
        self.v = np.where(self.known > 0, self.x, signals)
        # As if the codes were nearly a solution, where they are more than zeros.
        slopes = self._back(self._forward(self.known * (self.x - signals)) @ self.analysis)
        limits = problem.penalties
        self.y = slopes.clip(0 * limits if problem.positive else -limits, limits) / self.rho
        self.y[~codes.reshape(n, -1).any(axis=1)] = 0
        self.w = np.zeros_like(self.v)

    _OF_SAMPLES = ("x", "known", "u", "v", "y", "w", "rho", "sigma")

    def keep(self, going):
        """Go on with some of the samples."""
        self.problem = self.problem.rows(going)
        for name in self._OF_SAMPLES:
            setattr(self, name, getattr(self, name)[going])

    def _forward(self, values):
        return np.moveaxis(fft.rfftn(values, axes=self.spectrum.axes, workers=allowed_threads()), 0, -2)

    def _back(self, frequencies):
        moved = np.moveaxis(frequencies, -2, 0)
        return fft.irfftn(moved, self.spectrum.size, self.spectrum.axes, workers=allowed_threads())

    def step(self):
        """One iteration; leaves the primal and the dual residual of u = z, relative, to `balance`."""
        ratio = (self.rho / self.sigma).reshape(-1, 1)
        near = self._forward(self.u - self.y)
        left = self._forward(self.v - self.w) - near @ self.synthesis
        left = (left @ self.basis) / (ratio + self.eigenvalues[..., None, :])
        frequencies = near + (left @ self.basis.conj().swapaxes(-1, -2)) @ self.analysis
        z, signals = self._back(frequencies), self._back(frequencies @ self.synthesis)
        relaxed = RELAXATION * z + (1 - RELAXATION) * self.u
        u = shrink(relaxed + self.y, self.problem.penalties / self.rho, self.problem.positive) * self.may_differ
        self.y += relaxed - u
        self.residuals = z - u, u - self.u
        self.u, self.z = u, z
        relaxed = RELAXATION * signals + (1 - RELAXATION) * self.v
        self.v = (self.known * self.x + self.sigma * (relaxed + self.w)) / (self.known + self.sigma)
        self.w += relaxed - self.v

    def balance(self):
        """Change rho where one of the relative residuals is much larger than the other."""
        primal, dual = (np.sqrt(sums_of_samples(values * values)) for values in self.residuals)
        size = np.sqrt(np.maximum(sums_of_samples(self.z * self.z), sums_of_samples(self.u * self.u)))
        tiny = np.finfo(np.float64).tiny
        primal, dual = (
            primal / np.maximum(size, tiny),
            dual / np.maximum(np.sqrt(sums_of_samples(self.y * self.y)), tiny),
        )
        change = np.sqrt(np.maximum(primal, tiny) / np.maximum(dual, tiny)).clip(1 / MOST_CHANGE, MOST_CHANGE)
        change = np.where((change > UNEVEN) | (change < 1 / UNEVEN), change, 1).reshape(self.rho.shape)
        self.rho = self.rho * change
        self.y /= change

    def codes(self):
        return self.u[self.lattice]

    def dual_point(self):
        """What v leaves of the signal: nearly feasible, for its correlations are the multipliers of u = z."""
        return (self.known * (self.x - self.v))[self.inside]


def admm(problem, spectrum, codes, *, tol, max_iter):
    """Solve a batch; samples leave it as their relative duality gap falls to `tol`.

    Parameters
    ----------
    problem : Problem
        In double precision; its operator is not used but for gaps.
    spectrum : Spectrum
        Of the same dictionary.
    codes : ndarray of shape ``(n_samples, *code_shape)``
        Where to begin.
    tol : float
        0: all `max_iter` iterations.
    max_iter : int

    Returns
    -------
    codes : ndarray
        Those of the least objective met.
    gaps, objectives, n_iter : ndarray of shape (n_samples,)
    """
    n_samples = len(codes)
    solved, best = np.array(codes, dtype=np.float64), np.full(n_samples, np.inf)
    gaps, counts = np.empty(n_samples), np.zeros(n_samples, dtype=np.int64)
    state = _Splitting(problem, spectrum, solved)
    left, bounds, next_balance = np.arange(n_samples), np.zeros(n_samples), CHECK_EVERY
    for iteration in range(max_iter + 1):
        if iteration:
            state.step()
        if iteration == next_balance:  # ever more seldom, or it might never settle
            state.balance()
            next_balance *= 2
        if iteration % CHECK_EVERY == 0 or iteration == max_iter:
            found, last = state.codes(), iteration == max_iter
            if iteration:
                point = state.dual_point()
                value = state.problem.dual_value(point, state.problem.relative_correlations(point))
                np.maximum(bounds, value, out=bounds)
            _, objective = state.problem.gap(found, problem.operator.synthesize(found), bounds, tol, last)
            better = objective < best[left]
            solved[left[better]], best[left[better]] = found[better], objective[better]
            gaps[left], counts[left] = (best[left] - bounds).clip(0), iteration
            going = ((gaps[left] > tol * best[left]) | (tol == 0)) & (not last)
            if not going.any():
                break
            if not going.all():
                left, bounds = left[going], bounds[going]
                state.keep(going)
    return solved, gaps, best, counts

"""Alternating direction method of multipliers in the frequency domain, for small penalties.

At small penalties codes have nearly as many coefficients as the signal has values, and first-order methods stall. The
problem ::

    min 1/2 ||mask (x - v)||^2 + sum_k alpha_k ||u_k||_1    subject to  u = z,  v = D z

is solved on a padded grid, with values beyond the signal masked ([1]_). The step in z is a system of n_channels
equations at each frequency; the others act pixel by pixel. Double precision is needed, because residuals are of the
size of the penalty.

References
----------
.. [1] B. Wohlberg, "Boundary handling for convolutional sparse representations", ICIP 2016.
"""

import numpy as np
from scipy import fft

from skrobust.pursuits.proximal.fista import CHECK_EVERY
from skrobust.pursuits.result import Result
from skrobust.signals import allowed_threads
from skrobust.signals.arrays import sample_sums

RELAXATION = 1.8
"""Over-relaxation factor; 1.5 to 1.8 are usual."""

FIRST_RHO = 30.0
"""Initial rho of u = z, in units of alpha / alpha_max times the squared norm of an atom."""

UNEVEN, MOST_CHANGE = 2.0, 10.0
"""Ratio of the relative primal and dual residuals above which rho changes, and the largest factor of a change."""


class _Splitting:
    """Variables of a batch: u and v, scaled multipliers of both constraints, and rho of each sample."""

    def __init__(self, problem, codes):
        self.problem = problem
        self.spectrum = spectrum = problem.operator.spectrum(np.float64)
        geometry = spectrum.geometry
        self.inside = (slice(None), *(slice(o, o + n) for o, n in zip(geometry.offset, geometry.grid, strict=True)))
        self.lattice = (slice(None), *spectrum.lattice())
        # Transfer functions: the spectrum of a signal is that of its code times this, frequency by frequency.
        self.synthesis = spectrum.transfer
        self.analysis = np.ascontiguousarray(self.synthesis.conj().swapaxes(-1, -2))
        self.eigenvalues, self.basis = np.linalg.eigh(self.analysis @ self.synthesis)
        n = len(codes)
        self.x = np.zeros((n, *spectrum.size, problem.X.shape[-1]))
        self.known = np.zeros_like(self.x)
        self.x[self.inside] = problem.X
        self.known[self.inside] = 1 if problem.mask is None else problem.mask
        top = problem.penalty.dual_norm(problem.analyze(problem.X))
        share = (1 / np.maximum(top / problem.alpha, 1)).reshape(-1, *[1] * (codes.ndim - 1))
        norm = float((self.synthesis.real**2 + self.synthesis.imag**2).mean() * problem.X.shape[-1])
        self.rho, self.sigma = FIRST_RHO * share * norm, np.sqrt(share)
        self.u = np.zeros((n, *spectrum.size, codes.shape[-1]))
        self.u[self.lattice] = codes
        signals = self._back(self._forward(self.u) @ self.synthesis)
        self.v = np.where(self.known > 0, self.x, signals)
        # Warm start of the multipliers, unless the codes are zero.
        slopes = self._back(self._forward(self.known * (self.x - signals)) @ self.analysis)
        self.y = (slopes - self._prox(slopes, 1.0)) / self.rho  # the nearest feasible multipliers (Moreau)
        self.y[~codes.reshape(n, -1).any(axis=1)] = 0
        self.w = np.zeros_like(self.v)

    _OF_SAMPLES = ("x", "known", "u", "v", "y", "w", "rho", "sigma")

    def keep(self, going):
        """Keep some of the samples."""
        self.problem = self.problem.rows(going)
        for name in self._OF_SAMPLES:
            setattr(self, name, getattr(self, name)[going])

    def _forward(self, values):
        return np.moveaxis(fft.rfftn(values, axes=self.spectrum.axes, workers=allowed_threads()), 0, -2)

    def _back(self, frequencies):
        moved = np.moveaxis(frequencies, -2, 0)
        return fft.irfftn(moved, self.spectrum.size, self.spectrum.axes, workers=allowed_threads())

    def _prox(self, values, step):
        """Proximal operator of the penalty on the grid of the codes only, as its weights may differ by position."""
        moved = np.zeros_like(values)
        moved[self.lattice] = self.problem.penalty.prox(values[self.lattice], step * self.problem.alpha)
        return moved

    def step(self):
        """One iteration; returns the relative primal and dual residuals of u = z for `balance`."""
        ratio = (self.rho / self.sigma).reshape(-1, 1)
        near = self._forward(self.u - self.y)
        left = self._forward(self.v - self.w) - near @ self.synthesis
        left = (left @ self.basis) / (ratio + self.eigenvalues[..., None, :])
        frequencies = near + (left @ self.basis.conj().swapaxes(-1, -2)) @ self.analysis
        z, signals = self._back(frequencies), self._back(frequencies @ self.synthesis)
        relaxed = RELAXATION * z + (1 - RELAXATION) * self.u
        u = self._prox(relaxed + self.y, 1 / self.rho)
        self.y += relaxed - u
        self.residuals = z - u, u - self.u
        self.u, self.z = u, z
        relaxed = RELAXATION * signals + (1 - RELAXATION) * self.v
        self.v = (self.known * self.x + self.sigma * (relaxed + self.w)) / (self.known + self.sigma)
        self.w += relaxed - self.v

    def balance(self):
        """Change rho of samples with one relative residual much larger than the other."""
        primal, dual = (np.sqrt(sample_sums(values * values)) for values in self.residuals)
        size = np.sqrt(np.maximum(sample_sums(self.z * self.z), sample_sums(self.u * self.u)))
        tiny = np.finfo(np.float64).tiny
        primal, dual = (
            primal / np.maximum(size, tiny),
            dual / np.maximum(np.sqrt(sample_sums(self.y * self.y)), tiny),
        )
        change = np.sqrt(np.maximum(primal, tiny) / np.maximum(dual, tiny)).clip(1 / MOST_CHANGE, MOST_CHANGE)
        change = np.where((change > UNEVEN) | (change < 1 / UNEVEN), change, 1).reshape(self.rho.shape)
        self.rho = self.rho * change
        self.y /= change

    def codes(self):
        return self.u[self.lattice]

    def dual_point(self):
        """Residual of v. It is nearly dual feasible, since its correlations are the multipliers of u = z."""
        return (self.known * (self.x - self.v))[self.inside]


def admm(problem, codes, *, tol, max_iter):
    """Solve a batch from `codes` on; samples leave it when their relative duality gap reaches `tol`, with 0 after all
    iterations.

    The problem is in double precision, with a convolutional operator and a penalty that is a norm. The result has the
    codes of the smallest objective of all iterations.
    """
    n_samples = len(codes)
    solved, best = np.array(codes, dtype=np.float64), np.full(n_samples, np.inf)
    gaps, counts = np.empty(n_samples), np.zeros(n_samples, dtype=np.int64)
    state = _Splitting(problem, solved)
    left, bounds, next_balance = np.arange(n_samples), np.zeros(n_samples), CHECK_EVERY
    for iteration in range(max_iter + 1):
        if iteration:
            state.step()
        if iteration == next_balance:  # at growing intervals, so that rho converges
            state.balance()
            next_balance *= 2
        if iteration % CHECK_EVERY == 0 or iteration == max_iter:
            found, last = state.codes(), iteration == max_iter
            if iteration:
                point = state.dual_point()
                value = state.problem.dual_value(point, state.problem.analyze(point))
                np.maximum(bounds, value, out=bounds)
            _, objective = state.problem.gap(found, problem.synthesize(found), bounds, tol, last)
            better = objective < best[left]
            solved[left[better]], best[left[better]] = found[better], objective[better]
            gaps[left], counts[left] = (best[left] - bounds).clip(0), iteration
            going = ((gaps[left] > tol * best[left]) | (tol == 0)) & (not last)
            if not going.any():
                break
            if not going.all():
                left, bounds = left[going], bounds[going]
                state.keep(going)
    return Result(solved, best, gaps, counts, gaps <= tol * best)

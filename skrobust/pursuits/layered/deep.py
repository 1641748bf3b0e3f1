"""Deep pursuit: the codes of all layers at once, by block coordinate descent with feedback and extrapolation."""

import contextlib

import numpy as np

from skrobust.operators.base import safe_step
from skrobust.operators.layered.dictionary import analyze, stack, synthesize
from skrobust.operators.layered.kernels import extrapolate, half_squares_and_penalties
from skrobust.pursuits.penalties.l1 import L1, is_plain_l1
from skrobust.pursuits.penalties.layers import OverLayers
from skrobust.pursuits.problem import Problem, best_scaled_dual
from skrobust.pursuits.proximal.fista import CHECK_EVERY, fista
from skrobust.pursuits.proximal.momentum import next_momentum
from skrobust.pursuits.proximal.segments import in_segments
from skrobust.pursuits.proximal.steps import proximal_step, proximal_steps
from skrobust.pursuits.result import Result, warn_if_not_converged
from skrobust.pursuits.units import in_units
from skrobust.signals import documented_like, is_tensor, times_power
from skrobust.signals.arrays import as_array, by_sample, choose, row_index, sample_sums

from .cascade import (
    checked_input,
    layered_basis_pursuit,
    layered_thresholding,
    penalties_per_layer,
    penalty_value,
    per_layer,
)

MAX_MOMENTUM = 0.9999
"""Upper bound on the momentum, as usual in block proximal gradient."""


@documented_like(layered_basis_pursuit)
def deep_pursuit(
    X,
    layers,
    alpha,
    *,
    penalty="l1",
    positive=True,
    max_iter=20,
    tol=None,
    step=None,
    extrapolate=True,
    init=None,
    return_result=False,
    n_jobs=None,
):
    """Codes of all layers that together minimise one objective.

    ::

        1/2 sum_j ||t_j - B_j w_j||^2 + sum_j alpha_j ||w_j||_1 ,    t_j = w_{j-1} + sum_{k < j-1} C_jk w_k ,

    the LASSO over the structured dictionary of `LayeredDictionary` (eq. 11 and 16 of [1]_). A sweep updates the layers
    in turn, each by a proximal gradient step from its extrapolation (eq. 13 to 15, with the ``+ w`` that eq. 14 lacks
    and the threshold of eq. 13 scaled by the step), so that every layer is influenced by those above it. With
    ``step=None`` steps are the inverses of block Lipschitz constants and the objective never increases: where
    extrapolation would increase it, the sample keeps its codes and restarts its momentum.

    Other penalties g_j replace the l1 norms: one for each layer, or `GroupL1` with ``over="layers"``, whose groups
    contain atoms of all layers. The latter is solved by proximal gradient steps for all layers at once
    (`skrobust.pursuits.fista`), since updating the layers in turn would get stuck where a group is zero.

    Parameters
    ----------
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, or list with one per layer, default="l1"
        See `skrobust.pursuits.Penalty`. A duality gap needs their `dual_norm` or `conjugate`.
    max_iter : int, default=20
        Number of sweeps; with `tol` the maximum. 0 gives the codes of `layered_thresholding`.
    tol : float or None, default=None
        Relative duality gap of the whole problem. None: exactly `max_iter` sweeps, differentiable for tensors.
    step : float, sequence with one per layer, or None, default=None
        None: the inverse of `LayeredDictionary.block_lipschitz`. Given steps, such as the paper's ``1 / (beta_j L_j)``
        with learned beta, may be too long to guarantee descent; the objective is then not checked. Not used with
        ``over="layers"``.
    extrapolate : bool, default=True
    init : list of ndarray or Tensor, or None, default=None
        Initial codes; None: those of `layered_thresholding`.
    return_result : bool, default=False
        Whether to return a `Result`: objectives, with `tol` duality gaps, and sweeps.

    Returns
    -------
    list of ndarray or Tensor, ``(n_samples, *code_shape)`` each, or Result

    References
    ----------
    .. [1] G. Cazenavette, C. Murdock, S. Lucey, "Architectural adversarial robustness: the case for deep pursuit",
       CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> from skrobust.pursuits import deep_pursuit
    >>> rng = np.random.default_rng(0)
    >>> first = ConvolutionalOperator(rng.normal(size=(3, 2, 1)), (6, 1), padding="valid")
    >>> second = ConvolutionalOperator(rng.normal(size=(4, 2, 3)), first.code_shape, padding="valid")
    >>> X = rng.normal(size=(5, 6, 1))
    >>> result = deep_pursuit(X, LayeredDictionary([first, second]), 0.1, tol=1e-6, max_iter=5000, return_result=True)
    >>> bool((result.gap <= 1e-6 * result.objective).all())
    True
    """
    X = checked_input(X, layers, max_iter, tol)
    alphas = per_layer("alpha", alpha, layers, X)
    penalties = penalties_per_layer(penalty, positive, layers, alphas, is_joint=True)
    has_safe_steps = step is None
    if has_safe_steps:
        steps = [safe_step(layers.block_lipschitz(j)) for j in range(layers.n_layers)]
    else:
        steps = per_layer("step", step, layers, X, of_components=False)
    if tol is not None and any((as_array(alpha) <= 0).any() for alpha in alphas):
        raise ValueError("alpha must be > 0 in every layer to reach a duality gap. Use tol=None for fixed sweeps.")

    is_joint = isinstance(penalties, OverLayers)

    def solve(X, alphas, init):
        if is_joint:
            options = {"tol": tol, "max_iter": max_iter, "momentum": extrapolate, "n_jobs": n_jobs}
            return _solve_jointly(X, layers, alphas[0], penalties, init, **options)
        if init is None:
            init = layered_thresholding(X, layers, alphas, penalty=penalties, positive=positive, n_jobs=n_jobs)
        state = _State(X, layers, alphas, penalties, steps, init, extrapolate, has_safe_steps, n_jobs)
        if tol is not None:
            return _to_gap(state, tol, max_iter)
        state.sweep(max_iter, is_final=not return_result)
        if not return_result:
            return Result(state.codes, None, None, None, None)
        return Result(state.codes, as_array(state.final_objective()), None, np.full(len(X), max_iter), None)

    if is_tensor(X) and tol is None:  # no control flow may depend on values during tracing
        result = solve(X, alphas, init)
        return result if return_result else result.codes

    def solve_rows(values, exponent, rows):
        scaled = [times_power(alpha, -exponent) for alpha in alphas]
        return solve(values, scaled, None if init is None else [times_power(w[rows], -exponent) for w in init])

    is_norm = penalties.is_norm if is_joint else all(one.is_norm for one in penalties)
    result = in_units(solve_rows, X) if is_norm else solve(X, alphas, init)
    return result if return_result else result.codes


def _solve_jointly(X, layers, alpha, penalty, init, *, tol, max_iter, momentum, n_jobs):
    """The `Result` for a penalty that couples the layers, by proximal gradient steps for all of them."""
    signals, alpha = layers.stacked_signals(X), float(alpha)
    codes = penalty.prox(layers.analyze(signals, n_jobs=n_jobs), alpha) if init is None else stack(init)
    if tol is None:
        codes = proximal_steps(signals, layers, alpha, penalty, codes, layers.step, max_iter, momentum, n_jobs)
    problem = Problem(signals, layers, alpha, penalty, n_jobs=n_jobs)
    if tol is None:
        objective = problem.objective(codes, problem.residual(problem.synthesize(codes)))
        return Result(layers.split(codes), objective, None, np.full(len(X), max_iter), None)
    result = fista(problem, codes, tol=tol, max_iter=max_iter)
    warn_if_not_converged(result, tol, max_iter)
    return result._replace(codes=layers.split(result.codes))


class _State:
    """State of a batch: codes, their syntheses, and the extrapolated points of both."""

    def __init__(self, X, layers, alphas, penalties, steps, codes, extrapolate, has_safe_steps, n_jobs):
        self.X, self.layers, self.alphas, self.penalties, self.steps = X, layers, alphas, penalties, steps
        self.extrapolate, self.n_jobs = extrapolate, n_jobs
        self.thresholds = [step * alpha for step, alpha in zip(steps, alphas, strict=True)]
        self.above = [
            {j + 1} & set(range(layers.n_layers)) | {to for to, source in layers.skips if source == j}
            for j in range(layers.n_layers)
        ]
        self.is_monitored = extrapolate and has_safe_steps
        self.rounding = 4 * float(np.finfo(str(X.dtype).removeprefix("torch.")).eps)
        self.codes = list(codes)
        self.syntheses = [
            synthesize(operator, w, n_jobs) for operator, w in zip(layers.operators, self.codes, strict=True)
        ]
        self.extrapolated, self.extrapolated_syntheses = self.codes, self.syntheses
        self.objective, self.t = None, 1.0
        if self.is_monitored:
            # Momentum restarts per sample.
            self.objective = self._objective(self.codes, self.syntheses)
            self.t = X.new_ones(X.shape[0]) if is_tensor(X) else np.ones(len(X), dtype=X.dtype)

    def residuals(self):
        return [self.layers.target(j, self.X, self.codes) - s for j, s in enumerate(self.syntheses)]

    def sweep(self, n_sweeps, *, is_final=False):
        """Run `n_sweeps`; `is_final`: no sweeps follow, so that the last one skips the syntheses."""
        n_full = n_sweeps - 1 if is_final and n_sweeps and not self.is_monitored else n_sweeps
        state = self.codes, self.syntheses, self.extrapolated, self.extrapolated_syntheses, self.t, self.objective
        atoms = [operator.components for operator in self.layers.operators]
        state = in_segments(self._advance, state, n_full, self.X, atoms, self.thresholds, self.steps)
        if n_full < n_sweeps:
            state = self._sweep(*state, is_last=True)
        self.codes, self.syntheses, self.extrapolated, self.extrapolated_syntheses, self.t, self.objective = state

    def _advance(self, begin, n_sweeps, state):
        for _ in range(n_sweeps):
            state = self._sweep(*state)
        return state

    def _sweep(self, old_codes, old_syntheses, extrapolated, extrapolated_syntheses, t, objective, is_last=False):
        layers, X = self.layers, self.X
        t, _ = next_momentum(t)
        # Momentum of the next sweep; samples whose objective increased restart it first.
        momentum = 0.0 if is_last or self.is_monitored or not self.extrapolate else _momentum(t)
        codes, syntheses, extrapolated = list(old_codes), list(old_syntheses), list(extrapolated)
        for j, operator in enumerate(layers.operators):
            # Layers below are already updated; those above are from the previous sweep.
            codes[j] = extrapolated[j]
            slope = analyze(operator, layers.target(j, X, codes) - extrapolated_syntheses[j], self.n_jobs)
            above = self.above[j]
            if above:
                residuals = [
                    layers.target(m, X, codes) - syntheses[m] if m in above else None for m in range(layers.n_layers)
                ]
                slope = slope - layers.feedback(j, residuals)
            codes[j], extrapolated[j] = proximal_step(
                extrapolated[j],
                old_codes[j],
                slope,
                self.steps[j],
                self.thresholds[j],
                self.penalties[j],
                momentum,
                self.n_jobs,
            )
            if not is_last:
                syntheses[j] = synthesize(operator, codes[j], self.n_jobs)
        if self.is_monitored:
            now = self._objective(codes, syntheses)
            increased = now > objective * (1 + self.rounding)
            codes = [_choose_samples(increased, old, new) for old, new in zip(old_codes, codes, strict=True)]
            pairs = zip(old_syntheses, syntheses, strict=True)
            syntheses = [_choose_samples(increased, old, new) for old, new in pairs]
            objective, t = _choose_samples(increased, objective, now), _choose_samples(increased, t * 0 + 1, t)
            momentum = _momentum(t)
            extrapolated = self._extrapolated(old_codes, codes, momentum)
        extrapolated_syntheses = syntheses
        if self.extrapolate and not is_last:
            extrapolated_syntheses = self._extrapolated(old_syntheses, syntheses, momentum)
        return codes, syntheses, extrapolated, extrapolated_syntheses, t, objective

    def final_objective(self):
        return self.objective if self.is_monitored else self._objective(self.codes, self.syntheses)

    def _objective(self, codes, syntheses):
        with _no_gradient(self.X):
            residuals = [self.layers.target(j, self.X, codes) - s for j, s in enumerate(syntheses)]
            return layered_objective(residuals, codes, self.alphas, self.penalties, self.n_jobs)

    def _extrapolated(self, old_values, new_values, momentum):
        """``new + momentum (new - old)`` of each layer, in one pass; momentum is a number or one per sample."""
        if not is_tensor(self.X):
            momentum = np.full(len(self.X), momentum, dtype=self.X.dtype) if isinstance(momentum, float) else momentum
            pairs = zip(old_values, new_values, strict=True)
            return [extrapolate(old, new, momentum, self.n_jobs) for old, new in pairs]
        extrapolated = []
        for old, new in zip(old_values, new_values, strict=True):
            # Under autocast syntheses have half precision, momentum does not.
            weight = 1 + (momentum if isinstance(momentum, float) else by_sample(momentum, new).to(new))
            extrapolated.append(old.lerp(new, weight))
        return extrapolated

    def gap(self):
        """Duality gap and objective of each sample; the dual point is the optimally scaled feasible residual."""
        layer_residuals = self.residuals()
        correlations = self.layers.correlate(layer_residuals, n_jobs=self.n_jobs)
        squares = sum(as_array(sample_sums(r * r)) for r in layer_residuals)
        products = as_array(self.layers.along_data(self.X, layer_residuals))
        objective = as_array(layered_objective(layer_residuals, self.codes, self.alphas, self.penalties, self.n_jobs))
        return (objective - self._dual_value(products, squares, correlations)).clip(0), objective

    def _dual_value(self, products, squares, correlations):
        """Lower bound on each objective, by the residuals scaled so that they are feasible for all layers."""
        top, conjugates = np.zeros(len(self.X)), []
        for values, alpha, penalty in zip(correlations, self.alphas, self.penalties, strict=True):
            one, plain = (1.0, L1(alpha, penalty.positive)) if is_plain_l1(penalty) else (alpha, penalty)
            norm = plain.dual_norm(values)
            if norm is None:
                conjugates.append((values, float(alpha), penalty))
            else:
                top = np.maximum(top, as_array(norm) / as_array(one))
        if not conjugates:
            return best_scaled_dual(products, squares, top)
        scale = 1 / np.maximum(top, 1)
        bound = scale * products - scale * scale * squares / 2
        for values, alpha, penalty in conjugates:
            conjugate = penalty.conjugate(values * by_sample(scale, values), alpha)
            if conjugate is None:
                raise ValueError(
                    f"deep_pursuit to a gap needs penalties with dual_norm or conjugate, which {penalty!r} does not "
                    "define: use tol=None, or layered_basis_pursuit."
                )
            bound = bound - as_array(conjugate)
        return bound

    def keep(self, rows):
        """Keep some of the samples."""
        rows = row_index(rows, self.X)
        self.X = self.X[rows]
        self.codes, self.extrapolated = [w[rows] for w in self.codes], [w[rows] for w in self.extrapolated]
        self.syntheses = [s[rows] for s in self.syntheses]
        self.extrapolated_syntheses = [s[rows] for s in self.extrapolated_syntheses]
        if self.is_monitored:
            self.objective, self.t = self.objective[rows], self.t[rows]


def _to_gap(state, tol, max_iter):
    """Sweep until each sample's relative gap is `tol`; converged samples leave the batch."""
    n_samples = len(state.X)
    solution = [w * 1 for w in state.codes]
    gaps, objectives = np.empty(n_samples), np.empty(n_samples)
    n_iter = np.zeros(n_samples, dtype=np.int64)
    remaining, n_done = np.arange(n_samples), 0
    while True:
        gap, objective = state.gap()
        gaps[remaining], objectives[remaining], n_iter[remaining] = gap, objective, n_done
        active = ((gap > tol * objective) | (tol == 0)) & (n_done < max_iter)
        if not active.all():
            finished = row_index(~active, state.X)
            for layer_solution, w in zip(solution, state.codes, strict=True):
                layer_solution[row_index(remaining[~active], state.X)] = w[finished]
            remaining = remaining[active]
            if not len(remaining):
                break
            state.keep(active)
        n_sweeps = min(CHECK_EVERY, max_iter - n_done)
        state.sweep(n_sweeps)
        n_done += n_sweeps
    result = Result(solution, objectives, gaps, n_iter, gaps <= tol * objectives)
    warn_if_not_converged(result, tol, max_iter)
    return result


def layered_objective(residuals, codes, alphas, penalties, n_jobs=None):
    """``1/2 sum_j ||t_j - B_j w_j||^2 + sum_j alpha_j g_j(w_j)`` of each sample, in double precision.

    `residuals` has ``t_j - B_j w_j`` of each layer; `penalties` is a list, or `OverLayers`.
    """
    if isinstance(penalties, OverLayers):
        rows = stack(residuals)
        return sample_sums(rows * rows) / 2 + alphas[0] * penalties.value(stack(codes))
    return sum(
        half_squares_and_penalties(residual, w, alpha, n_jobs)
        if is_plain_l1(penalty) and not is_tensor(w)
        else sample_sums(residual * residual) / 2 + penalty_value(w, alpha, penalty)
        for residual, w, alpha, penalty in zip(residuals, codes, alphas, penalties, strict=True)
    )


def _momentum(t):
    """Momentum of the sweep that starts with t: a number, or one per sample."""
    _, momentum = next_momentum(t)
    return min(momentum, MAX_MOMENTUM) if isinstance(t, float) else momentum.clip(None, MAX_MOMENTUM)


def _no_gradient(like):
    if not is_tensor(like):
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def _choose_samples(rows, where_true, where_false):
    return choose(rows.reshape(-1, *[1] * (where_true.ndim - 1)), where_true, where_false)

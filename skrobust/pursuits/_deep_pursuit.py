"""Deep pursuit: the codes of all layers at once, by block coordinate descent with feedback and extrapolation."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skrobust.signals import is_tensor

from ._conv_fista import CHECK_EVERY
from ._layered_pursuit import LayeredResult, layered_thresholding, per_layer, proximal_step
from ._layers import analyze, sums, synthesize

MOST_MOMENTUM = 0.9999
"""Extrapolation stays below this share of the root of the ratio of Lipschitz constants, which here is 1."""


def deep_pursuit(
    X,
    layers,
    alpha,
    *,
    positive=True,
    max_iter=20,
    tol=None,
    step=None,
    extrapolate=True,
    init=None,
    n_jobs=None,
):
    """Codes of all layers that together minimise one objective.

    ::

        1/2 sum_j ||t_j - B_j w_j||^2 + sum_j alpha_j ||w_j||_1 ,    t_j = w_{j-1} + sum_{k < j-1} C_jk w_k ,

    the LASSO over the structured dictionary of `LayeredDictionary` (eq. 11 and 16 of [1]_). A sweep updates the layers
    in turn, each by a proximal gradient step from its extrapolation (eq. 13 to 15, with the ``+ w`` that eq. 14 lacks
    and the threshold of eq. 13 scaled by the step), so that every layer feels those above it. With ``step=None`` steps
    are the inverses of block Lipschitz constants and the objective never rises: where extrapolation would raise it,
    the sample keeps its codes and loses its momentum.

    Parameters
    ----------
    X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
    layers : LayeredDictionary
    alpha : float or sequence
        One for all layers, or one a layer, each a number or of shape (n_components,); > 0 where `tol` is given.
    positive : bool, default=True
    max_iter : int, default=20
        Sweeps; with `tol` the most. Without any the codes are those of `layered_thresholding`.
    tol : float or None, default=None
        Relative duality gap of the whole; None: exactly `max_iter` sweeps, differentiable for tensors.
    step : float, sequence of one a layer, or None, default=None
        None: the inverse of `LayeredDictionary.block_lipschitz`. Given ones, ``1 / (beta_j L_j)`` with learned beta in
        the paper, may be longer than is safe, and nothing watches the objective then.
    extrapolate : bool, default=True
    init : list of ndarray or Tensor, or None, default=None
        Codes to begin with; None: `layered_thresholding`.
    n_jobs : int or None, default=None

    Returns
    -------
    LayeredResult
        Gap (with `tol`), objective and sweeps are of shape (n_samples,).

    References
    ----------
    .. [1] G. Cazenavette, C. Murdock, S. Lucey, "Architectural adversarial robustness: the case for deep pursuit",
       CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary, deep_pursuit
    >>> rng = np.random.default_rng(0)
    >>> first = ConvolutionalOperator(rng.normal(size=(3, 2, 1)), (6, 1), padding="valid")
    >>> second = ConvolutionalOperator(rng.normal(size=(4, 2, 3)), first.code_shape, padding="valid")
    >>> X = rng.normal(size=(5, 6, 1))
    >>> result = deep_pursuit(X, LayeredDictionary([first, second]), 0.1, tol=1e-6, max_iter=5000)
    >>> bool((result.gap <= 1e-6 * result.objective).all())
    True
    """
    penalties = per_layer("alpha", alpha, layers, X)
    safe = step is None
    steps = [1 / layers.block_lipschitz(j) for j in range(layers.n_layers)]
    if step is not None:
        steps = per_layer("step", step, layers, X, of_components=False)
    if init is None:
        init = layered_thresholding(X, layers, penalties, positive=positive, n_jobs=n_jobs)
    state = _State(X, layers, penalties, steps, init, positive, extrapolate, safe, n_jobs)
    if tol is None:
        state.sweep(max_iter)
        objective = _array(layers.objective(state.residuals(), state.codes, penalties))
        return LayeredResult(state.codes, None, objective, np.full(len(X), max_iter))
    if any((_array(penalty) <= 0).any() for penalty in penalties):
        raise ValueError("alpha must be > 0 in every layer to reach a duality gap. Use tol=None for fixed sweeps.")
    return _to_gap(state, tol, max_iter)


class _State:
    """Codes of a batch under way, their syntheses, and those of the sweep before."""

    def __init__(self, X, layers, penalties, steps, codes, positive, extrapolate, safe, n_jobs):
        self.X, self.layers, self.penalties, self.steps = X, layers, penalties, steps
        self.positive, self.extrapolate, self.n_jobs = positive, extrapolate, n_jobs
        self.watched = extrapolate and safe
        self.rounding = 4 * float(np.finfo(str(X.dtype).removeprefix("torch.")).eps)
        self.codes = list(codes)
        self.syntheses = [
            synthesize(operator, w, n_jobs) for operator, w in zip(layers.operators, self.codes, strict=True)
        ]
        self.before = self.codes, self.syntheses
        self.objective = layers.objective(self.residuals(), self.codes, penalties) if self.watched else None
        self.t = X.new_ones(len(X)) if is_tensor(X) else np.ones(len(X), dtype=X.dtype)

    def residuals(self):
        return [self.layers.target(j, self.X, self.codes) - s for j, s in enumerate(self.syntheses)]

    def sweep(self, n_sweeps):
        for _ in range(n_sweeps):
            self._sweep()

    def _sweep(self):
        layers, X = self.layers, self.X
        later = (1 + (1 + 4 * self.t * self.t) ** 0.5) / 2
        momentum = ((self.t - 1) / later).clip(0, MOST_MOMENTUM)
        codes, syntheses = list(self.codes), list(self.syntheses)
        old_codes, old_syntheses = self.before
        for j, operator in enumerate(layers.operators):
            ahead, ahead_synthesis = codes[j], syntheses[j]
            if self.extrapolate:
                ahead = ahead + _by_sample(momentum, ahead) * (ahead - old_codes[j])
                ahead_synthesis = ahead_synthesis + _by_sample(momentum, ahead_synthesis) * (
                    ahead_synthesis - old_syntheses[j]
                )
            codes[j] = ahead
            # Layers below have moved already; those above are as the sweep before left them.
            slope = analyze(operator, layers.target(j, X, codes) - ahead_synthesis, self.n_jobs)
            above = {j + 1} | {to for to, source in layers.skips if source == j}
            left = [layers.target(m, X, codes) - syntheses[m] if m in above else None for m in range(layers.n_layers)]
            if j + 1 < layers.n_layers:
                slope = slope - layers.feedback(j, left)
            thresholds = self.steps[j] * self.penalties[j]
            codes[j], _ = proximal_step(ahead, None, slope, self.steps[j], thresholds, 0.0, self.positive)
            syntheses[j] = synthesize(operator, codes[j], self.n_jobs)
        if self.watched:
            left = [layers.target(j, X, codes) - s for j, s in enumerate(syntheses)]
            objective = layers.objective(left, codes, self.penalties)
            rose = objective > self.objective * (1 + self.rounding)
            codes = [_choose(rose, old, new) for old, new in zip(self.codes, codes, strict=True)]
            syntheses = [_choose(rose, old, new) for old, new in zip(self.syntheses, syntheses, strict=True)]
            self.objective = _choose(rose, self.objective, objective)
            later = _choose(rose, later * 0 + 1, later)
            # A sample that stays where it was has no direction to extrapolate.
            self.before = (
                [_choose(rose, new, old) for old, new in zip(self.codes, codes, strict=True)],
                [_choose(rose, new, old) for old, new in zip(self.syntheses, syntheses, strict=True)],
            )
        else:
            self.before = self.codes, self.syntheses
        self.codes, self.syntheses, self.t = codes, syntheses, later

    def gap(self):
        """Duality gap and objective of each sample; the dual point is the residual, scaled to be feasible and best."""
        left = self.residuals()
        correlations = self.layers.correlate(left, n_jobs=self.n_jobs)
        top = np.zeros(len(self.X))
        for values, penalty in zip(correlations, self.penalties, strict=True):
            scaled = values / penalty if self.positive else abs(values / penalty)
            top = np.maximum(top, _array(_largest(scaled)))
        squares = sum(_array(sums(r * r)) for r in left)
        products = _array(sums(left[0] * self.X))
        objective = _array(self.layers.objective(left, self.codes, self.penalties))
        tiny = np.finfo(np.float64).tiny
        scale = np.minimum(products / np.maximum(squares, tiny), 1 / np.maximum(top, tiny)).clip(0)
        return (objective - scale * products + scale * scale * squares / 2).clip(0), objective

    def keep(self, rows):
        """Go on with some of the samples."""
        rows = _index(rows, self.X)
        self.X, self.t = self.X[rows], self.t[rows]
        self.codes, self.syntheses = [w[rows] for w in self.codes], [s[rows] for s in self.syntheses]
        self.before = tuple([values[rows] for values in part] for part in self.before)
        if self.watched:
            self.objective = self.objective[rows]


def _to_gap(state, tol, max_iter):
    """Sweep until each sample's relative gap is `tol`; samples that are done leave the batch."""
    n_samples = len(state.X)
    solved = [w * 1 for w in state.codes]
    gaps, objectives = np.empty(n_samples), np.empty(n_samples)
    counts = np.zeros(n_samples, dtype=np.int64)
    left, done = np.arange(n_samples), 0
    while True:
        gap, objective = state.gap()
        gaps[left], objectives[left], counts[left] = gap, objective, done
        going = (gap > tol * objective) & (done < max_iter)
        if not going.all():
            ended = _index(~going, state.X)
            for whole, w in zip(solved, state.codes, strict=True):
                whole[_index(left[~going], state.X)] = w[ended]
            left = left[going]
            if not len(left):
                break
            state.keep(going)
        n_sweeps = min(CHECK_EVERY, max_iter - done)
        state.sweep(n_sweeps)
        done += n_sweeps
    short = int((gaps > tol * objectives).sum())
    if short:
        warnings.warn(
            f"{short} of {n_samples} signals did not reach the relative duality gap tol={tol:g} within "
            f"max_iter={max_iter} sweeps. Increase max_iter or tol.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return LayeredResult(solved, gaps, objectives, counts)


def _by_sample(values, like):
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _choose(rows, of_them, of_others):
    """Per sample one of two."""
    rows = _by_sample(rows, of_them)
    return of_them.where(rows, of_others) if is_tensor(of_them) else np.where(rows, of_them, of_others)


def _largest(values):
    flat = values.reshape(len(values), -1)
    return flat.amax(1) if is_tensor(flat) else flat.max(axis=1)


def _array(values):
    return values.detach().cpu().double().numpy() if is_tensor(values) else np.asarray(values, dtype=np.float64)


def _index(rows, like):
    if not is_tensor(like):
        return rows
    import torch

    return torch.as_tensor(rows, device=like.device)

"""Pursuits that `torch.export` and the ONNX exporter can record: torch operations and while loops only.

Their results agree with those of the other solvers to the requested accuracy. They use neither batches nor kernels
and are not differentiable.
"""

import torch
from torch._higher_order_ops.while_loop import while_loop

from skrobust.pursuits.greedy.omp.kernels import ROUNDINGS
from skrobust.pursuits.greedy.omp.torch import inv_norms
from skrobust.pursuits.problem import best_scaled_dual
from skrobust.signals.arrays import sample_sums

from .momentum import next_momentum

CHECK_EVERY = 2
"""Steps between two evaluations of the gap. Each step is recorded separately, so more of them slow the export."""

MORE_STEPS = 10
"""Proximal gradient steps allowed per sweep of coordinate descent, which makes more progress."""

MIN_TOL = 64
"""Lower limit of `tol`, in rounding errors: smaller relative duality gaps cannot be measured."""


def repeat(step, state, n_iter):
    """The state, a tuple of floats, tensors or lists of tensors, after `n_iter` steps."""
    flat, restore = _flat_state(state)

    def body(k, *values):
        return k + 1, *(value.contiguous().clone() for value in _flat_state(step(restore(values)))[0])

    _, *flat = while_loop(lambda k, *values: k < n_iter, body, (torch.tensor(0), *flat))
    return restore(flat)


def _flat_state(state):
    """Tensors of a state in one list, and the function that restores the state."""
    flat, sizes = [], []
    for part in state:
        parts = list(part) if isinstance(part, (list, tuple)) else [part]
        sizes.append(len(parts) if isinstance(part, (list, tuple)) else None)
        flat += [p.contiguous().clone() if isinstance(p, torch.Tensor) else torch.tensor(p) for p in parts]

    def restore(values):
        values = iter(values)
        return tuple(next(values) if size is None else [next(values) for _ in range(size)] for size in sizes)

    return flat, restore


def solve_lasso(X, analyze, synthesize, penalties, lipschitz, *, positive, tol, max_iter):
    """Codes that minimise ``1/2 ||x - D z||^2 + sum |penalties z|`` to a relative duality gap, by FISTA with restarts.

    `analyze` and `synthesize` are ``D^T`` and ``D``; `lipschitz` is at least the squared norm of D.
    """
    step = 1 / (lipschitz * (1 + 1e-6)) if lipschitz > 0 else 1.0
    tol = max(tol, MIN_TOL * torch.finfo(X.dtype).eps)
    scale = penalties.clamp_min(torch.finfo(X.dtype).tiny)
    zero = torch.zeros_like(analyze(X)).contiguous()
    by_sample = (-1, *[1] * (zero.ndim - 1))

    def has_converged(z):
        residual = X - synthesize(z)
        slopes = analyze(residual)
        top = ((slopes if positive else slopes.abs()) / scale).flatten(1).amax(1).clamp_min(0)
        squares = sample_sums(residual * residual)
        objective = squares / 2 + sample_sums(penalties * z.abs())
        return objective - best_scaled_dual(sample_sums(residual * X), squares, top.double()) <= tol * objective

    def body(k, z, y, t, converged):
        for _ in range(CHECK_EVERY):
            moved = y + step * analyze(X - synthesize(y))
            new = (moved - step * penalties).clamp_min(0)
            if not positive:
                new = new - (-moved - step * penalties).clamp_min(0)
            uphill = ((y - new) * (new - z)).flatten(1).sum(1) > 0
            t, momentum = next_momentum(torch.where(uphill, torch.ones_like(t), t))
            # Converged samples do not change.
            is_fixed = converged.reshape(by_sample)
            new = torch.where(is_fixed, z, new)
            y, z = torch.where(is_fixed, y, new + momentum.reshape(by_sample) * (new - z)), new
        return k + CHECK_EVERY, z.contiguous().clone(), y.contiguous().clone(), t.clone(), has_converged(z)

    ones = torch.ones_like(zero.flatten(1)[:, 0])
    begin = torch.tensor(0), zero, zero.clone(), ones, has_converged(zero)
    max_steps = MORE_STEPS * max_iter
    return while_loop(lambda k, z, y, t, converged: (k < max_steps) & ~converged.all(), body, begin)[1]


def greedy_approximations(X, components, *, max_atoms, tol=None, by_gain=False):
    """Approximations and codes of `orthogonal_mp`, of at most `max_atoms` atoms or to the norm `tol` of the residual;
    `by_gain` means ``selection="ols"``.
    """
    noise = ROUNDINGS * torch.finfo(X.dtype).eps
    atom_inv_norms = inv_norms(components)
    units = components * atom_inv_norms[:, None]
    columns = units.T.clone()  # loops do not accept two views of one tensor
    largest = X.abs().amax(1, keepdim=True)
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))
    signals = X / scale
    limit = None if tol is None else torch.square(tol / scale[:, 0])
    floor = noise * (signals @ columns).abs().amax(1)
    order = torch.arange(max_atoms, device=X.device)

    def body(k, residual, basis, chosen, atom_residuals, active):
        correlations = residual @ columns
        scores = correlations.abs()
        if by_gain:
            scores = torch.square(scores) / atom_residuals.clamp_min(noise)
            scores = torch.where(atom_residuals > noise, scores, torch.zeros_like(scores))
        atom = scores.argmax(1, keepdim=True)
        active = active & (correlations.gather(1, atom)[:, 0].abs() > floor)
        if limit is not None:
            active = active & (torch.square(residual).sum(1) > limit)
        direction = units[atom[:, 0]]
        for _ in range(2):  # orthogonalise again, against rounding errors
            direction = direction - ((basis @ direction[:, :, None]) * basis).sum(1)
        square = torch.square(direction).sum(1)
        active = active & (square > noise)
        length = torch.where(active, square.clamp_min(noise).rsqrt(), torch.zeros_like(square))
        direction = direction * length[:, None]
        residual = residual - (residual * direction).sum(1, keepdim=True) * direction
        is_current = (order == k)[None, :]
        basis = basis + is_current.to(basis.dtype)[:, :, None] * direction[:, None, :]
        chosen = torch.where(is_current & active[:, None], atom, chosen)
        atom_residuals = atom_residuals - torch.square(direction @ columns)
        return k + 1, residual, basis, chosen, atom_residuals, active

    ones = torch.ones_like(signals[:, 0])
    begin = (
        torch.tensor(0),
        signals.clone(),
        signals.new_zeros(signals.shape[0], max_atoms, signals.shape[1]),
        torch.zeros_like(signals[:, :1], dtype=torch.int64).repeat(1, max_atoms),
        ones[:, None].repeat(1, units.shape[0]),
        ones > 0,
    )
    _, residual, basis, chosen, _, _ = while_loop(lambda k, *state: (k < max_atoms) & state[-1].any(), body, begin)
    # Each atom is a combination of the basis vectors up to its own step: back substitution gives the coefficients.
    factor = basis @ units[chosen].mT
    targets = (basis @ signals[:, :, None])[:, :, 0]

    def substitute(k, values):
        is_current = (order == max_atoms - 1 - k).to(values.dtype)
        row = (factor * is_current[:, None]).sum(1)
        pivot = (row * is_current).sum(1)
        rest = (targets * is_current).sum(1) - (row * values).sum(1)
        value = torch.where(pivot > 0, rest / torch.where(pivot > 0, pivot, torch.ones_like(pivot)), 0 * rest)
        return k + 1, values + value[:, None] * is_current

    _, values = while_loop(lambda k, values: k < max_atoms, substitute, (torch.tensor(0), torch.zeros_like(targets)))
    codes = torch.zeros_like(ones[:, None].repeat(1, units.shape[0]))
    codes = codes.scatter_add(1, chosen, values * scale) * atom_inv_norms
    return X - residual * scale, codes

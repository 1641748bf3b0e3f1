"""Pursuits that `torch.export` and the ONNX exporter can record: torch operations and while loops only.

Their results agree with those of the other solvers to the requested accuracy. They use neither batches nor kernels
and are not differentiable.
"""

import torch
from torch._higher_order_ops.while_loop import while_loop

from skrobust.pursuits.greedy.omp.kernels import ROUNDINGS
from skrobust.pursuits.greedy.omp.torch import inverse_norms
from skrobust.pursuits.problem import best_scaled_dual
from skrobust.signals.arrays import sample_sums

from .momentum import next_momentum

LOOK = 2
"""Steps between two evaluations of the gap. Each step is recorded separately, so more of them slow the export."""

MORE_STEPS = 10
"""Proximal gradient steps allowed per sweep of coordinate descent, which makes more progress."""

LEAST_TOL = 64
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
    tol = max(tol, LEAST_TOL * torch.finfo(X.dtype).eps)
    scale = penalties.clamp_min(torch.finfo(X.dtype).tiny)
    zero = torch.zeros_like(analyze(X)).contiguous()
    by_sample = (-1, *[1] * (zero.ndim - 1))

    def is_met(z):
        left = X - synthesize(z)
        slopes = analyze(left)
        top = ((slopes if positive else slopes.abs()) / scale).flatten(1).amax(1).clamp_min(0)
        squares = sample_sums(left * left)
        objective = squares / 2 + sample_sums(penalties * z.abs())
        return objective - best_scaled_dual(sample_sums(left * X), squares, top.double()) <= tol * objective

    def body(k, z, y, t, met):
        for _ in range(LOOK):
            moved = y + step * analyze(X - synthesize(y))
            new = (moved - step * penalties).clamp_min(0)
            if not positive:
                new = new - (-moved - step * penalties).clamp_min(0)
            uphill = ((y - new) * (new - z)).flatten(1).sum(1) > 0
            t, momentum = next_momentum(torch.where(uphill, torch.ones_like(t), t))
            # Converged samples do not change.
            stays = met.reshape(by_sample)
            new = torch.where(stays, z, new)
            y, z = torch.where(stays, y, new + momentum.reshape(by_sample) * (new - z)), new
        return k + LOOK, z.contiguous().clone(), y.contiguous().clone(), t.clone(), is_met(z)

    ones = torch.ones_like(zero.flatten(1)[:, 0])
    begin = torch.tensor(0), zero, zero.clone(), ones, is_met(zero)
    max_atoms = MORE_STEPS * max_iter
    return while_loop(lambda k, z, y, t, met: (k < max_atoms) & ~met.all(), body, begin)[1]


def greedy_approximations(X, components, *, max_atoms, tol=None, by_gain=False):
    """Approximations and codes of `orthogonal_mp`, of at most `max_atoms` atoms or to the norm `tol` of the residual;
    `by_gain` means ``selection="ols"``.
    """
    noise = ROUNDINGS * torch.finfo(X.dtype).eps
    scales = inverse_norms(components)
    units = components * scales[:, None]
    columns = units.T.clone()  # loops do not accept two views of one tensor
    largest = X.abs().amax(1, keepdim=True)
    unit = torch.where(largest > 0, largest, torch.ones_like(largest))
    signals = X / unit
    limit = None if tol is None else torch.square(tol / unit[:, 0])
    floor = noise * (signals @ columns).abs().amax(1)
    order = torch.arange(max_atoms, device=X.device)

    def body(k, residual, basis, chosen, left, going):
        correlations = residual @ columns
        scores = correlations.abs()
        if by_gain:
            scores = torch.where(left > noise, torch.square(scores) / left.clamp_min(noise), torch.zeros_like(scores))
        atom = scores.argmax(1, keepdim=True)
        going = going & (correlations.gather(1, atom)[:, 0].abs() > floor)
        if limit is not None:
            going = going & (torch.square(residual).sum(1) > limit)
        fresh = units[atom[:, 0]]
        for _ in range(2):  # orthogonalise again, against rounding errors
            fresh = fresh - ((basis @ fresh[:, :, None]) * basis).sum(1)
        square = torch.square(fresh).sum(1)
        going = going & (square > noise)
        length = torch.where(going, square.clamp_min(noise).rsqrt(), torch.zeros_like(square))
        fresh = fresh * length[:, None]
        residual = residual - (residual * fresh).sum(1, keepdim=True) * fresh
        now = (order == k)[None, :]
        basis = basis + now.to(basis.dtype)[:, :, None] * fresh[:, None, :]
        chosen = torch.where(now & going[:, None], atom, chosen)
        left = left - torch.square(fresh @ columns)
        return k + 1, residual, basis, chosen, left, going

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
    parts = basis @ units[chosen].mT
    aims = (basis @ signals[:, :, None])[:, :, 0]

    def substitute(k, values):
        now = (order == max_atoms - 1 - k).to(values.dtype)
        row = (parts * now[:, None]).sum(1)
        pivot = (row * now).sum(1)
        rest = (aims * now).sum(1) - (row * values).sum(1)
        value = torch.where(pivot > 0, rest / torch.where(pivot > 0, pivot, torch.ones_like(pivot)), 0 * rest)
        return k + 1, values + value[:, None] * now

    _, values = while_loop(lambda k, values: k < max_atoms, substitute, (torch.tensor(0), torch.zeros_like(aims)))
    codes = torch.zeros_like(ones[:, None].repeat(1, units.shape[0]))
    codes = codes.scatter_add(1, chosen, values * unit) * scales
    return X - residual * unit, codes

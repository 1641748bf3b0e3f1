"""The lasso of tensors: the kernels solve on the CPU, proximal gradient elsewhere; values are differentiable."""

import torch

from skrobust.signals import batch_slices, scale_exponents, times_power
from skrobust.signals._tensors import check_tensor

from ._basis_pursuit import basis_pursuit, one_alpha_per_signal, warn_of_unmet
from ._omp_torch import FixedSupport, as_array, assembled, padded_codes

LOOK = 10
"""Steps between two looks at the gap."""


def checked_tensors(X, components):
    """Both as tensors of the dtype and device of `X`, finite and of shapes that fit."""
    X = check_tensor(X, name="basis_pursuit")
    components = check_tensor(torch.as_tensor(components, device=X.device), name="components").to(X.dtype)
    if X.shape[1] != components.shape[1]:
        raise ValueError(f"X has {X.shape[1]} features, but components has {components.shape[1]}.")
    return X, components


def basis_pursuit_of_tensors(X, components, *, alpha, positive, tol, max_iter, gram, sparse_output, return_gap, n_jobs):
    """`basis_pursuit` of a tensor `X`; the other arrays may be tensors or not."""
    X, components = checked_tensors(X, components)
    alpha = as_array(alpha)
    with torch.no_grad():
        if X.device.type == "cpu":
            codes, gap = basis_pursuit(
                X.detach().numpy(),
                components.detach().numpy(),
                alpha=alpha if alpha.ndim else float(alpha),
                positive=positive,
                tol=tol,
                max_iter=max_iter,
                gram=None if gram is None else as_array(gram),
                return_gap=True,
                n_jobs=n_jobs,
            )
            atoms, values = padded_codes(codes)
            gap = torch.from_numpy(gap)
        else:
            exponents = scale_exponents(X)
            alphas = times_power(one_alpha_per_signal(alpha, len(X)), -exponents)
            alphas = torch.tensor(alphas, device=X.device)
            atoms, values, gap = by_gradient(times_power(X, -exponents), components, alphas, positive, tol, max_iter)
            values, gap = times_power(values, exponents), times_power(gap, 2 * exponents)
    values = FixedSupport.apply(X, components, atoms, values, None)
    codes = assembled(atoms, values, len(components), sparse_output)
    return (codes, gap) if return_gap else codes


def by_gradient(X, components, alphas, positive, tol, max_iter):
    """Proximal gradient with momentum, restarted for each signal where it would climb; signals leave as they converge.

    Parameters
    ----------
    X : Tensor of shape (n_signals, n_features)
    components : Tensor of shape (n_atoms, n_features)
    alphas : Tensor of shape (n_signals,)
        float64.

    Returns
    -------
    atoms : Tensor of shape (n_signals, most)
        In order; ``n_atoms`` behind the last.
    values : Tensor of shape (n_signals, most)
    gap : Tensor of shape (n_signals,)
    """
    small = components if len(components) < components.shape[1] else components.T
    lipschitz = float(torch.linalg.eigvalsh((small @ small.T).to(torch.float64))[-1])
    step = 1 / (lipschitz * (1 + 1e-6)) if lipschitz > 0 else 1.0
    parts, n_unmet = [], 0
    for batch in batch_slices(len(X), 8 * X.element_size() * len(components)):
        codes, gap, is_met = _descend(X[batch], components, alphas[batch], step, positive, tol, max_iter)
        n_unmet += int((~is_met).sum())
        rows = torch.where(codes != 0, torch.arange(len(components), device=X.device), len(components))
        parts.append((rows.sort(1).values, codes, gap))
    warn_of_unmet(n_unmet, len(X), tol, max_iter)
    most = max(1, max(int((rows < len(components)).sum(1).max()) for rows, _, _ in parts))
    atoms = torch.cat([rows[:, :most] for rows, _, _ in parts])
    padded = [torch.nn.functional.pad(codes, (0, 1)).gather(1, rows[:, :most]) for rows, codes, _ in parts]
    return atoms, torch.cat(padded), torch.cat([gap for _, _, gap in parts])


def _descend(X, components, alphas, step, positive, tol, max_iter):
    result = X.new_zeros(len(X), len(components))
    gaps = torch.zeros(len(X), dtype=torch.float64, device=X.device)
    met = torch.zeros(len(X), dtype=torch.bool, device=X.device)
    rows = torch.arange(len(X), device=X.device)
    z = y = torch.zeros_like(result)
    momentum = torch.ones_like(alphas)
    for k in range(max_iter + 1):
        if k % LOOK == 0 or k == max_iter:
            gap, objective = _gap(X, components, z, alphas, positive)
            done = gap <= tol * objective
            leaves = done if k < max_iter else torch.ones_like(done)
            if bool(leaves.any()):
                left = rows[leaves]
                result[left], gaps[left], met[left] = z[leaves], gap[leaves], done[leaves]
                stays = ~leaves
                rows, X, alphas, z, y, momentum = (a[stays] for a in (rows, X, alphas, z, y, momentum))
            if not len(rows):
                break
        gradient = (y @ components - X) @ components.T
        threshold = (alphas * step).to(X.dtype)[:, None]
        moved = y - step * gradient
        new = (moved - threshold).clamp_min(0)
        if not positive:
            new -= (-moved - threshold).clamp_min(0)
        climbs = ((y - new) * (new - z)).sum(1) > 0
        following = torch.where(climbs, 1.0, (1 + torch.sqrt(1 + 4 * momentum**2)) / 2)
        weight = torch.where(climbs, 0.0, (momentum - 1) / following).to(X.dtype)
        y = new + weight[:, None] * (new - z)
        z, momentum = new, following
    return result, gaps, met


def _gap(X, components, z, alphas, positive):
    """Duality gap and objective of each code, as in `_basis_pursuit_kernels`."""
    residual = X - z @ components
    q = residual @ components.T
    top = (q if positive else q.abs()).amax(1).clamp_min(0).to(torch.float64)
    squared = torch.square(residual.to(torch.float64)).sum(1)
    l1, along = z.abs().to(torch.float64).sum(1), (z.to(torch.float64) * q).sum(1)
    factor = torch.where(top > alphas, alphas / top, 1.0)
    gap = 0.5 * (1 - factor) ** 2 * squared + (alphas * l1 - factor * along).clamp_min(0)
    return gap, 0.5 * squared + alphas * l1

"""The sequential sweep of K-SVD over the atoms, with updated residuals."""

import numpy as np

from skrobust.kernels.rows import add_scaled, dot
from skrobust.kernels.vectors import broadcast, fma, inlined, kernel, lanes, load, load_first, store, store_first


@inlined
def _shrink(value, alpha, positive):
    """The coefficient that minimises ``(value - z)**2 / 2 + alpha * abs(z)``, or that among those >= 0."""
    if positive:
        return max(value - alpha, value * 0)
    return np.copysign(max(abs(value) - alpha, value * 0), value)


@inlined
def _update_residual(residuals, r, old, a, atoms, j, b, size):
    """``residuals[r:] += a * old + b * atoms[j:]``, rows of `size` values."""
    step = lanes(residuals)
    n_rest = size % step
    n_whole = size - n_rest
    first, second = broadcast(a), broadcast(b)
    for f in range(0, n_whole, step):
        value = fma(first, load(old, f), load(residuals, r + f))
        store(residuals, r + f, fma(second, load(atoms, j + f), value))
    if n_rest > 0:
        value = fma(first, load_first(old, n_whole, n_rest), load_first(residuals, r + n_whole, n_rest))
        value = fma(second, load_first(atoms, j + n_whole, n_rest), value)
        store_first(residuals, r + n_whole, value, n_rest)


@kernel
def sweep(residuals, components, starts, signals, values, alpha, positive_codes, positive_atoms):
    """One sweep over the atoms: fit each to the residual of the others, then its coefficients.

    With E_i = r_i + z_i d, the residual of signal i without atom d, the atom and its coefficients become

        d = sum_i z_i E_i / ||sum_i z_i E_i||,    z_i = shrink(<E_i, d>).

    Parameters
    ----------
    residuals : ndarray of shape (n_signals, n_features)
    components : ndarray of shape (n_atoms, n_features)
        Atoms of unit norm.
    starts, signals
        As in `AtomColumns`.
    values : ndarray of shape (n_entries,)
        Coefficients, ordered by atom.
    alpha : float
        Weight of the l1 norm of the codes; 0 for fixed supports.
    positive_codes, positive_atoms : bool

    All but `starts` and `signals` are overwritten.
    """
    d = components.shape[1]
    rows, atoms = residuals.reshape(-1), components.reshape(-1)
    old, new = np.empty(d, components.dtype), np.empty(d, components.dtype)
    scalar = components.dtype.type
    for j in range(starts.size - 1):
        energy = scalar(0)
        new[:] = 0
        for at in range(starts[j], starts[j + 1]):
            add_scaled(new, 0, values[at], rows, np.int64(signals[at]) * d, d)
            energy += values[at] * values[at]
        add_scaled(new, 0, energy, atoms, j * d, d)
        if positive_atoms:
            for f in range(d):
                new[f] = max(new[f], scalar(0))
        norm = np.sqrt(dot(new, 0, new, 0, d))
        if not norm > 0:
            continue
        for f in range(d):
            old[f] = atoms[j * d + f]
            atoms[j * d + f] = new[f] / norm
        overlap = dot(old, 0, atoms, j * d, d)
        for at in range(starts[j], starts[j + 1]):
            r, z = np.int64(signals[at]) * d, values[at]
            values[at] = _shrink(dot(rows, r, atoms, j * d, d) + z * overlap, alpha, positive_codes)
            _update_residual(rows, r, old, z, atoms, j * d, -values[at], d)

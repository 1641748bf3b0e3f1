"""Replacement of unused and duplicate atoms."""

import numpy as np

from skrobust.pursuits.greedy.omp.atoms import aligned_zeros, gram_of, padded_width

from .initial import unit_rows

DUPLICATE = 0.99
"""Atoms with a larger correlation count as duplicates, as in the authors' K-SVD."""

FEW, SHARE = 3, 1 / 20
"""An atom is unused if at most this many signals use it, and at most this share of the mean usage."""


def idle_atoms(components, usage):
    """Mask of atoms, of unit norm, that are unused, or duplicates of a more used atom."""
    idle = usage <= min(FEW, int(SHARE * usage.mean()))
    correlations = _correlations(components)
    np.fill_diagonal(correlations, 0)
    duplicates = np.flatnonzero(np.maximum(correlations.max(axis=1), -correlations.min(axis=1)) > DUPLICATE)
    kept = np.zeros(len(components), dtype=bool)
    for j in duplicates[np.argsort(-usage[duplicates], kind="stable")]:
        idle[j] |= bool(np.any(np.abs(correlations[j, kept]) > DUPLICATE))
        kept[j] = not idle[j]
    return idle


def _correlations(components):
    """Gram matrix of the rows with one BLAS thread, because BLAS threads would compete with ours."""
    n_atoms, n_features = components.shape
    columns = aligned_zeros((n_features, padded_width(n_atoms, components.dtype)), components.dtype)
    columns[:, :n_atoms] = components.T
    return gram_of(columns, n_atoms).reshape(n_atoms, -1)[:, :n_atoms]


def replace_idle_atoms(components, usage, energies, X, positive):
    """Replace unused atoms in `components` by the worst represented signals; returns which were replaced.

    `usage` is the number of signals that use each atom, `energies` the squared norms of the residuals. Signals that are
    well represented, or similar to another atom, are not used.
    """
    idle = np.flatnonzero(idle_atoms(components, usage))
    if len(idle) == 0:
        return idle
    n_candidates = min(len(X), 4 * len(idle))
    worst = np.argpartition(-energies, n_candidates - 1)[:n_candidates]
    worst = worst[np.argsort(-energies[worst], kind="stable")]
    signals = np.maximum(X[worst], 0) if positive else X[worst]
    squared_norms = np.square(signals, dtype=np.float64).sum(axis=1)
    poorly_coded = energies[worst] > 100 * np.finfo(X.dtype).eps * squared_norms
    candidates = unit_rows(signals[poorly_coded & (squared_norms > 0)])
    in_use = np.ones(len(components), dtype=bool)
    in_use[idle] = False
    replaced = []
    for candidate in candidates:
        if len(replaced) == len(idle):
            break
        if np.abs(components[in_use] @ candidate).max(initial=0) > DUPLICATE:
            continue
        j = idle[len(replaced)]
        components[j] = candidate
        in_use[j] = True
        replaced.append(j)
    return np.array(replaced, dtype=np.intp)

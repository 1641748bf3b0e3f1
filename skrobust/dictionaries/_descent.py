"""The best atoms for given codes, from the inner products of the codes: block coordinate descent, atom by atom."""

import math

import numpy as np

from skrobust.pursuits._vectors import broadcast, fnma, inlined, kernel, lanes, load, load_all, maximum, store

from ._rows import dot

_GROUP = 4
"""Vectors of features that the kernel takes at a time."""


@inlined
def _less_others(gram, row, first, last, atoms, g, width, sums):
    """Four vectors of the target of an atom less the parts of the other atoms `first` to `last`."""
    step = lanes(atoms)
    s0, s1, s2, s3 = sums
    at = first * width + g
    for k in range(first, last):
        weight = load_all(gram, row + k)
        s0, s1 = fnma(weight, load(atoms, at), s0), fnma(weight, load(atoms, at + step), s1)
        s2 = fnma(weight, load(atoms, at + 2 * step), s2)
        s3 = fnma(weight, load(atoms, at + 3 * step), s3)
        at += width
    return s0, s1, s2, s3


@kernel
def _descend(gram, targets, atoms, best, n_atoms, unit_norm, positive, max_sweeps, tol):
    step, width = lanes(atoms), best.size
    zero = broadcast(atoms.dtype.type(0))
    for _ in range(max_sweeps):
        largest = 0.0
        for j in range(n_atoms):
            row, own = j * n_atoms, j * width
            power = gram[row + j]
            if not power > 0:
                continue
            for g in range(0, width, 4 * step):
                at = own + g
                sums = (
                    load(targets, at),
                    load(targets, at + step),
                    load(targets, at + 2 * step),
                    load(targets, at + 3 * step),
                )
                sums = _less_others(gram, row, 0, j, atoms, g, width, sums)
                sums = _less_others(gram, row, j + 1, n_atoms, atoms, g, width, sums)
                if positive:
                    sums = (
                        maximum(sums[0], zero),
                        maximum(sums[1], zero),
                        maximum(sums[2], zero),
                        maximum(sums[3], zero),
                    )
                store(best, g, sums[0])
                store(best, g + step, sums[1])
                store(best, g + 2 * step, sums[2])
                store(best, g + 3 * step, sums[3])
            norm = np.sqrt(dot(best, 0, best, 0, width))
            if unit_norm:
                if not norm > 0:
                    continue
                power = norm
            moved = 0.0
            for f in range(width):
                value = best[f] / power
                moved = max(moved, abs(value - atoms[own + f]))
                atoms[own + f] = value
            largest = max(largest, moved * power / norm if norm > 0 else moved)
        if largest <= tol:
            break


def descend(gram, products, components, *, unit_norm, positive, max_sweeps=1, tol=0.0):
    """Minimise ``trace(D.T @ gram @ D) / 2 - trace(D.T @ products)`` over the atoms D, one after another.

    Parameters
    ----------
    gram : ndarray of shape (n_atoms, n_atoms)
        Inner products of the codes, Z.T @ Z.
    products : ndarray of shape (n_atoms, n_features)
        Those of the codes with the signals, Z.T @ X.
    components : ndarray of shape (n_atoms, n_features)
        The atoms to begin with; its dtype is that of the arithmetic.
    unit_norm : bool
        Whether atoms have norm 1, else any norm.
    positive : bool
        Whether atoms are >= 0.
    max_sweeps : int, default=1
    tol : float, default=0.0
        Stop after a sweep that moves no atom by more than this share of its norm.

    Returns
    -------
    ndarray of shape (n_atoms, n_features)
        Atoms that serve no signal are as they were.
    """
    (n_atoms, n_features), dtype = components.shape, components.dtype
    group = _GROUP * 64 // dtype.itemsize
    width = math.ceil(n_features / group) * group
    atoms, targets = np.zeros((n_atoms, width), dtype), np.zeros((n_atoms, width), dtype)
    atoms[:, :n_features], targets[:, :n_features] = components, products
    gram = np.ascontiguousarray(gram, dtype=dtype).reshape(-1)
    best = np.zeros(width, dtype)
    _descend(gram, targets.reshape(-1), atoms.reshape(-1), best, n_atoms, unit_norm, positive, max_sweeps, tol)
    return np.ascontiguousarray(atoms[:, :n_features])

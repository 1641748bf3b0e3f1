"""Optimal atoms for given codes, from the Gram matrix of the codes, by block coordinate descent."""

import numpy as np

from skrobust.kernels.rows import dot
from skrobust.kernels.vectors import (
    absolute,
    broadcast,
    fnma,
    inlined,
    kernel,
    lanes,
    largest,
    load,
    load_all,
    maximum,
    multiply,
    store,
)

_GROUP = 4
"""Vectors of features, and atoms, that the kernel processes at a time: each loaded vector serves four atoms."""


@inlined
def _subtract(weight, v, sums):
    """``sums - weight * v`` of four vectors."""
    return (
        fnma(weight, v[0], sums[0]),
        fnma(weight, v[1], sums[1]),
        fnma(weight, v[2], sums[2]),
        fnma(weight, v[3], sums[3]),
    )


@inlined
def _load_four(array, at):
    step = lanes(array)
    return load(array, at), load(array, at + step), load(array, at + 2 * step), load(array, at + 3 * step)


@inlined
def _store_four(array, at, v):
    step = lanes(array)
    store(array, at, v[0])
    store(array, at + step, v[1])
    store(array, at + 2 * step, v[2])
    store(array, at + 3 * step, v[3])


@inlined
def _subtract_other_groups(gram, targets, atoms, optima, n_atoms, width, first, last):
    """Targets of the atoms `first` to `last` (at most four) minus the contributions of all other atoms."""
    step = lanes(atoms)
    j1, j2, j3 = min(first + 1, last - 1), min(first + 2, last - 1), min(first + 3, last - 1)
    r0, r1, r2, r3 = first * n_atoms, j1 * n_atoms, j2 * n_atoms, j3 * n_atoms
    for g in range(0, width, 4 * step):
        s0, s1 = _load_four(targets, first * width + g), _load_four(targets, j1 * width + g)
        s2, s3 = _load_four(targets, j2 * width + g), _load_four(targets, j3 * width + g)
        for lo, hi in ((0, first), (last, n_atoms)):
            at = lo * width + g
            for k in range(lo, hi):
                v = _load_four(atoms, at)
                s0, s1 = _subtract(load_all(gram, r0 + k), v, s0), _subtract(load_all(gram, r1 + k), v, s1)
                s2, s3 = _subtract(load_all(gram, r2 + k), v, s2), _subtract(load_all(gram, r3 + k), v, s3)
                at += width
        # If there are fewer than four atoms, the last one is repeated.
        _store_four(optima, g, s0)
        _store_four(optima, (j1 - first) * width + g, s1)
        _store_four(optima, (j2 - first) * width + g, s2)
        _store_four(optima, (j3 - first) * width + g, s3)


@inlined
def _subtract_own_group(gram, row, atoms, optima, start, width, first, last, j, positive):
    """The target of atom `j` minus the contributions of the other three, which may have just changed."""
    step, zero = lanes(atoms), broadcast(atoms.dtype.type(0))
    for g in range(0, width, step):
        value = load(optima, start + g)
        for k in range(first, last):
            if k != j:
                value = fnma(load_all(gram, row + k), load(atoms, k * width + g), value)
        store(optima, start + g, maximum(value, zero) if positive else value)


@inlined
def _replace(atoms, at, optima, start, width, scale):
    """Replace an atom by its scaled optimum; return the largest change of a feature."""
    step, factor = lanes(atoms), broadcast(atoms.dtype.type(scale))
    change = broadcast(atoms.dtype.type(0))
    for g in range(0, width, step):
        value = multiply(load(optima, start + g), factor)
        change = maximum(absolute(fnma(broadcast(atoms.dtype.type(1)), load(atoms, at + g), value)), change)
        store(atoms, at + g, value)
    return largest(change)


@kernel
def descend_atoms(gram, targets, atoms, optima, n_atoms, unit_norm, positive, max_sweeps, tol):
    """`descend` on flat arrays with rows of whole groups of vectors; `optima` is a workspace for four atoms."""
    width = optima.size // _GROUP
    for _ in range(max_sweeps):
        largest_change = 0.0
        for first in range(0, n_atoms, _GROUP):
            last = min(n_atoms, first + _GROUP)
            _subtract_other_groups(gram, targets, atoms, optima, n_atoms, width, first, last)
            for j in range(first, last):
                row, start = j * n_atoms, (j - first) * width
                scale = gram[row + j]
                if not scale > 0:
                    continue
                _subtract_own_group(gram, row, atoms, optima, start, width, first, last, j, positive)
                norm = np.sqrt(dot(optima, start, optima, start, width))
                if unit_norm:
                    if not norm > 0:
                        continue
                    scale = norm
                change = _replace(atoms, j * width, optima, start, width, 1 / scale)
                largest_change = max(largest_change, change * scale / norm if norm > 0 else change)
        if largest_change <= tol:
            break


def padded_features(n_features, dtype):
    """`n_features` rounded up to whole groups of vectors."""
    group = _GROUP * 64 // dtype.itemsize
    return -(-n_features // group) * group


def descend(gram, products, components, *, unit_norm, positive, max_sweeps=1, tol=0.0):
    """Minimise ``trace(D.T @ gram @ D) / 2 - trace(D.T @ products)`` over the atoms D, one after another.

    `gram` has the inner products of the codes, Z.T @ Z, and `products` theirs with the signals, Z.T @ X. Starts from
    `components`, in their dtype; unused atoms do not change. With `unit_norm` atoms have norm 1, else a free one. Stops
    after a sweep that changes no atom by more than `tol`, relative to its norm.
    """
    (n_atoms, n_features), dtype = components.shape, components.dtype
    width = padded_features(n_features, dtype)
    atoms, targets = np.zeros((n_atoms, width), dtype), np.zeros((n_atoms, width), dtype)
    atoms[:, :n_features], targets[:, :n_features] = components, products
    gram = np.ascontiguousarray(gram, dtype=dtype).reshape(-1)
    optima = np.zeros(_GROUP * width, dtype)
    descend_atoms(gram, targets.reshape(-1), atoms.reshape(-1), optima, n_atoms, unit_norm, positive, max_sweeps, tol)
    return np.ascontiguousarray(atoms[:, :n_features])

"""The lasso of many signals over one dictionary: coordinate descent on working sets, in the Gram domain.

The state of a signal is the correlations of all atoms with its residual. A round of the solver

1. computes the duality gap, and drops atoms whose coefficients it proves to be zero (gap-safe screening: O. Fercoq,
   A. Gramfort and J. Salmon, "Mind the duality gap", ICML 2015);
2. forms the working set of the nonzero and the most correlated atoms, and copies their part of the Gram matrix;
3. solves that small problem by coordinate descent, to a tenth of the gap;
4. recomputes all correlations from the Gram rows of the nonzero atoms, so that rounding errors do not accumulate.
"""

import numpy as np

from skrobust.kernels.memory import zeros
from skrobust.kernels.products import inner_products
from skrobust.kernels.vectors import (
    aligned_zeros,
    broadcast,
    fnma,
    inlined,
    kernel,
    lanes,
    load,
    read,
    resolution,
    store,
    take_number,
    write,
)

LARGEST_SET = 192
"""Up to this many atoms, a working set has its own copy of the Gram matrix; larger ones use the full matrix."""

SHARE = 0.5
"""Atoms with at least this share of the largest correlation (and more than alpha) join the working set."""

SWEEPS = 4
"""Sweeps between two evaluations of the gap."""

GAP, OBJECTIVE, SWEEPS = 0, 1, 2
"""Columns of the report."""


@inlined
def _shrink(value, threshold, positive):
    if value > threshold:
        return value - threshold
    if value < -threshold and not positive:
        return value + threshold
    return value - value


@inlined
def _sweep(q, matrix, width, stride, places, z, inverses, count, alpha, positive, still, noise):
    """Minimise over each coordinate of the working set in turn; return how many changed by more than rounding.

    `still` is the relative rounding error of a coefficient, `noise` the absolute one of a correlation.
    """
    step, moved = lanes(matrix), 0
    for i in range(count):
        place, old, inverse = places[i], read(z, i), read(inverses, i)
        new = _shrink(old + read(q, place) * inverse, alpha * inverse, positive)
        change = new - old
        if change != 0:
            write(z, i, new)
            moved += abs(change) > max(still * abs(new), noise * inverse)
            by, row = broadcast(change), place * stride
            for v in range(0, width, step):
                store(q, v, fnma(by, load(matrix, row + v), load(q, v)))
    return moved


@inlined
def _certify(z, q, initial, places, atoms, count, energy, alpha, positive):
    """Duality gap of a code, its objective, and the factor that makes its residual feasible for the dual problem.

    With r the residual, q its correlations and s the factor, the gap is
    (1 - s)^2 ||r||^2 / 2 + alpha ||z||_1 - s z.q, which avoids cancellation.
    """
    top, l1, along, explained = 0.0, 0.0, 0.0, 0.0
    for i in range(count):
        value = np.float64(q[places[i]])
        top = max(top, value if positive else abs(value))
        if z[i] != 0:
            coefficient = np.float64(z[i])
            l1 += abs(coefficient)
            along += coefficient * value
            explained += coefficient * (value + np.float64(initial[atoms[i]]))
    squared = max(energy - explained, 0.0)
    factor = min(1.0, alpha / top) if top > 0 else 1.0
    gap = 0.5 * (1 - factor) ** 2 * squared + max(alpha * l1 - factor * along, 0.0)
    return gap, 0.5 * squared + alpha * l1, factor


@inlined
def _renew(q, initial, gram, width, atoms, z, count):
    """Correlations with the residual: ``initial - z @ gram``."""
    step = lanes(gram)
    for v in range(0, width, 4 * step):
        q0, q1 = load(initial, v), load(initial, v + step)
        q2, q3 = load(initial, v + 2 * step), load(initial, v + 3 * step)
        for i in range(count):
            value = read(z, i)
            if value != 0:
                by, row = broadcast(value), atoms[i] * width + v
                q0, q1 = fnma(by, load(gram, row), q0), fnma(by, load(gram, row + step), q1)
                q2 = fnma(by, load(gram, row + 2 * step), q2)
                q3 = fnma(by, load(gram, row + 3 * step), q3)
        store(q, v, q0)
        store(q, v + step, q1)
        store(q, v + 2 * step, q2)
        store(q, v + 3 * step, q3)


@inlined
def _copy_part(gram, width, atoms, count, part, stride):
    """The rows and columns `atoms` of the Gram matrix, row by row, padded with zero columns to whole vectors."""
    end = -(-count // lanes(gram)) * lanes(gram)
    for i in range(count):
        row = atoms[i] * width
        for j in range(count):
            write(part, i * stride + j, read(gram, row + atoms[j]))
        for j in range(count, end):
            write(part, i * stride + j, gram.dtype.type(0))
    return end


@kernel
def _solve_row(initial, energy, gram, width, inverses, alpha, positive, tol, max_iter, code, work, rounding):
    """Code of one signal from its correlations; returns the gap, the objective and the number of sweeps.

    `code` has one value per atom and is zero initially.
    """
    q, alive, atoms, places, values, own_inverses, part, part_q, alive_values = work
    scalar = gram.dtype.type
    stride = part_q.size
    n_alive, top = 0, 0.0
    for j in range(inverses.size):
        if inverses[j] > 0:
            alive[n_alive] = j
            n_alive += 1
            top = max(top, abs(np.float64(initial[j])))
    noise = 4 * rounding * top
    still = scalar(2 * rounding)
    for v in range(0, width, lanes(gram)):
        store(q, v, load(initial, v))
    sweeps = 0
    while True:
        for i in range(n_alive):
            alive_values[i] = code[alive[i]]
        gap, objective, factor = _certify(alive_values, q, initial, alive, alive, n_alive, energy, alpha, positive)
        if gap <= tol * objective or sweeps >= max_iter:
            return gap, objective, sweeps
        # If no dual point within sqrt(2 gap) of ours has correlation alpha with an atom, its coefficient is zero.
        radius, kept, top, dropped = np.sqrt(2 * gap), 0, 0.0, False
        for i in range(n_alive):
            j = alive[i]
            value = np.float64(q[j]) if positive else abs(np.float64(q[j]))
            if factor * value + radius / np.sqrt(np.float64(inverses[j])) >= alpha - 4 * noise:
                alive[kept] = j
                kept += 1
                top = max(top, value)
            elif code[j] != 0:
                code[j] = 0
                dropped = True
        n_alive = kept
        bound, count = max(alpha, SHARE * top), 0
        for i in range(n_alive):
            j = alive[i]
            value = q[j] if positive else abs(q[j])
            if code[j] != 0 or value >= bound:
                atoms[count] = j
                values[count] = code[j]
                own_inverses[count] = inverses[j]
                count += 1
        if dropped:
            _renew(q, initial, gram, width, atoms, values, count)
        target = max(0.1 * gap, 0.3 * tol * objective)
        if count <= stride:
            end = _copy_part(gram, width, atoms, count, part, stride)
            for i in range(count):
                places[i] = i
                part_q[i] = q[atoms[i]]
            for i in range(count, end):
                part_q[i] = 0
            moved, sweeps = _descend(
                part_q, part, end, stride, places, atoms, values, own_inverses, count, initial, energy, alpha,
                positive, still, scalar(noise), target, sweeps, max_iter,
            )  # fmt: skip
        else:
            moved, sweeps = _descend(
                q, gram, width, width, atoms, atoms, values, own_inverses, count, initial, energy, alpha,
                positive, still, scalar(noise), target, sweeps, max_iter,
            )  # fmt: skip
        for i in range(count):
            code[atoms[i]] = values[i]
        _renew(q, initial, gram, width, atoms, values, count)
        if moved == 0:
            # No further progress in this precision: evaluate the gap once more and stop.
            max_iter = sweeps


@inlined
def _descend(
    q, matrix, width, stride, places, atoms, z, inverses, count, initial, energy, alpha, positive, still, noise,
    target, sweeps, max_iter,
):  # fmt: skip
    """Sweeps over the working set until its own gap is small; returns the number of changes and of sweeps."""
    total = 0
    while sweeps < max_iter:
        moved = 0
        for _ in range(SWEEPS):
            moved = _sweep(
                q, matrix, width, stride, places, z, inverses, count, matrix.dtype.type(alpha), positive, still, noise
            )
            sweeps += 1
            total += moved
        if moved == 0:
            break
        if _certify(z, q, initial, places, atoms, count, energy, alpha, positive)[0] <= target:
            break
    return total, sweeps


@kernel
def pursue_l1(
    X, alphas, atoms, gram, inverses, positive, tol, max_iter, indices, values, counts, report, not_finite, block,
    next_block,
):
    """Code signals (n_signals, n_features) by the columns of `atoms` (n_features, width), block after block.

    Each thread calls this with the same arguments. `inverses` are the inverse squared norms of the atoms, 0 for zero
    atoms. `indices`, `values` and `report` have a row per signal; `not_finite` counts signals with NaN or infinity, for
    each block.
    """
    n, d = X.shape
    width, n_atoms = atoms.shape[1], inverses.size
    step = lanes(atoms)
    room = min(LARGEST_SET, -(-n_atoms // step) * step)
    products, code = aligned_zeros(block * width, atoms), zeros(n_atoms, atoms)
    work = (
        aligned_zeros(width, atoms), zeros(n_atoms, np.int64), zeros(n_atoms, np.int64),
        zeros(n_atoms, np.int64), zeros(n_atoms, atoms), zeros(n_atoms, atoms),
        aligned_zeros(room * room, atoms), aligned_zeros(room, atoms), zeros(n_atoms, atoms),
    )  # fmt: skip
    b = take_number(next_block)
    while b * block < n:
        lo, hi = b * block, min(n, (b + 1) * block)
        inner_products(X[lo:hi].reshape(-1), hi - lo, d, atoms.reshape(-1), width, products)
        for row in range(lo, hi):
            energy = 0.0
            for f in range(d):
                energy += np.float64(X[row, f]) * np.float64(X[row, f])
            if not energy < np.inf:
                not_finite[b] += 1
                continue
            start = (row - lo) * width
            report[row, GAP], report[row, OBJECTIVE], report[row, SWEEPS] = _solve_row(
                products[start : start + width], energy, gram, width, inverses, alphas[row], positive, tol, max_iter,
                code, work, resolution(atoms),
            )  # fmt: skip
            count = 0
            for j in range(n_atoms):
                if code[j] != 0:
                    indices[row, count] = j
                    values[row, count] = code[j]
                    code[j] = 0
                    count += 1
            counts[row] = count
        b = take_number(next_block)

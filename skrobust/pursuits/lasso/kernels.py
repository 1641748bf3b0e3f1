"""The lasso of many signals over one dictionary: coordinate descent on working sets, in the Gram domain.

The state of a signal is the correlations of all atoms with its residual. A round of the solver

1. computes the duality gap, and drops atoms whose coefficients it proves to be zero (gap-safe screening: O. Fercoq,
   A. Gramfort and J. Salmon, "Mind the duality gap", ICML 2015);
2. forms the working set of the nonzero and the most correlated atoms, and copies their part of the Gram matrix;
3. solves that small problem by coordinate descent, to a gap ten times smaller;
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

MIN_SHARE = 0.5
"""Atoms with a correlation of at least alpha, and of this share of the largest, join the working set."""

SWEEPS_PER_CHECK = 4
"""Sweeps between two evaluations of the gap."""

GAP, OBJECTIVE, SWEEPS = 0, 1, 2
"""Columns of `report`: duality gap, objective, number of sweeps."""


@inlined
def _shrink(value, threshold, positive):
    if value > threshold:
        return value - threshold
    if value < -threshold and not positive:
        return value + threshold
    return value - value


@inlined
def _sweep(q, matrix, width, stride, positions, z, inverses, count, alpha, positive, relative_noise, noise):
    """Minimise over each coordinate of the working set in turn; return how many changed by more than rounding.

    `relative_noise` is the relative rounding error of a coefficient, `noise` the absolute one of a correlation.
    """
    step, n_changed = lanes(matrix), 0
    for i in range(count):
        position, old, inverse = positions[i], read(z, i), read(inverses, i)
        new = _shrink(old + read(q, position) * inverse, alpha * inverse, positive)
        change = new - old
        if change != 0:
            write(z, i, new)
            n_changed += abs(change) > max(relative_noise * abs(new), noise * inverse)
            factor, row = broadcast(change), position * stride
            for v in range(0, width, step):
                store(q, v, fnma(factor, load(matrix, row + v), load(q, v)))
    return n_changed


@inlined
def _certify(z, q, initial, positions, atoms, count, energy, alpha, positive):
    """Duality gap of a code, its objective, and the factor that makes its residual feasible for the dual problem.

    With r the residual, q its correlations and s the factor, the gap is
    (1 - s)^2 ||r||^2 / 2 + alpha ||z||_1 - s z.q, which avoids cancellation.
    """
    largest, l1, z_dot_q, explained = 0.0, 0.0, 0.0, 0.0
    for i in range(count):
        value = np.float64(q[positions[i]])
        largest = max(largest, value if positive else abs(value))
        if z[i] != 0:
            coefficient = np.float64(z[i])
            l1 += abs(coefficient)
            z_dot_q += coefficient * value
            explained += coefficient * (value + np.float64(initial[atoms[i]]))
    squared = max(energy - explained, 0.0)
    factor = min(1.0, alpha / largest) if largest > 0 else 1.0
    gap = 0.5 * (1 - factor) ** 2 * squared + max(alpha * l1 - factor * z_dot_q, 0.0)
    return gap, 0.5 * squared + alpha * l1, factor


@inlined
def _update_correlations(q, initial, gram, width, atoms, z, count):
    """Correlations with the residual: ``initial - z @ gram``."""
    step = lanes(gram)
    for v in range(0, width, 4 * step):
        q0, q1 = load(initial, v), load(initial, v + step)
        q2, q3 = load(initial, v + 2 * step), load(initial, v + 3 * step)
        for i in range(count):
            value = read(z, i)
            if value != 0:
                factor, row = broadcast(value), atoms[i] * width + v
                q0, q1 = fnma(factor, load(gram, row), q0), fnma(factor, load(gram, row + step), q1)
                q2 = fnma(factor, load(gram, row + 2 * step), q2)
                q3 = fnma(factor, load(gram, row + 3 * step), q3)
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
def _solve_row(initial, energy, gram, width, inverses, alpha, positive, tol, max_iter, code, buffers, rounding):
    """Code of one signal from its correlations; returns the gap, the objective and the number of sweeps.

    `code` has one value per atom and is zero initially.
    """
    q, remaining, atoms, positions, values, own_inverses, part, part_q, remaining_values = buffers
    scalar = gram.dtype.type
    stride = part_q.size
    n_remaining, largest = 0, 0.0
    for j in range(inverses.size):
        if inverses[j] > 0:
            remaining[n_remaining] = j
            n_remaining += 1
            largest = max(largest, abs(np.float64(initial[j])))
    noise = 4 * rounding * largest
    relative_noise = scalar(2 * rounding)
    for v in range(0, width, lanes(gram)):
        store(q, v, load(initial, v))
    sweeps = 0
    while True:
        for i in range(n_remaining):
            remaining_values[i] = code[remaining[i]]
        gap, objective, factor = _certify(
            remaining_values, q, initial, remaining, remaining, n_remaining, energy, alpha, positive
        )
        if gap <= tol * objective or sweeps >= max_iter:
            return gap, objective, sweeps
        # If no dual point within sqrt(2 gap) of ours has correlation alpha with an atom, its coefficient is zero.
        radius, n_kept, largest, dropped = np.sqrt(2 * gap), 0, 0.0, False
        for i in range(n_remaining):
            j = remaining[i]
            value = np.float64(q[j]) if positive else abs(np.float64(q[j]))
            if factor * value + radius / np.sqrt(np.float64(inverses[j])) >= alpha - 4 * noise:
                remaining[n_kept] = j
                n_kept += 1
                largest = max(largest, value)
            elif code[j] != 0:
                code[j] = 0
                dropped = True
        n_remaining = n_kept
        bound, count = max(alpha, MIN_SHARE * largest), 0
        for i in range(n_remaining):
            j = remaining[i]
            value = q[j] if positive else abs(q[j])
            if code[j] != 0 or value >= bound:
                atoms[count] = j
                values[count] = code[j]
                own_inverses[count] = inverses[j]
                count += 1
        if dropped:
            _update_correlations(q, initial, gram, width, atoms, values, count)
        target = max(0.1 * gap, 0.3 * tol * objective)
        if count <= stride:
            end = _copy_part(gram, width, atoms, count, part, stride)
            for i in range(count):
                positions[i] = i
                part_q[i] = q[atoms[i]]
            for i in range(count, end):
                part_q[i] = 0
            n_changed, sweeps = _descend(
                part_q, part, end, stride, positions, atoms, values, own_inverses, count, initial, energy, alpha,
                positive, relative_noise, scalar(noise), target, sweeps, max_iter,
            )  # fmt: skip
        else:
            n_changed, sweeps = _descend(
                q, gram, width, width, atoms, atoms, values, own_inverses, count, initial, energy, alpha,
                positive, relative_noise, scalar(noise), target, sweeps, max_iter,
            )  # fmt: skip
        for i in range(count):
            code[atoms[i]] = values[i]
        _update_correlations(q, initial, gram, width, atoms, values, count)
        if n_changed == 0:
            # No further progress in this precision: evaluate the gap once more and stop.
            max_iter = sweeps


@inlined
def _descend(
    q, matrix, width, stride, positions, atoms, z, inverses, count, initial, energy, alpha, positive,
    relative_noise, noise, target, sweeps, max_iter,
):  # fmt: skip
    """Sweeps over the working set until its own gap is small; returns the number of changes and of sweeps."""
    total = 0
    while sweeps < max_iter:
        n_changed = 0
        for _ in range(SWEEPS_PER_CHECK):
            n_changed = _sweep(
                q, matrix, width, stride, positions, z, inverses, count, matrix.dtype.type(alpha), positive,
                relative_noise, noise,
            )  # fmt: skip
            sweeps += 1
            total += n_changed
        if n_changed == 0:
            break
        if _certify(z, q, initial, positions, atoms, count, energy, alpha, positive)[0] <= target:
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
    capacity = min(LARGEST_SET, -(-n_atoms // step) * step)
    products, code = aligned_zeros(block * width, atoms), zeros(n_atoms, atoms)
    buffers = (
        aligned_zeros(width, atoms), zeros(n_atoms, np.int64), zeros(n_atoms, np.int64),
        zeros(n_atoms, np.int64), zeros(n_atoms, atoms), zeros(n_atoms, atoms),
        aligned_zeros(capacity * capacity, atoms), aligned_zeros(capacity, atoms), zeros(n_atoms, atoms),
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
                code, buffers, resolution(atoms),
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

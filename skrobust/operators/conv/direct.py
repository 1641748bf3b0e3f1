"""Direct synthesis and analysis of many signals: a slice of the atoms stays in the cache and is used at all positions.

Small signals are processed in groups, so that there are enough positions.
"""

import numpy as np

from skrobust.kernels.products import inner_products
from skrobust.kernels.vectors import (
    add,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    load_all,
    store,
    take_number,
    zero_vector,
)
from skrobust.kernels.workspace import fill, part, pointer, workspace

from .kernels import add_wrapped_margins, copy_from_buffer, copy_into_buffer
from .plan import lanes_of
from .vectors import bits_nonzero, lowest_bit

DEPTH = 128
"""Values of an atom that are correlated with all positions at a time."""

DENSE = 0.4
"""Share of nonzero coefficients above which matrix products are faster than a list of coefficients."""


@inlined
def _eight(v, x, at, starts, sums):
    """Add products of a vector of atoms with the values at eight positions."""
    s0, s1, s2, s3, s4, s5, s6, s7 = starts
    a0, a1, a2, a3, a4, a5, a6, a7 = sums
    return (
        fma(v, load_all(x, s0 + at), a0),
        fma(v, load_all(x, s1 + at), a1),
        fma(v, load_all(x, s2 + at), a2),
        fma(v, load_all(x, s3 + at), a3),
        fma(v, load_all(x, s4 + at), a4),
        fma(v, load_all(x, s5 + at), a5),
        fma(v, load_all(x, s6 + at), a6),
        fma(v, load_all(x, s7 + at), a7),
    )


@inlined
def _load_eight(out, code_offsets, o, is_first):
    if is_first:
        zero = zero_vector(out)
        return zero, zero, zero, zero, zero, zero, zero, zero
    p0, p1, p2, p3, p4, p5, p6, p7 = code_offsets
    return (
        load(out, p0 + o),
        load(out, p1 + o),
        load(out, p2 + o),
        load(out, p3 + o),
        load(out, p4 + o),
        load(out, p5 + o),
        load(out, p6 + o),
        load(out, p7 + o),
    )


@inlined
def _store_eight(out, code_offsets, o, sums):
    p0, p1, p2, p3, p4, p5, p6, p7 = code_offsets
    a0, a1, a2, a3, a4, a5, a6, a7 = sums
    store(out, p0 + o, a0)
    store(out, p1 + o, a1)
    store(out, p2 + o, a2)
    store(out, p3 + o, a3)
    store(out, p4 + o, a4)
    store(out, p5 + o, a5)
    store(out, p6 + o, a6)
    store(out, p7 + o, a7)


@inlined
def _eight_of(values, p, last):
    """Eight entries from `p` on; the last one repeats if there are fewer."""
    return (
        values[p],
        values[min(p + 1, last)],
        values[min(p + 2, last)],
        values[min(p + 3, last)],
        values[min(p + 4, last)],
        values[min(p + 5, last)],
        values[min(p + 6, last)],
        values[min(p + 7, last)],
    )


@inlined
def _eight_codes(p, last, n_atoms):
    """Offsets of the codes of eight positions from `p` on; the last one repeats if there are fewer."""
    return (
        p * n_atoms,
        min(p + 1, last) * n_atoms,
        min(p + 2, last) * n_atoms,
        min(p + 3, last) * n_atoms,
        min(p + 4, last) * n_atoms,
        min(p + 5, last) * n_atoms,
        min(p + 6, last) * n_atoms,
        min(p + 7, last) * n_atoms,
    )


@kernel
def _correlate_slice(buffer, starts, n, taps, column, rows, plan, out):
    """Add the contribution of some rows of one or two vectors of atoms to the correlations at `n` positions."""
    width = lanes(buffer)
    two = column + 2 * width <= plan.padded_atoms
    row = plan.kernel_width * plan.channels
    size = 2 * width if two else width
    for p in range(0, n, 8):
        begins, targets = _eight_of(starts, p, n - 1), _eight_codes(p, n - 1, plan.padded_atoms)
        d = rows[0] * row * size
        sums = _load_eight(out, targets, column, rows[0] == 0)
        if two:
            others = _load_eight(out, targets, column + width, rows[0] == 0)
            for u in range(rows[0], rows[1]):
                for at in range(u * plan.pitch, u * plan.pitch + row):
                    sums = _eight(load(taps, d), buffer, at, begins, sums)
                    others = _eight(load(taps, d + width), buffer, at, begins, others)
                    d += size
            _store_eight(out, targets, column + width, others)
        else:
            for u in range(rows[0], rows[1]):
                for at in range(u * plan.pitch, u * plan.pitch + row):
                    sums = _eight(load(taps, d), buffer, at, begins, sums)
                    d += size
        _store_eight(out, targets, column, sums)


def position_starts(plan, group):
    """Offsets in the buffer of the atoms at each position of a group of signals."""
    rows = plan.first_row + plan.stride_down * np.arange(plan.code_height)
    columns = plan.first_column + plan.stride_right * np.arange(plan.code_width)
    signals = plan.rows * plan.pitch * np.arange(group)
    return (signals[:, None, None] + rows[:, None] * plan.pitch + columns * plan.channels).ravel()


def analysis_workspace(plan, group, dtype):
    """Workspace of one thread: buffers of a group of signals, and their codes if atoms are padded."""
    n_codes = plan.code_height * plan.code_width * plan.padded_atoms
    return workspace(dtype, group * plan.rows * plan.pitch, group * n_codes * (plan.atoms != plan.padded_atoms))


@kernel
def analyze_signals(signals, codes, taps, starts, plan, group, floats, next_group):
    """Correlations (n, n_positions * atoms) of signals (n, height * width * channels), `group` signals at a time."""
    width = lanes(taps)
    size = plan.rows * plan.pitch
    n_positions = plan.code_height * plan.code_width
    n_values, n_codes = signals.shape[1], codes.shape[1]
    buffer, padded_codes, starts = part(floats, 0), part(floats, 1), pointer(starts, 0)
    direct = plan.atoms == plan.padded_atoms
    fill(buffer, group * size, 0)
    n_taps = plan.kernel_height * plan.kernel_width * plan.channels
    depth = max(1, DEPTH // (plan.kernel_width * plan.channels))
    first = take_number(next_group) * group
    while first < signals.shape[0]:
        n = min(group, signals.shape[0] - first)
        for g in range(n):
            copy_into_buffer(pointer(signals, (first + g) * n_values), pointer(buffer, g * size), plan)
        out = pointer(codes, first * n_codes) if direct else padded_codes
        for u in range(0, plan.kernel_height, depth):
            rows = u, min(u + depth, plan.kernel_height)
            for column in range(0, plan.padded_atoms, 2 * width):
                own = pointer(taps, column * n_taps)
                _correlate_slice(buffer, starts, n * n_positions, own, column, rows, plan, out)
        if not direct:
            for p in range(n * n_positions):
                for k in range(plan.atoms):
                    codes[first + p // n_positions, p % n_positions * plan.atoms + k] = out[p * plan.padded_atoms + k]
        first = take_number(next_group) * group


@kernel
def _list_nonzeros(codes, n_positions, n_atoms, first_entries, atoms, values):
    """Atoms and values of the nonzero coefficients of a signal, position by position."""
    width = lanes(codes)
    n = 0
    for p in range(n_positions):
        first_entries[p] = n
        i = p * n_atoms
        k = 0
        while k + width <= n_atoms:
            bits = bits_nonzero(load(codes, i + k))
            while bits != 0:
                atom = k + lowest_bit(bits)
                bits &= bits - 1
                atoms[n], values[n] = atom, codes[i + atom]
                n += 1
            k += width
        while k < n_atoms:
            if codes[i + k] != 0:
                atoms[n], values[n] = k, codes[i + k]
                n += 1
            k += 1
    first_entries[n_positions] = n


@kernel
def _add_four(buffer, starts, n_positions, offsets, slab, first_entries, atoms, values):
    """Add four vectors of the listed atoms, at `offsets` from the starts of their positions."""
    width = lanes(buffer)
    o0, o1, o2, o3 = offsets
    for p in range(n_positions):
        j, end = first_entries[p], first_entries[p + 1]
        if j == end:
            continue
        at = starts[p]
        a0, a1 = load(buffer, at + o0), load(buffer, at + o1)
        a2, a3 = load(buffer, at + o2), load(buffer, at + o3)
        b0 = b1 = b2 = b3 = zero_vector(buffer)
        while j + 1 < end:  # two independent sums, because each addition waits for the previous one
            c, d = load_all(values, j), atoms[j] * 4 * width
            a0, a1 = fma(c, load(slab, d), a0), fma(c, load(slab, d + width), a1)
            a2, a3 = fma(c, load(slab, d + 2 * width), a2), fma(c, load(slab, d + 3 * width), a3)
            c, d = load_all(values, j + 1), atoms[j + 1] * 4 * width
            b0, b1 = fma(c, load(slab, d), b0), fma(c, load(slab, d + width), b1)
            b2, b3 = fma(c, load(slab, d + 2 * width), b2), fma(c, load(slab, d + 3 * width), b3)
            j += 2
        if j < end:
            c, d = load_all(values, j), atoms[j] * 4 * width
            a0, a1 = fma(c, load(slab, d), a0), fma(c, load(slab, d + width), a1)
            a2, a3 = fma(c, load(slab, d + 2 * width), a2), fma(c, load(slab, d + 3 * width), a3)
        store(buffer, at + o0, add(a0, b0))
        store(buffer, at + o1, add(a1, b1))
        store(buffer, at + o2, add(a2, b2))
        store(buffer, at + o3, add(a3, b3))


@kernel
def _add_one(buffer, starts, n_positions, offset, slab, first_entries, atoms, values):
    """Add one vector of the listed atoms, at `offset` from the starts of their positions."""
    width = lanes(buffer)
    for p in range(n_positions):
        j, end = first_entries[p], first_entries[p + 1]
        if j == end:
            continue
        at = starts[p] + offset
        a = load(buffer, at)
        b = c = d = zero_vector(buffer)
        while j + 3 < end:
            a = fma(load_all(values, j), load(slab, atoms[j] * width), a)
            b = fma(load_all(values, j + 1), load(slab, atoms[j + 1] * width), b)
            c = fma(load_all(values, j + 2), load(slab, atoms[j + 2] * width), c)
            d = fma(load_all(values, j + 3), load(slab, atoms[j + 3] * width), d)
            j += 4
        while j < end:
            a = fma(load_all(values, j), load(slab, atoms[j] * width), a)
            j += 1
        store(buffer, at, add(add(a, b), add(c, d)))


@kernel
def _add_products(buffer, n, size, starts, n_positions, n_atoms, offsets, slab, codes, products):
    """As `_add_four` for all atoms of `n` signals, `size` apart in the buffer, by a matrix product."""
    width = lanes(buffer)
    o0, o1, o2, o3 = offsets
    inner_products(codes, n * n_positions, n_atoms, slab, 4 * width, products)
    i = 0
    for g in range(n):
        for p in range(n_positions):
            at = g * size + starts[p]
            store(buffer, at + o0, add(load(buffer, at + o0), load(products, i)))
            store(buffer, at + o1, add(load(buffer, at + o1), load(products, i + width)))
            store(buffer, at + o2, add(load(buffer, at + o2), load(products, i + 2 * width)))
            store(buffer, at + o3, add(load(buffer, at + o3), load(products, i + 3 * width)))
            i += 4 * width


@inlined
def _offset(v, plan, width):
    """Offset of vector `v` of an atom from the start of its position."""
    return v // plan.row_vectors * plan.pitch + v % plan.row_vectors * width


def synthesis_workspaces(plan, group, dtype):
    """Workspaces of one thread: buffers, products and nonzero coefficients; dense flags, first entries and atoms."""
    n_positions = plan.code_height * plan.code_width
    n_codes = group * n_positions * plan.atoms
    return (
        workspace(dtype, group * plan.rows * plan.pitch, group * n_positions * 4 * lanes_of(dtype), n_codes),
        workspace(np.int64, group, group * (n_positions + 1), n_codes),
    )


@kernel
def synthesize_signals(codes, signals, slabs, starts, plan, group, workspaces, next_group):
    """Signals (n, height * width * channels) of codes (n, n_positions * atoms), `group` of them at a time."""
    floats, integers = workspaces
    width = lanes(slabs)
    size = plan.rows * plan.pitch
    n_positions, n_codes = plan.code_height * plan.code_width, codes.shape[1]
    n_vectors = plan.kernel_height * plan.row_vectors
    buffer, products, starts = part(floats, 0), part(floats, 1), pointer(starts, 0)
    is_dense, all_entries, all_atoms, all_values = (
        part(integers, 0),
        part(integers, 1),
        part(integers, 2),
        part(floats, 2),
    )
    first = take_number(next_group) * group
    while first < codes.shape[0]:
        n = min(group, codes.shape[0] - first)
        fill(buffer, group * size, 0)
        n_dense = 0
        for g in range(n):
            entries = pointer(all_entries, g * (n_positions + 1))
            atoms, values = pointer(all_atoms, g * n_codes), pointer(all_values, g * n_codes)
            _list_nonzeros(pointer(codes, (first + g) * n_codes), n_positions, plan.atoms, entries, atoms, values)
            is_dense[g] = entries[n_positions] > DENSE * n_codes
            n_dense += is_dense[g]
        slab = 0
        for v in range(0, n_vectors - 3, 4):
            four = pointer(slabs, slab)
            slab += plan.padded_atoms * 4 * width
            offsets = (
                _offset(v, plan, width),
                _offset(v + 1, plan, width),
                _offset(v + 2, plan, width),
                _offset(v + 3, plan, width),
            )
            # Dense codes in one matrix product, if all of them are.
            together = n if n_dense == n else 1
            for g in range(0, n, together):
                own = pointer(buffer, g * size)
                if is_dense[g]:
                    code = pointer(codes, (first + g) * n_codes)
                    _add_products(own, together, size, starts, n_positions, plan.atoms, offsets, four, code, products)
                else:
                    entries = pointer(all_entries, g * (n_positions + 1))
                    atoms, values = pointer(all_atoms, g * n_codes), pointer(all_values, g * n_codes)
                    _add_four(own, starts, n_positions, offsets, four, entries, atoms, values)
        for v in range(n_vectors // 4 * 4, n_vectors):
            one = pointer(slabs, slab)
            slab += plan.padded_atoms * width
            for g in range(n):
                own, offset = pointer(buffer, g * size), _offset(v, plan, width)
                entries = pointer(all_entries, g * (n_positions + 1))
                atoms, values = pointer(all_atoms, g * n_codes), pointer(all_values, g * n_codes)
                _add_one(own, starts, n_positions, offset, one, entries, atoms, values)
        for g in range(n):
            own = pointer(buffer, g * size)
            if plan.wraps:
                add_wrapped_margins(own, plan)
            copy_from_buffer(own, pointer(signals, (first + g) * signals.shape[1]), plan)
        first = take_number(next_group) * group

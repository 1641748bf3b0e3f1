"""Direct synthesis and analysis of many signals: a slice of the atoms stays in the cache and is used at all positions.

Small signals are processed in groups, so that there are enough positions.
"""

import numpy as np

from skrobust.kernels.products import inner_products
from skrobust.kernels.vectors import (
    add,
    aligned_zeros,
    broadcast,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    load_all,
    store,
    take_number,
)

from .kernels import add_wrapped_margins, copy_from_buffer, copy_into_buffer
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
        zero = broadcast(out.dtype.type(0))
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


@kernel
def _correlate_slice(buffer, starts, code_offsets, n, taps, column, rows, plan, out):
    """Add the contribution of some rows of one or two vectors of atoms to the correlations at `n` positions."""
    width = lanes(buffer)
    two = column + 2 * width <= plan.padded_atoms
    row = plan.kernel_width * plan.channels
    size = 2 * width if two else width
    for p in range(0, n, 8):
        begins, targets = _eight_of(starts, p, n - 1), _eight_of(code_offsets, p, n - 1)
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


@kernel
def _position_starts(group, plan):
    """Offsets in the buffer of the atoms at each position of a group of signals."""
    starts = np.empty(group * plan.code_height * plan.code_width, np.int64)
    i = 0
    for g in range(group):
        for y in range(plan.code_height):
            at = (g * plan.rows + plan.first_row + y * plan.stride_down) * plan.pitch
            for x in range(plan.code_width):
                starts[i] = at + (plan.first_column + x * plan.stride_right) * plan.channels
                i += 1
    return starts


@kernel
def analyze_signals(signals, codes, taps, plan, group, next_group):
    """Correlations (n, n_positions, atoms) of signals (n, height * width * channels), `group` signals at a time."""
    width = lanes(taps)
    size = plan.rows * plan.pitch
    n_positions = plan.code_height * plan.code_width
    buffer = aligned_zeros(group * size, taps)
    starts = _position_starts(group, plan)
    code_offsets = np.arange(group * n_positions) * plan.padded_atoms
    direct = plan.atoms == plan.padded_atoms
    padded_codes = aligned_zeros(0 if direct else group * n_positions * plan.padded_atoms, taps)
    n_taps = plan.kernel_height * plan.kernel_width * plan.channels
    depth = max(1, DEPTH // (plan.kernel_width * plan.channels))
    first = take_number(next_group) * group
    while first < signals.shape[0]:
        n = min(group, signals.shape[0] - first)
        for g in range(n):
            copy_into_buffer(signals[first + g], buffer[g * size : (g + 1) * size], plan)
        out = codes[first : first + n].reshape(-1) if direct else padded_codes
        for u in range(0, plan.kernel_height, depth):
            rows = u, min(u + depth, plan.kernel_height)
            for column in range(0, plan.padded_atoms, 2 * width):
                own = taps[column * n_taps : (column + 2 * width) * n_taps]
                _correlate_slice(buffer, starts, code_offsets, n * n_positions, own, column, rows, plan, out)
        if not direct:
            for g in range(n):
                for p in range(n_positions):
                    o = (g * n_positions + p) * plan.padded_atoms
                    for k in range(plan.atoms):
                        codes[first + g, p, k] = out[o + k]
        first = take_number(next_group) * group


@kernel
def _list_nonzeros(codes, first_entries, atoms, values):
    """Atoms and values of the nonzero coefficients of a signal, position by position."""
    width = lanes(codes)
    n_positions = first_entries.size - 1
    n_atoms = codes.size // n_positions
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
def _add_four(buffer, starts, offsets, slab, first_entries, atoms, values):
    """Add four vectors of the listed atoms, at `offsets` from the starts of their positions."""
    width = lanes(buffer)
    o0, o1, o2, o3 = offsets
    for p in range(first_entries.size - 1):
        j, end = first_entries[p], first_entries[p + 1]
        if j == end:
            continue
        at = starts[p]
        a0, a1 = load(buffer, at + o0), load(buffer, at + o1)
        a2, a3 = load(buffer, at + o2), load(buffer, at + o3)
        b0 = b1 = b2 = b3 = broadcast(buffer.dtype.type(0))
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
def _add_one(buffer, starts, offset, slab, first_entries, atoms, values):
    """Add one vector of the listed atoms, at `offset` from the starts of their positions."""
    width = lanes(buffer)
    for p in range(first_entries.size - 1):
        j, end = first_entries[p], first_entries[p + 1]
        if j == end:
            continue
        at = starts[p] + offset
        a = load(buffer, at)
        b = c = d = broadcast(buffer.dtype.type(0))
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
def _add_products(buffer, size, starts, offsets, slab, codes, products):
    """As `_add_four` for all atoms of signals `size` apart in the buffer, by a matrix product."""
    width = lanes(buffer)
    o0, o1, o2, o3 = offsets
    rows = codes.shape[0] * starts.size
    inner_products(codes.reshape(-1), rows, codes.size // rows, slab, 4 * width, products)
    i = 0
    for g in range(codes.shape[0]):
        for p in range(starts.size):
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


@kernel
def synthesize_signals(codes, signals, slabs, plan, group, next_group):
    """Signals (n, height * width * channels) of codes (n, n_positions * atoms), `group` of them at a time."""
    width = lanes(slabs)
    size = plan.rows * plan.pitch
    n_positions = plan.code_height * plan.code_width
    n_vectors = plan.kernel_height * plan.row_vectors
    buffer = aligned_zeros(group * size, slabs)
    starts = _position_starts(1, plan)
    first_entries = np.empty((group, n_positions + 1), np.int64)
    atoms = np.empty((group, codes.shape[1]), np.int64)
    values = np.empty((group, codes.shape[1]), codes.dtype)
    products = aligned_zeros(group * n_positions * 4 * width, slabs)
    dense = np.empty(group, np.bool_)
    first = take_number(next_group) * group
    while first < codes.shape[0]:
        n = min(group, codes.shape[0] - first)
        buffer[:] = 0
        for g in range(n):
            _list_nonzeros(codes[first + g], first_entries[g], atoms[g], values[g])
            dense[g] = first_entries[g, n_positions] > DENSE * codes.shape[1]
        all_dense = dense[:n].all()
        slab = 0
        for v in range(0, n_vectors - 3, 4):
            end = slab + plan.padded_atoms * 4 * width
            four = slabs[slab:end]
            offsets = (
                _offset(v, plan, width),
                _offset(v + 1, plan, width),
                _offset(v + 2, plan, width),
                _offset(v + 3, plan, width),
            )
            if all_dense:
                _add_products(buffer, size, starts, offsets, four, codes[first : first + n], products)
            else:
                for g in range(n):
                    own = buffer[g * size : (g + 1) * size]
                    if dense[g]:
                        _add_products(own, size, starts, offsets, four, codes[first + g : first + g + 1], products)
                    else:
                        _add_four(own, starts, offsets, four, first_entries[g], atoms[g], values[g])
            slab = end
        for v in range(n_vectors // 4 * 4, n_vectors):
            end = slab + plan.padded_atoms * width
            for g in range(n):
                own, offset = buffer[g * size : (g + 1) * size], _offset(v, plan, width)
                _add_one(own, starts, offset, slabs[slab:end], first_entries[g], atoms[g], values[g])
            slab = end
        for g in range(n):
            own = buffer[g * size : (g + 1) * size]
            if plan.wraps:
                add_wrapped_margins(own, plan)
            copy_from_buffer(own, signals[first + g], plan)
        first = take_number(next_group) * group

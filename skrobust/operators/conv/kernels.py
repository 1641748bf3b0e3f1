"""Signals in their buffers, and rows of correlations on explicit vectors: filters in the lanes, positions in
registers.
"""

from skrobust.kernels.vectors import broadcast, fma, inlined, kernel, lanes, load, load_all, store, zero_vector

from .plan import BLOCK


@kernel
def copy_into_buffer(signal, buffer, plan):
    """Copy a flat signal into its buffer; for circular padding the margins repeat it."""
    row = plan.width * plan.channels
    for r in range(plan.rows):
        y = r - plan.top
        if plan.wraps:
            y %= plan.height
        elif y < 0 or y >= plan.height:
            continue
        at = r * plan.pitch + plan.left * plan.channels
        for i in range(row):
            buffer[at + i] = signal[y * row + i]
        if plan.wraps:
            for i in range(1, plan.left * plan.channels + 1):
                buffer[at - i] = signal[y * row + row - 1 - (i - 1) % row]
            for i in range(2 * plan.left * plan.channels):
                buffer[at + row + i] = signal[y * row + i % row]


@kernel
def copy_from_buffer(buffer, signal, plan):
    """Copy a signal out of its buffer."""
    row = plan.width * plan.channels
    for y in range(plan.height):
        at = (y + plan.top) * plan.pitch + plan.left * plan.channels
        for i in range(row):
            signal[y * row + i] = buffer[at + i]


@inlined
def _correlate_two(buffer, start, step, columns, column, plan, out, o):
    """Correlations at eight positions with the atoms of two vectors."""
    width = lanes(buffer)
    zero = zero_vector(buffer)
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = zero
    row = plan.kernel_width * plan.channels
    d = column
    for u in range(plan.kernel_height):
        at = start + u * plan.pitch
        for _ in range(row):
            x = load(columns, d)
            y = load(columns, d + width)
            v = load_all(buffer, at)
            a0, b0 = fma(x, v, a0), fma(y, v, b0)
            v = load_all(buffer, at + step)
            a1, b1 = fma(x, v, a1), fma(y, v, b1)
            v = load_all(buffer, at + 2 * step)
            a2, b2 = fma(x, v, a2), fma(y, v, b2)
            v = load_all(buffer, at + 3 * step)
            a3, b3 = fma(x, v, a3), fma(y, v, b3)
            v = load_all(buffer, at + 4 * step)
            a4, b4 = fma(x, v, a4), fma(y, v, b4)
            v = load_all(buffer, at + 5 * step)
            a5, b5 = fma(x, v, a5), fma(y, v, b5)
            v = load_all(buffer, at + 6 * step)
            a6, b6 = fma(x, v, a6), fma(y, v, b6)
            v = load_all(buffer, at + 7 * step)
            a7, b7 = fma(x, v, a7), fma(y, v, b7)
            at += 1
            d += plan.padded_atoms
    n = plan.padded_atoms
    o += column
    _store_eight(out, o, n, a0, a1, a2, a3, a4, a5, a6, a7)
    _store_eight(out, o + width, n, b0, b1, b2, b3, b4, b5, b6, b7)


@inlined
def _correlate_one(buffer, start, step, columns, column, plan, out, o):
    """Correlations at eight positions with the atoms of one vector."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zero_vector(buffer)
    row = plan.kernel_width * plan.channels
    d = column
    for u in range(plan.kernel_height):
        at = start + u * plan.pitch
        for _ in range(row):
            x = load(columns, d)
            a0 = fma(x, load_all(buffer, at), a0)
            a1 = fma(x, load_all(buffer, at + step), a1)
            a2 = fma(x, load_all(buffer, at + 2 * step), a2)
            a3 = fma(x, load_all(buffer, at + 3 * step), a3)
            a4 = fma(x, load_all(buffer, at + 4 * step), a4)
            a5 = fma(x, load_all(buffer, at + 5 * step), a5)
            a6 = fma(x, load_all(buffer, at + 6 * step), a6)
            a7 = fma(x, load_all(buffer, at + 7 * step), a7)
            at += 1
            d += plan.padded_atoms
    _store_eight(out, o + column, plan.padded_atoms, a0, a1, a2, a3, a4, a5, a6, a7)


@inlined
def _store_eight(out, o, n, a0, a1, a2, a3, a4, a5, a6, a7):
    store(out, o, a0)
    store(out, o + n, a1)
    store(out, o + 2 * n, a2)
    store(out, o + 3 * n, a3)
    store(out, o + 4 * n, a4)
    store(out, o + 5 * n, a5)
    store(out, o + 6 * n, a6)
    store(out, o + 7 * n, a7)


@kernel
def correlate_block(buffer, row, x, columns, plan, out, o):
    """Correlations with all atoms at BLOCK positions of one row from the x-th on, into `out` from `o` on."""
    step = plan.stride_right * plan.channels
    start = (plan.first_row + row * plan.stride_down) * plan.pitch + plan.first_column * plan.channels + x * step
    width = lanes(buffer)
    column = 0
    while column + 2 * width <= plan.padded_atoms:
        _correlate_two(buffer, start, step, columns, column, plan, out, o)
        column += 2 * width
    if column < plan.padded_atoms:
        _correlate_one(buffer, start, step, columns, column, plan, out, o)


@kernel
def correlate_row(buffer, row, columns, plan, out):
    """Correlations with all atoms at the positions of one row, (code_width rounded up to blocks, padded_atoms)."""
    for x in range(0, plan.code_width, BLOCK):
        correlate_block(buffer, row, x, columns, plan, out, x * plan.padded_atoms)


def row_size(plan):
    """Size of a buffer for the correlations of one row of positions."""
    return (plan.code_width + BLOCK) * plan.padded_atoms


@kernel
def add_atom(buffer, at, vectors, a, plan, coefficient):
    """Add a multiple of an atom to a buffer."""
    width = lanes(buffer)
    c = broadcast(coefficient)
    for _ in range(plan.kernel_height):
        for q in range(0, plan.row_vectors * width, width):
            store(buffer, at + q, fma(c, load(vectors, a + q), load(buffer, at + q)))
        at += plan.pitch
        a += plan.row_vectors * width


@kernel
def add_wrapped_margins(buffer, plan):
    """For circular padding, add what was written after the end of the signal to its beginning."""
    row = plan.width * plan.channels
    for r in range(plan.top, plan.rows):
        at = r * plan.pitch + plan.left * plan.channels
        for i in range(row, row + plan.left * plan.channels):
            buffer[at + i % row] += buffer[at + i]
    for r in range(plan.top + plan.height, plan.height + 2 * plan.top):
        y = (r - plan.top) % plan.height + plan.top
        at = plan.left * plan.channels
        for i in range(at, at + row):
            buffer[y * plan.pitch + i] += buffer[r * plan.pitch + i]

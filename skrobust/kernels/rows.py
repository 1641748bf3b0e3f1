"""Rows of flat arrays inside the kernels: inner products and sums of signals and atoms."""

from .vectors import broadcast, fma, inlined, lanes, load, load_first, store, store_first, total


@inlined
def dot(a, i, b, j, size):
    """Inner product of ``a[i : i + size]`` and ``b[j : j + size]``, flat arrays of one dtype."""
    step = lanes(a)
    n_rest = size % step
    n_whole = size - n_rest
    even, odd = broadcast(a.dtype.type(0)), broadcast(a.dtype.type(0))
    f = 0
    while f + step < n_whole:
        even = fma(load(a, i + f), load(b, j + f), even)
        odd = fma(load(a, i + f + step), load(b, j + f + step), odd)
        f += 2 * step
    if f < n_whole:
        even = fma(load(a, i + f), load(b, j + f), even)
    if n_rest > 0:
        odd = fma(load_first(a, i + n_whole, n_rest), load_first(b, j + n_whole, n_rest), odd)
    return total(even) + total(odd)


@inlined
def add_scaled(target, t, scale, source, s, size):
    """``target[t : t + size] += scale * source[s : s + size]``, flat arrays of one dtype."""
    step = lanes(target)
    n_rest = size % step
    n_whole = size - n_rest
    factor = broadcast(scale)
    for f in range(0, n_whole, step):
        store(target, t + f, fma(factor, load(source, s + f), load(target, t + f)))
    if n_rest > 0:
        sums = fma(factor, load_first(source, s + n_whole, n_rest), load_first(target, t + n_whole, n_rest))
        store_first(target, t + n_whole, sums, n_rest)

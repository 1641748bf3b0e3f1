"""Inner products of signals with atoms inside the kernels.

At these sizes they are closer to peak performance than BLAS, whose threads would also compete with ours.
"""

from .vectors import fma, inlined, kernel, lanes, load, load_all, store, zero_vector

DEPTH = 96
"""Features processed at a time, so that four vectors of each stay in the first-level cache."""


@inlined
def _add_products(value, v0, v1, v2, v3, sums):
    return fma(value, v0, sums[0]), fma(value, v1, sums[1]), fma(value, v2, sums[2]), fma(value, v3, sums[3])


@inlined
def _load_sums(products, at, is_first):
    step = lanes(products)
    if is_first:
        zero = zero_vector(products)
        return zero, zero, zero, zero
    return (
        load(products, at),
        load(products, at + step),
        load(products, at + 2 * step),
        load(products, at + 3 * step),
    )


@inlined
def _store_sums(products, at, sums):
    step = lanes(products)
    store(products, at, sums[0])
    store(products, at + step, sums[1])
    store(products, at + 2 * step, sums[2])
    store(products, at + 3 * step, sums[3])


@kernel
def inner_products(x, n_rows, d, columns, width, products):
    """``products = x @ columns``, all flat: `n_rows` rows of length `d`, by `d` rows of length `width`.

    `width` is a multiple of four vectors.
    """
    step = lanes(x)
    for j in range(0, width, 4 * step):
        for first in range(0, d, DEPTH):
            last = min(d, first + DEPTH)
            for row in range(0, n_rows, 4):
                # The last row repeats if there are fewer than four.
                i1, i2, i3 = min(row + 1, n_rows - 1), min(row + 2, n_rows - 1), min(row + 3, n_rows - 1)
                sums0 = _load_sums(products, row * width + j, first == 0)
                sums1 = _load_sums(products, i1 * width + j, first == 0)
                sums2 = _load_sums(products, i2 * width + j, first == 0)
                sums3 = _load_sums(products, i3 * width + j, first == 0)
                at = first * width + j
                for f in range(first, last):
                    v0, v1 = load(columns, at), load(columns, at + step)
                    v2, v3 = load(columns, at + 2 * step), load(columns, at + 3 * step)
                    sums0 = _add_products(load_all(x, row * d + f), v0, v1, v2, v3, sums0)
                    sums1 = _add_products(load_all(x, i1 * d + f), v0, v1, v2, v3, sums1)
                    sums2 = _add_products(load_all(x, i2 * d + f), v0, v1, v2, v3, sums2)
                    sums3 = _add_products(load_all(x, i3 * d + f), v0, v1, v2, v3, sums3)
                    at += width
                _store_sums(products, row * width + j, sums0)
                _store_sums(products, i1 * width + j, sums1)
                _store_sums(products, i2 * width + j, sums2)
                _store_sums(products, i3 * width + j, sums3)

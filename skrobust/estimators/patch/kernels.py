"""Patch denoising on the CPU: patches are read from the image, coded and added to the result within one kernel.

The work is divided into bands of patch rows. Each band has its own sums, which are then added in order, so that the
result does not depend on the number of threads. Images have their channels first; all patches and atoms are flat.
"""

import numpy as np

from skrobust.kernels.memory import zeros, zeros_2d
from skrobust.kernels.products import inner_products
from skrobust.kernels.vectors import (
    add,
    aligned_zeros,
    blend_first,
    broadcast,
    fma,
    inlined,
    kernel,
    lanes,
    load,
    load_all,
    load_first,
    read,
    store_first,
    take_number,
    total,
)
from skrobust.pursuits.greedy.omp.kernels import pursue_rows, workspace


@inlined(optimized=True)
def read_patch(pixels, start, plane, width, patch_size, means, m, subtracts_means, patch, at):
    """Copy the patch at `start` minus its channel means to ``patch[at:]``, and return the squared norm of the copy."""
    step, scalar = lanes(pixels), pixels.dtype.type
    ph, pw = patch_size
    size = ph * pw
    zero = broadcast(scalar(0))
    squares = zero
    for c in range(means.shape[1]):
        source, target_start, sums = start + c * plane, at + c * size, zero
        for _ in range(ph):
            for x in range(0, pw, step):
                part = load_first(pixels, source + x, pw - x)
                store_first(patch, target_start + x, part, pw - x)
                sums = add(sums, part)
            source += width
            target_start += pw
        mean = total(sums) / scalar(size) if subtracts_means else scalar(0)
        means[m, c] = mean
        target_start, minus_mean = at + c * size, broadcast(-mean)
        for f in range(0, size, step):
            part = blend_first(add(load_first(patch, target_start + f, size - f), minus_mean), zero, size - f)
            store_first(patch, target_start + f, part, size - f)
            squares = fma(part, part, squares)
    return np.float64(total(squares))


@inlined(optimized=True)
def add_patch(sums, start, plane, width, patch_size, means, m, patch, at):
    """Add the patch at ``patch[at:]`` and the means of its channels to `sums` at `start`."""
    step = lanes(sums)
    ph, pw = patch_size
    for c in range(means.shape[1]):
        target_start, mean = start + c * plane, broadcast(means[m, c])
        for _ in range(ph):
            for x in range(0, pw, step):
                value = add(load_first(patch, at + x, pw - x), mean)
                store_first(sums, target_start + x, add(load_first(sums, target_start + x, pw - x), value), pw - x)
            target_start += width
            at += pw


@inlined(optimized=True)
def _add_mean(sums, start, plane, width, patch_size, means, m):
    """Add a patch that equals its channel means."""
    step = lanes(sums)
    ph, pw = patch_size
    for c in range(means.shape[1]):
        target_start, mean = start + c * plane, broadcast(means[m, c])
        for _ in range(ph):
            for x in range(0, pw, step):
                store_first(sums, target_start + x, add(load_first(sums, target_start + x, pw - x), mean), pw - x)
            target_start += width


@inlined(optimized=True)
def combine(components, d, indices, values, first, count, patch, at):
    """Write the sum of `count` atoms times their coefficients to ``patch[at:]``; rows of atoms are padded."""
    step, stride, flat = lanes(patch), components.shape[1], components.reshape(-1)
    for f in range(0, d, step):
        sums = broadcast(patch.dtype.type(0))
        for k in range(first, first + count):
            sums = fma(load_all(values, k), load(flat, np.int64(read(indices, k)) * stride + f), sums)
        store_first(patch, at + f, sums, d - f)


@kernel(optimized=True)
def _denoise_block(
    patches, means, offsets, patch_indices, n_rows, energies, patch_size, plane, width,
    atoms, gram, row, column, components, inv_norms, by_gain, squared_tols, max_atoms, products, indices, values,
    counts, sums, supports, sizes, tally, buffers,
):  # fmt: skip
    """Code the patches of a block and add their approximations to `sums` at their `offsets`."""
    d, width_of_atoms = patches.shape[1], atoms.shape[1]
    flat, columns = patches.reshape(-1), atoms.reshape(-1)
    empty, no_mask = zeros(0, atoms), zeros_2d(0, 0, np.bool_)
    inner_products(flat, n_rows, d, columns, width_of_atoms, products)
    pursue_rows(
        products, n_rows, width_of_atoms, energies, by_gain, 0.0, patches, no_mask, columns, empty,
        gram if gram.size > 0 else row, column, inv_norms, squared_tols,
        indices[: n_rows * max_atoms], values[: n_rows * max_atoms], counts, zeros_2d(0, 2, np.float64), tally, buffers,
    )  # fmt: skip
    for p in range(n_rows):
        combine(components, d, indices, values, p * max_atoms, counts[p], flat, p * d)
        add_patch(sums, offsets[p], plane, width, patch_size, means, p, flat, p * d)
        if sizes.size > 0:
            sizes[patch_indices[p]] = counts[p]
            for k in range(counts[p]):
                supports[patch_indices[p], k] = indices[p * max_atoms + k]


@kernel
def denoise_bands(
    images, tops, lefts, patch_size, band, subtracts_means, atoms, gram, components, inv_norms, by_gain, squared_tol,
    max_atoms, sums, supports, sizes, tally, block, next_unit,
):  # fmt: skip
    """Add the approximations of all patches to `sums`, band by band.

    Each thread calls this with the same arguments.

    Parameters
    ----------
    images : (n_images, n_channels, height, width)
    tops, lefts, patch_size, centred
        Start positions of the patches, their height and width, and whether their channel means are subtracted.
    band : int
        Number of rows of patches in a band.
    atoms, gram, scales : as in `pursue_signals`
    components : (n_atoms, n_features)
        Atoms, not normalised, with features padded to whole vectors.
    squared_tol : array of one value or none
    max_atoms : int
        Maximum number of atoms of a patch.
    sums : (n_images * n_bands, n_channels, rows of a band, width)
        Zeros.
    supports, sizes : (n_images * n_patches, max_atoms) and (n_images * n_patches,), or empty
        Atoms of each patch and their number.
    tally : (n_images * n_bands, 3)
        As in `pursue_signals`.
    block : int
        Number of patches coded at a time.
    next_unit : array of one number
        Number of the next band, counted over all images.
    """
    n_images, n_channels, height, width = images.shape
    n_columns, n_bands = lefts.size, -(-tops.size // band)
    rows = sums.shape[2]
    pixels, d = images.reshape(-1), n_channels * patch_size[0] * patch_size[1]
    has_tol = squared_tol.size > 0
    buffers = workspace(atoms, atoms.shape[1], max_atoms)
    products = aligned_zeros(block * atoms.shape[1], atoms)
    patches = aligned_zeros(block * d, atoms).reshape(block, d)
    flat = patches.reshape(-1)
    means = zeros_2d(block, n_channels, atoms)
    offsets, patch_indices, energies = zeros(block, np.int64), zeros(block, np.int64), zeros(block, np.float64)
    indices, values = zeros(block * max_atoms, np.int32), zeros(block * max_atoms, atoms)
    counts = zeros(block, np.int32)
    column = zeros(d if gram.size == 0 else 0, atoms)
    row = aligned_zeros(atoms.shape[1], atoms)
    squared_tols = zeros(block if has_tol else 0, np.float64)
    for p in range(squared_tols.size):
        squared_tols[p] = squared_tol[0]
    unit = take_number(next_unit)
    while unit < n_images * n_bands:
        image = unit // n_bands
        first = (unit - image * n_bands) * band
        target = sums[unit].reshape(-1)
        n_patches = (min(tops.size, first + band) - first) * n_columns
        n = 0
        for place in range(n_patches + 1):
            if n == block or (place == n_patches and n > 0):
                _denoise_block(
                    patches, means, offsets, patch_indices, n, energies, patch_size, rows * width, width,
                    atoms, gram, row, column, components, inv_norms, by_gain, squared_tols, max_atoms, products,
                    indices, values, counts, target, supports, sizes, tally[unit], buffers,
                )  # fmt: skip
                n = 0
            if place == n_patches:
                break
            r, c = first + place // n_columns, place % n_columns
            start = (image * n_channels * height + tops[r]) * width + lefts[c]
            energy = read_patch(
                pixels, start, height * width, width, patch_size, means, n, subtracts_means, flat, n * d
            )
            offsets[n] = (tops[r] - tops[first]) * width + lefts[c]
            if energy == 0 or (has_tol and energy <= squared_tol[0]):
                _add_mean(target, offsets[n], rows * width, width, patch_size, means, n)
                continue
            energies[n], patch_indices[n] = energy, (image * tops.size + r) * n_columns + c
            n += 1
        unit = take_number(next_unit)


@kernel
def merge_bands(sums, tops, band, rows_of_patch, result, next_row):
    """Add the bands of each image in order; `result` is (n_images, n_channels, height, width)."""
    n_images, n_channels, height, width = result.shape
    n_bands = -(-tops.size // band)
    number = take_number(next_row)
    while number < n_images * height:
        image = number // height
        y = number - image * height
        for c in range(n_channels):
            for x in range(width):
                result[image, c, y, x] = 0
        for b in range(n_bands):
            top = tops[b * band]
            bottom = tops[min(tops.size, (b + 1) * band) - 1] + rows_of_patch
            if top <= y < bottom:
                for c in range(n_channels):
                    for x in range(width):
                        result[image, c, y, x] += sums[image * n_bands + b, c, y - top, x]
        number = take_number(next_row)

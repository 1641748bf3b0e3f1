"""The derivative of patch denoising for fixed atoms of each patch: transposed projections."""

import numpy as np

from skrobust.kernels.memory import zeros, zeros_2d
from skrobust.kernels.vectors import aligned_zeros, broadcast, fma, inlined, kernel, lanes, load, take_number, total

from .kernels import add_patch, combine, read_patch


@inlined
def _inner(a, i, b, j, size):
    """Inner product of padded rows."""
    sums = broadcast(a.dtype.type(0))
    for f in range(0, size, lanes(a)):
        sums = fma(load(a, i + f), load(b, j + f), sums)
    return np.float64(total(sums))


@kernel
def _coefficients(components, support, patch, factor, solution):
    """Least squares on the atoms of a `support`: Cholesky's factor of their Gram matrix, then two substitutions."""
    stride, atoms = components.shape[1], components.reshape(-1)
    for p in range(support.size):
        row = np.int64(support[p]) * stride
        solution[p] = _inner(atoms, row, patch, 0, stride)
        for q in range(p + 1):
            value = _inner(atoms, row, atoms, np.int64(support[q]) * stride, stride)
            for s in range(q):
                value -= factor[p, s] * factor[q, s]
            factor[p, q] = np.sqrt(value) if p == q else value / factor[q, q]
        for q in range(p):
            solution[p] -= factor[p, q] * solution[q]
        solution[p] /= factor[p, p]
    for p in range(support.size - 1, -1, -1):
        for q in range(p + 1, support.size):
            solution[p] -= factor[q, p] * solution[q]
        solution[p] /= factor[p, p]


@kernel
def project_bands(images, tops, lefts, patch_size, band, subtracts_means, components, supports, sizes, sums, next_unit):
    """Add to `sums` the transposed projections of all patches; arguments as in `denoise_bands`.

    With M the mean of each channel and P the projection on the atoms of a patch, denoising maps a patch x to
    M x + P (x - M x). The transpose maps x to M x + P x - M P x.
    """
    n_images, n_channels, height, width = images.shape
    n_columns, n_bands = lefts.size, -(-tops.size // band)
    rows, area = sums.shape[2], patch_size[0] * patch_size[1]
    pixels, d = images.reshape(-1), n_channels * area
    patch, approximation = aligned_zeros(components.shape[1], images), aligned_zeros(components.shape[1], images)
    means = zeros_2d(1, n_channels, images)
    factor = zeros_2d(supports.shape[1], supports.shape[1], np.float64)
    solution, values = zeros(supports.shape[1], np.float64), zeros(supports.shape[1], images)
    unit = take_number(next_unit)
    while unit < n_images * n_bands:
        image = unit // n_bands
        first = (unit - image * n_bands) * band
        target = sums[unit].reshape(-1)
        for r in range(first, min(tops.size, first + band)):
            for c in range(n_columns):
                patch_index = (image * tops.size + r) * n_columns + c
                start = (image * n_channels * height + tops[r]) * width + lefts[c]
                read_patch(pixels, start, height * width, width, patch_size, means, 0, False, patch, 0)
                k = np.int64(sizes[patch_index])
                _coefficients(components, supports[patch_index, :k], patch, factor, solution)
                for p in range(k):
                    values[p] = solution[p]
                combine(components, d, supports[patch_index], values, 0, k, approximation, 0)
                if subtracts_means:
                    for channel in range(n_channels):
                        mean = 0.0
                        for f in range(channel * area, (channel + 1) * area):
                            mean += np.float64(patch[f]) - np.float64(approximation[f])
                        means[0, channel] = mean / area
                offset = (tops[r] - tops[first]) * width + lefts[c]
                add_patch(target, offset, rows * width, width, patch_size, means, 0, approximation, 0)
        unit = take_number(next_unit)

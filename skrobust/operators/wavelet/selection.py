"""The K largest magnitudes of an array: the selection inside the wavelet kernels."""

from skrobust.kernels.vectors import (
    absolute,
    count_at_least,
    from_bits,
    keep_at_least,
    kernel,
    lanes,
    largest,
    load,
    maximum,
    pack_at_least,
    resolution,
    store,
    to_bits,
)

TIE_ROUNDINGS = 16
"""Magnitudes closer than this many rounding errors of the largest count as equal; the first positions are kept."""


def group_count(k):
    """Groups whose maxima bound the k-th largest magnitude from below."""
    return max(128, -(-2 * k // 64) * 64)


@kernel
def _count(values, size, threshold):
    total = 0
    for v in range(0, size, lanes(values)):
        total += count_at_least(load(values, v), threshold)
    return total


@kernel
def _group_maxima(values, size, maxima):
    width = lanes(values)
    for g in range(0, maxima.size, width):
        maximum_value = absolute(load(values, g))
        for v in range(g + maxima.size, size, maxima.size):
            maximum_value = maximum(maximum_value, absolute(load(values, v)))
        store(maxima, g, maximum_value)


@kernel
def _overall_maximum(values, size):
    maximum_value = absolute(load(values, 0))
    for v in range(lanes(values), size, lanes(values)):
        maximum_value = maximum(maximum_value, absolute(load(values, v)))
    return largest(maximum_value)


@kernel
def _lower_bound(maxima, k, maximum_value, bits_per_octave):
    """Bits of a value that at least `k`, and not many more, of the group maxima reach."""
    high = to_bits(maximum_value) + 1
    low = 0
    step = bits_per_octave
    while True:  # double the step down from the largest, then bisect
        middle = high - step if low == 0 else low + ((high - low) >> 1)
        if middle <= 0 or high - low <= 1:
            return low
        count = _count(maxima, maxima.size, from_bits(middle, maximum_value))
        if count >= k:
            low = middle
            if count <= k + (k >> 3):
                return low
        else:
            high = middle
            step <<= 1


@kernel
def _kth_largest(packed, size, k, low, maximum_value, bits_per_octave):
    """K-th largest of the magnitudes `packed`, of which at least `k` reach the value with the bits `low`."""
    high = to_bits(maximum_value) + 1
    step = bits_per_octave >> 4
    is_galloping = True
    while high - low > 1:
        middle = min(low + step, high - 1) if is_galloping else low + ((high - low) >> 1)
        count = _count(packed, size, from_bits(middle, maximum_value))
        if count >= k:
            low = middle
            step <<= 1
            if count == k:
                threshold = from_bits(low, maximum_value)
                kth_largest = maximum_value
                for i in range(size):
                    if threshold <= packed[i] < kth_largest:
                        kth_largest = packed[i]
                return kth_largest
        else:
            high = middle
            is_galloping = False
    return from_bits(low, maximum_value)


@kernel
def _resolve_ties(values, size, k, kth_largest, tolerance):
    """Of the magnitudes within `tolerance` of the k-th largest, keep the first ones, so that `k` remain in total."""
    n_above = 0
    for i in range(size):
        if abs(values[i]) > kth_largest + tolerance:
            n_above += 1
    n_ties_left = k - n_above
    for i in range(size):
        magnitude = abs(values[i])
        if magnitude != 0 and magnitude <= kth_largest + tolerance:
            if n_ties_left > 0:
                n_ties_left -= 1
            else:
                values[i] = 0


@kernel
def keep_largest(values, size, k, maxima, packed):
    """Zero all but the `k` entries of largest magnitude of the flat `values[:size]`, in place.

    `size` is a multiple of the lanes; `maxima` has `group_count(k)` entries, `packed` `size` + lanes.
    """
    width = lanes(values)
    if k >= size:
        return
    has_groups = 2 * maxima.size <= size
    if has_groups:
        _group_maxima(values, size, maxima)
    maximum_value = _overall_maximum(maxima, maxima.size) if has_groups else _overall_maximum(values, size)
    if maximum_value == 0:
        return
    bits_per_octave = 1 << (23 if values.itemsize == 4 else 52)
    low = _lower_bound(maxima, k, maximum_value, bits_per_octave) if has_groups else 0
    threshold = from_bits(low, maximum_value)
    n_packed = 0
    for v in range(0, size, width):
        n_packed = pack_at_least(packed, n_packed, load(values, v), threshold)
    # Whole vectors are counted: clear what an earlier signal left after the last value.
    padded = -(-n_packed // width) * width
    for i in range(n_packed, padded):
        packed[i] = 0
    kth_largest = _kth_largest(packed, padded, k, low, maximum_value, bits_per_octave)
    tolerance = maximum_value * values.dtype.type(TIE_ROUNDINGS * resolution(values))
    n_kept = 0
    lowest = kth_largest - tolerance
    for v in range(0, size, width):
        vector = load(values, v)
        n_kept += count_at_least(vector, lowest)
        store(values, v, keep_at_least(vector, lowest))
    if n_kept > k:
        _resolve_ties(values, size, k, kth_largest, tolerance)

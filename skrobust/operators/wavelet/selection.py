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
"""Magnitudes closer than this many roundings of the largest are equal: then the position decides, on every machine."""


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
        top = absolute(load(values, g))
        for v in range(g + maxima.size, size, maxima.size):
            top = maximum(top, absolute(load(values, v)))
        store(maxima, g, top)


@kernel
def _overall_maximum(values, size):
    top = absolute(load(values, 0))
    for v in range(lanes(values), size, lanes(values)):
        top = maximum(top, absolute(load(values, v)))
    return largest(top)


@kernel
def _lower_bound(maxima, k, top, octave):
    """Bits of a value that at least `k` of the group maxima reach, and few more than `k`."""
    high = to_bits(top) + 1
    low = 0
    step = octave
    while True:  # gallop down from the largest, then bisect
        middle = high - step if low == 0 else low + ((high - low) >> 1)
        if middle <= 0 or high - low <= 1:
            return low
        count = _count(maxima, maxima.size, from_bits(middle, top))
        if count >= k:
            low = middle
            if count <= k + (k >> 3):
                return low
        else:
            high = middle
            step <<= 1


@kernel
def _kth_largest(packed, size, k, low, top, octave):
    """K-th largest of the magnitudes `packed`, of which at least `k` reach the value with the bits `low`."""
    high = to_bits(top) + 1
    step = octave >> 4
    galloping = True
    while high - low > 1:
        middle = min(low + step, high - 1) if galloping else low + ((high - low) >> 1)
        count = _count(packed, size, from_bits(middle, top))
        if count >= k:
            low = middle
            step <<= 1
            if count == k:
                threshold = from_bits(low, top)
                kth = top
                for i in range(size):
                    if threshold <= packed[i] < kth:
                        kth = packed[i]
                return kth
        else:
            high = middle
            galloping = False
    return from_bits(low, top)


@kernel
def _settle_ties(values, size, k, kth, tie):
    """Among the magnitudes within `tie` of the k-th largest keep the first, so that `k` remain in all."""
    above = 0
    for i in range(size):
        if abs(values[i]) > kth + tie:
            above += 1
    room = k - above
    for i in range(size):
        magnitude = abs(values[i])
        if magnitude != 0 and magnitude <= kth + tie:
            if room > 0:
                room -= 1
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
    top = _overall_maximum(maxima, maxima.size) if has_groups else _overall_maximum(values, size)
    if top == 0:
        return
    octave = 1 << (23 if values.itemsize == 4 else 52)
    low = _lower_bound(maxima, k, top, octave) if has_groups else 0
    threshold = from_bits(low, top)
    n_packed = 0
    for v in range(0, size, width):
        n_packed = pack_at_least(packed, n_packed, load(values, v), threshold)
    # Only whole vectors are counted: what an earlier signal left behind the last value must not be.
    padded = -(-n_packed // width) * width
    for i in range(n_packed, padded):
        packed[i] = 0
    kth = _kth_largest(packed, padded, k, low, top, octave)
    tie = top * values.dtype.type(TIE_ROUNDINGS * resolution(values))
    kept = 0
    lowest = kth - tie
    for v in range(0, size, width):
        vector = load(values, v)
        kept += count_at_least(vector, lowest)
        store(values, v, keep_at_least(vector, lowest))
    if kept > k:
        _settle_ties(values, size, k, kth, tie)

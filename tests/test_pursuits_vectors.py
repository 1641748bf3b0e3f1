"""The vector functions, and the selection built on them, against NumPy; explicit vectors against plain numba."""

import os
import subprocess
import sys

import llvmlite.binding
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skrobust.kernels import vectors as _vectors
from skrobust.kernels.vectors import kernel
from skrobust.operators.wavelet import selection as _selection
from skrobust.operators.wavelet.selection import group_count, keep_largest

DTYPES = [np.float32, np.float64]
LANES = {np.float32: 16, np.float64: 8} if _vectors.EXPLICIT else {np.float32: 1, np.float64: 1}


@kernel
def _arithmetic(a, b, c, out, count):
    x, y, z = _vectors.load(a, 0), _vectors.load(b, 0), _vectors.load(c, 0)
    n = _vectors.lanes(a)
    _vectors.store(out, 0, _vectors.fma(x, y, z))
    _vectors.store(out, n, _vectors.maximum(x, y))
    _vectors.store(out, 2 * n, _vectors.minimum(x, y))
    _vectors.store(out, 3 * n, _vectors.absolute(x))
    _vectors.store(out, 4 * n, _vectors.add(x, _vectors.load_all(b, 1)))
    _vectors.store(out, 5 * n, _vectors.broadcast(a[0]))
    _vectors.store(out, 6 * n, _vectors.load_first(a, 0, count))
    _vectors.store_first(out, 7 * n, x, count)
    return _vectors.largest(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype):
    n = LANES[dtype]
    a, b, c = np.random.default_rng(0).normal(size=(3, n + 1)).astype(dtype)
    out = np.full(8 * n, 7, dtype=dtype)
    count = max(1, n // 2 - 1)
    top = _arithmetic(a, b, c, out, count)
    x, y, z = a[:n], b[:n], c[:n]
    first = np.arange(n) < count
    expected = [
        x.astype(np.longdouble) * y + z,
        np.maximum(x, y),
        np.minimum(x, y),
        np.abs(x),
        x + b[1],
        np.full(n, a[0]),
        np.where(first, x, 0),
        np.where(first, x, 7),
    ]
    np.testing.assert_allclose(out, np.concatenate(expected).astype(dtype), rtol=4 * np.finfo(dtype).eps)
    assert top == x.max()


@kernel
def _transpose(a, b, height, width):
    step = _vectors.lanes(a)
    for i in range(0, height, step):
        for j in range(0, width, step):
            _vectors.transpose_block(a, i * width + j, width, b, j * height + i, height)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype):
    a = np.random.default_rng(0).normal(size=(32, 48)).astype(dtype)
    b = np.zeros((48, 32), dtype)
    _transpose(a.ravel(), b.reshape(-1), 32, 48)
    np.testing.assert_array_equal(b, a.T)


@kernel
def _pack(a, out, threshold):
    n, count = 0, 0
    for v in range(0, a.size, _vectors.lanes(a)):
        vector = _vectors.load(a, v)
        n = _vectors.pack_at_least(out, n, vector, threshold)
        count += _vectors.count_at_least(vector, threshold)
        _vectors.store(a, v, _vectors.keep_at_least(vector, threshold))
    return n, count


@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_count_keep(dtype):
    a = np.random.default_rng(1).normal(size=64).astype(dtype)
    before, out = a.copy(), np.zeros(80, dtype)
    n, count = _pack(a, out, dtype(0.7))
    selected = np.abs(before) >= dtype(0.7)
    assert n == count == selected.sum()
    np.testing.assert_array_equal(out[:n], np.abs(before[selected]))
    np.testing.assert_array_equal(a, np.where(selected, before, 0))


@kernel
def _more_arithmetic(a, b, c, out):
    x, y, z = _vectors.load(a, 0), _vectors.load(b, 0), _vectors.load(c, 0)
    n = _vectors.lanes(a)
    _vectors.store(out, 0, _vectors.multiply(x, y))
    _vectors.store(out, n, _vectors.divide(x, y))
    _vectors.store(out, 2 * n, _vectors.fnma(x, y, z))
    _vectors.store(out, 3 * n, _vectors.where_greater(x, y, z, _vectors.lane_numbers(a)))
    _vectors.write(out, 4 * n, _vectors.read(a, n - 1))
    return _vectors.total(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_arithmetic(dtype):
    n = LANES[dtype]
    a, b, c = np.random.default_rng(0).normal(size=(3, n)).astype(dtype)
    out = np.zeros(4 * n + 1, dtype)
    sum_of_lanes = _more_arithmetic(a, b, c, out)
    expected = [a * b, a / b, c - a.astype(np.longdouble) * b, np.where(a > b, c, np.arange(n)), a[-1:]]
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(out, np.concatenate(expected).astype(dtype), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(sum_of_lanes, a.sum(), rtol=tolerance, atol=n * tolerance)


@kernel
def _first_largest(values, positions):
    return _vectors.first_largest(_vectors.load(values, 0), _vectors.load(positions, 0))


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(DTYPES), levels=st.sampled_from([1, 2, 5, 1000]))
def test_first_largest(seed, dtype, levels):
    """The largest lane; of several equal ones the smallest position, whichever lane it is in."""
    rng = np.random.default_rng(seed)
    n = LANES[dtype]
    values, positions = rng.integers(-3, levels, n).astype(dtype), rng.permutation(2**24)[:n].astype(dtype)
    top, position = _first_largest(values, positions)
    assert top == values.max()
    assert position == positions[values == top].min()


@kernel
def _draw(counter, taken):
    number = _vectors.take_number(counter)
    while number < taken.size:
        taken[number] += 1
        number = _vectors.take_number(counter)


def test_take_number_gives_each_number_once():
    from skrobust.kernels.threads import on_threads

    taken = np.zeros(100_000, dtype=np.int64)
    on_threads(lambda taken, counter: _draw(counter, taken), taken, n_pieces=8)
    np.testing.assert_array_equal(taken, 1)


def _keep_largest_slowly(values, k):
    """The rule in words: those clearly above the k-th largest, then those equal to within rounding, in order."""
    magnitudes = np.abs(values)
    kth = np.sort(magnitudes)[-k]
    tie = _selection.TIE_ROUNDINGS * np.finfo(values.dtype).eps * magnitudes.max()
    above = magnitudes > kth + tie
    equal = (magnitudes >= kth - tie) & ~above
    keep = above | (equal & (np.cumsum(equal) <= k - above.sum()))
    return np.where(keep, values, 0)


@given(
    seed=st.integers(0, 10**6),
    n_vectors=st.integers(1, 80),
    share=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["normal", "ties", "sparse", "wide", "zeros", "constant"]),
)
def test_keep_largest(seed, n_vectors, share, dtype, kind):
    rng = np.random.default_rng(seed)
    n = 16 * n_vectors
    values = rng.normal(size=n)
    values = {
        "normal": values,
        "ties": np.round(values * 2),
        "sparse": values * (rng.random(n) < 0.1),
        "wide": values * 10.0 ** rng.integers(-25, 25, size=n),
        "zeros": np.zeros(n),
        "constant": np.full(n, -3.0),
    }[kind].astype(dtype)
    k = max(1, int(share * n))
    result = values.copy()
    keep_largest(result, n, k, np.empty(group_count(k), dtype), np.empty(n + 16, dtype))
    expected = _keep_largest_slowly(values, k)
    assert np.count_nonzero(result) == min(k, np.count_nonzero(expected), np.count_nonzero(values))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.skipif(not _vectors.EXPLICIT, reason="needs explicit vectors")
def test_kernels_use_the_widest_registers():
    features = llvmlite.binding.get_host_cpu_features()
    if not features.get("avx512f"):
        pytest.skip("this machine has no 512-bit registers")
    fresh = numba.njit(keep_largest.py_func)  # the code of a cached kernel cannot be inspected
    fresh(np.zeros(64, np.float32), 64, 3, np.empty(128, np.float32), np.empty(80, np.float32))
    assembly = "".join(fresh.inspect_asm().values())
    assert assembly.count("zmm") > 10


_COMPARE = """
import numpy as np
from skrobust.operators import WaveletBasis
from skrobust.kernels import vectors as _vectors
from skrobust.pursuits import orthogonal_mp
rng = np.random.default_rng(0)
out = [np.array([_vectors.EXPLICIT])]
for grid, level in (((28, 27), 3), ((16, 16), 2), ((45,), 2)):
    X = rng.normal(size=(5, *grid, 2)).astype(np.float32)
    out.append(WaveletBasis("db3", grid, level).sparsify(X, [7, 30], clip=(-1, 1)))
X, components = rng.normal(size=(40, 13)), rng.normal(size=(37, 13))
for selection in ("omp", "ols"):
    out.append(orthogonal_mp(X, components, n_nonzero_coefs=3, selection=selection, sparse_output=False))
np.savez({path!r}, *out)
"""


def test_plain_numba_agrees(tmp_path):
    results = []
    for explicit in ("0", "1"):
        path = str(tmp_path / f"{explicit}.npz")
        environment = {**os.environ, "SKROBUST_EXPLICIT_VECTORS": explicit}
        subprocess.run([sys.executable, "-c", _COMPARE.format(path=path)], check=True, env=environment)
        with np.load(path) as stored:
            results.append([stored[name] for name in stored.files])
    assert [bool(r[0][0]) for r in results] == [False, True]
    for plain, explicit in zip(results[0][1:], results[1][1:], strict=True):
        np.testing.assert_allclose(plain, explicit, atol=20 * np.finfo(plain.dtype).eps)

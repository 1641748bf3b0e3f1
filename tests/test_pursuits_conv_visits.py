"""Coordinate descent on one atom, for every atom shape with specialised code, and its working set."""

import os
import subprocess
import sys

import numpy as np
import pytest

from skrobust.kernels.vectors import kernel
from skrobust.operators import ConvolutionalOperator
from skrobust.operators.conv.plan import lanes_of
from skrobust.operators.conv.vectors import SHAPES, add_multiple, inner_product, minimise_over, shape_number
from skrobust.pursuits.lasso.conv.working_set import drop_zeros, working_set_of_code, working_set_sizes, write_code


@kernel
def _inner(buffer, at, pitch, vectors, a, number):
    return inner_product(buffer, at, pitch, vectors, a, number)


@kernel
def _add(buffer, at, pitch, vectors, a, valid, number, coefficient):
    if valid.size > 0:
        add_multiple(buffer, at, pitch, vectors, a, valid, number, coefficient)
    else:
        add_multiple(buffer, at, pitch, vectors, a, None, number, coefficient)


@kernel
def _minimise(buffer, at, pitch, vectors, a, valid, number, old, square, low, high):
    inverse = 1 / square
    if valid.size > 0:
        return minimise_over(buffer, at, pitch, vectors, a, valid, number, old, square, inverse, low, high)
    return minimise_over(buffer, at, pitch, vectors, a, None, number, old, square, inverse, low, high)


def test_numbers_of_shapes():
    assert [shape_number(*shape) for shape in SHAPES] == list(range(1, len(SHAPES) + 1))
    assert shape_number(13, 1) == shape_number(9, 3) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_atoms_of_every_shape(dtype, masked):
    rng = np.random.default_rng(0)
    close = {"rtol": 100 * np.finfo(dtype).eps, "atol": 100 * np.finfo(dtype).eps}
    for rows, row_vectors in SHAPES:
        number, row = shape_number(rows, row_vectors), row_vectors * lanes_of(dtype)
        pitch, at, a = row + 5, 3, 2
        buffer, vectors = (
            rng.normal(size=(rows + 1) * pitch).astype(dtype),
            rng.normal(size=rows * row + 4).astype(dtype),
        )
        valid = (rng.random(buffer.size) < 0.7).astype(dtype) if masked else np.empty(0, dtype)
        positions = at + pitch * np.arange(rows)[:, None] + np.arange(row)
        atom = vectors[a : a + rows * row].reshape(rows, row)
        masked_atom = atom * valid[positions] if masked else atom
        inner = float((atom.astype(float) * buffer[positions]).sum())
        np.testing.assert_allclose(_inner(buffer, at, pitch, vectors, a, number), inner, **close)

        changed, expected = buffer.copy(), buffer.copy()
        _add(changed, at, pitch, vectors, a, valid, number, dtype(1.5))
        expected[positions] += dtype(1.5) * masked_atom
        np.testing.assert_allclose(changed, expected, **close)

        old, square = dtype(0.25), dtype((masked_atom.astype(float) ** 2).sum() + 0.1)
        value = inner + float(old) * float(square)
        for low, high in ((-0.5 * abs(value), 0.5 * abs(value)), (-2 * abs(value), 2 * abs(value)), (-np.inf, 0.1)):
            changed, expected = buffer.copy(), buffer.copy()
            new = _minimise(changed, at, pitch, vectors, a, valid, number, old, square, dtype(low), dtype(high))
            wanted = (value - np.clip(value, low, high)) / float(square)
            np.testing.assert_allclose(new, wanted, **close)
            expected[positions] += dtype(float(old) - wanted) * masked_atom
            np.testing.assert_allclose(changed, expected, **close)


@pytest.mark.parametrize("padding", ["same", "circular"])
def test_the_working_set_holds_a_code(padding):
    rng = np.random.default_rng(0)
    operator = ConvolutionalOperator(rng.normal(size=(19, 3, 4, 2)), (9, 11, 2), padding=padding)
    plan, tables, _, _ = operator.descent_tables(np.ones(19), np.float64)
    code = (rng.normal(size=(99, 19)) * (rng.random((99, 19)) < 0.3)).ravel()
    valid = np.ones(plan.rows * plan.pitch)
    integers, floats = working_set_sizes(code.size)
    working_set = *(np.empty(size, np.int64) for size in integers), *(np.empty(size) for size in floats)
    present = np.zeros(99 * plan.padded_atoms // lanes_of(np.float64), np.uint16)
    candidates = np.empty(code.size, np.int64)
    n = working_set_of_code(code, candidates, code.size, present, (0, 9), valid, tables, plan, False, working_set)
    assert n == np.count_nonzero(code)
    assert sum(int(word).bit_count() for word in present) == n
    assert (np.diff((working_set[3][:n] != 0).astype(int)) >= 0).all()  # plain ones first
    working_set[6][: n // 2] = 0
    dropped = drop_zeros(present, working_set, n)
    assert dropped == n - n // 2 == sum(int(word).bit_count() for word in present)
    written = np.zeros_like(code)
    write_code(written, plan, working_set, dropped)
    assert np.count_nonzero(written) == dropped
    np.testing.assert_array_equal(written[written != 0], code[written != 0])
    too_small = candidates, n - 1, present, (0, 9), valid, tables, plan, False, working_set
    assert working_set_of_code(code, *too_small) == -1


_COMPARE = """
import sys
import numpy as np
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_basis_pursuit
rng = np.random.default_rng(0)
operator = ConvolutionalOperator(rng.normal(size=(7, 3, 4, 2)), (9, 11, 2))
X, mask = rng.normal(size=(3, 9, 11, 2)), rng.random((9, 11, 2)) < 0.8
for settings in ({}, {"mask": mask, "positive": True}):
    result = convolutional_basis_pursuit(X, operator, 1.0, tol=1e-9, max_iter=5000, **settings)
    print(*result.objective.tolist())
"""


def test_plain_and_explicit_vectors_agree():
    objectives = []
    for explicit in "01":
        environment = {**os.environ, "SKROBUST_EXPLICIT_VECTORS": explicit}
        run = subprocess.run([sys.executable, "-c", _COMPARE], env=environment, capture_output=True, check=True)
        objectives.append(np.array(run.stdout.split(), dtype=float))
    assert len(objectives[0]) == 6
    np.testing.assert_allclose(objectives[0], objectives[1], rtol=2e-9)

"""The convolutional operator against a dense matrix built atom by atom, its adjoint, its norm, and torch."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skrobust.operators import ConvolutionalOperator

PADDINGS = ["same", "full", "valid", "circular"]
PADDINGS_AND_PIXELS = [*PADDINGS, 0, 1, 2]


def dense_dictionary(components, signal_shape, padding, stride):
    """Slow, obvious: column (p, k) is atom k whose first value lies at pixel p * stride - offset."""
    grid, kernel = signal_shape[:-1], components.shape[1:-1]
    whole = padding if isinstance(padding, int) else 0
    offset = {
        "same": [(k - 1) // 2 for k in kernel],
        "full": [k - 1 for k in kernel],
        "valid": [0 for _ in kernel],
        "circular": [0 for _ in kernel],
    }.get(padding, [whole for _ in kernel])
    last = {
        "same": [n - 1 for n in grid],
        "full": [n + k - 2 for n, k in zip(grid, kernel, strict=True)],
        "valid": [n - k for n, k in zip(grid, kernel, strict=True)],
        "circular": [n - 1 for n in grid],
    }.get(padding, [n + 2 * whole - k for n, k in zip(grid, kernel, strict=True)])
    columns = []
    for position in itertools.product(*(range(0, end + 1, stride) for end in last)):
        for atom in components:
            image = np.zeros(signal_shape)
            for tap in np.ndindex(*kernel):
                pixel = [p - o + t for p, o, t in zip(position, offset, tap, strict=True)]
                if padding == "circular":
                    pixel = [i % n for i, n in zip(pixel, grid, strict=True)]
                if all(0 <= i < n for i, n in zip(pixel, grid, strict=True)):
                    image[tuple(pixel)] += atom[tap]
            columns.append(image.ravel())
    return np.array(columns).T


@st.composite
def problems(draw):
    n_axes = draw(st.integers(1, 2))
    padding = draw(st.sampled_from(PADDINGS_AND_PIXELS))
    kernel = [draw(st.integers(1 + padding if isinstance(padding, int) else 1, 5)) for _ in range(n_axes)]
    smallest = 1 if padding in ("same", "full") else 0
    grid = [draw(st.integers(smallest or k, 9)) for k in kernel]
    channels, atoms = draw(st.integers(1, 3)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    components = rng.normal(size=(atoms, *kernel, channels))
    return components, (*grid, channels), padding, draw(st.integers(1, 3)), rng


@pytest.mark.parametrize("evaluation", ["spatial", "fft"])
@given(problem=problems())
def test_equals_the_dense_dictionary(evaluation, problem):
    components, shape, padding, stride, rng = problem
    operator = ConvolutionalOperator(components, shape, padding=padding, stride=stride, evaluation=evaluation)
    D = dense_dictionary(components, shape, padding, stride)
    Z, X = rng.normal(size=(2, *operator.code_shape)), rng.normal(size=(2, *shape))
    assert D.shape[1] == np.prod(operator.code_shape)
    np.testing.assert_allclose(operator.synthesize(Z).reshape(2, -1), Z.reshape(2, -1) @ D.T, atol=1e-11)
    np.testing.assert_allclose(operator.analyze(X).reshape(2, -1), X.reshape(2, -1) @ D, atol=1e-11)
    over_signals, over_codes = (operator.synthesize(Z) * X).sum(), (Z * operator.analyze(X)).sum()
    assert abs(over_signals - over_codes) <= 1e-12 * np.linalg.norm(Z) * np.linalg.norm(X) * np.linalg.norm(D, 2)


@given(problem=problems())
def test_tensors_agree(problem):
    components, shape, padding, stride, rng = problem
    operator = ConvolutionalOperator(components, shape, padding=padding, stride=stride)
    Z, X = rng.normal(size=(2, *operator.code_shape)), rng.normal(size=(2, *shape))
    for evaluation in ("spatial", "fft"):
        on_tensors = ConvolutionalOperator(
            torch.as_tensor(components), shape, padding=padding, stride=stride, evaluation=evaluation
        )
        np.testing.assert_allclose(on_tensors.synthesize(torch.as_tensor(Z)), operator.synthesize(Z), atol=1e-11)
        np.testing.assert_allclose(on_tensors.analyze(torch.as_tensor(X)), operator.analyze(X), atol=1e-11)


@pytest.mark.parametrize("padding", PADDINGS_AND_PIXELS)
def test_float32(padding):
    rng = np.random.default_rng(1)
    components = rng.normal(size=(33, 5, 4, 3)).astype(np.float32)
    operator = ConvolutionalOperator(components, (11, 19, 3), padding=padding)
    exact = ConvolutionalOperator(components.astype(float), (11, 19, 3), padding=padding)
    X = rng.normal(size=(3, 11, 19, 3)).astype(np.float32)
    codes = operator.analyze(X)
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, exact.analyze(X.astype(float)), atol=1e-4)
    back = operator.synthesize(codes)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, exact.synthesize(codes.astype(float)), atol=2e-3)  # of values up to 2300


@pytest.mark.parametrize(
    ("shape", "kernel", "n_components", "expected"),
    [
        ((256, 256, 1), (8, 8), 32, False),
        ((32, 32, 3), (5, 5), 64, False),
        ((12, 12, 64), (6, 6), 128, False),
        ((64, 64, 1), (16, 16), 32, False),
        ((256, 256, 1), (32, 32), 8, True),
        ((10_000, 1), (500,), 10, True),
    ],
)
def test_evaluation_is_chosen_by_size(shape, kernel, n_components, expected):
    components = np.random.default_rng(0).normal(size=(n_components, *kernel, shape[-1]))
    operator = ConvolutionalOperator(components, shape)
    assert operator.uses_fft == expected
    assert not ConvolutionalOperator(components, shape, evaluation="spatial").uses_fft
    # With a stride direct convolution has fewer positions, a transform has not.
    assert not ConvolutionalOperator(components, shape, stride=min(kernel)).uses_fft


def test_gradients_flow_into_atoms():
    components = torch.randn(3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.randn(2, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def synthesize(atoms, maps):
        return ConvolutionalOperator(atoms, (6, 2)).synthesize(maps)

    assert torch.autograd.gradcheck(synthesize, (components.requires_grad_(), codes.requires_grad_()))


def test_any_memory_order_and_integers():
    rng = np.random.default_rng(0)
    operator = ConvolutionalOperator(rng.normal(size=(4, 3, 3, 1)), (8, 9, 1))
    X = rng.integers(0, 9, size=(2, 8, 9, 1))
    expected = operator.analyze(X.astype(float))
    np.testing.assert_array_equal(operator.analyze(X), expected)
    np.testing.assert_array_equal(operator.analyze(np.asfortranarray(X.astype(float))), expected)
    np.testing.assert_array_equal(operator.analyze(X.astype(float)[:, ::-1][:, ::-1]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": np.ones((2, 3, 1)), "signal_shape": (8, 8, 1)}, "do not fit signals"),
        ({"components": np.ones((2, 3, 2)), "signal_shape": (8, 1)}, "do not fit signals"),
        ({"components": np.ones((2, 9, 1)), "signal_shape": (8, 1), "padding": "circular"}, "no larger than the"),
        ({"components": np.ones((2, 3, 1)), "signal_shape": (8, 1), "padding": "zero"}, "padding must be one of"),
        ({"components": np.ones((2, 3, 1)), "signal_shape": (8, 1), "stride": 0}, "stride must be"),
        ({"components": np.ones((2, 3, 1)), "signal_shape": (8,)}, "signal_shape must be"),
        ({"components": np.ones((0, 3, 1)), "signal_shape": (8, 1)}, "are empty"),
        ({"components": np.ones((2, 3, 1)), "signal_shape": 8}, "signal_shape must be"),
        ({"components": np.full((2, 3, 1), np.nan), "signal_shape": (8, 1)}, "real and finite"),
        ({"components": np.ones((2, 3, 1), complex), "signal_shape": (8, 1)}, "real and finite"),
        ({"components": np.ones((2, 3, 1)), "signal_shape": (8, 1), "evaluation": "magic"}, "evaluation must be"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvolutionalOperator(**arguments)


@pytest.mark.parametrize("evaluation", ["spatial", "fft"])
def test_lists_and_no_signals_at_all(evaluation):
    operator = ConvolutionalOperator([[[1.0], [2.0]]], (4, 1), evaluation=evaluation)
    np.testing.assert_allclose(operator.synthesize([[[1], [0], [0], [1]]]).ravel(), [1, 2, 0, 1], atol=1e-12)
    np.testing.assert_allclose(operator.analyze([[[1], [0], [0], [1]]]).ravel(), [1, 0, 2, 1], atol=1e-12)
    for dtype in (np.float32, np.float64):
        for result in (operator.synthesize(np.empty((0, 4, 1), dtype)), operator.analyze(np.empty((0, 4, 1), dtype))):
            assert result.shape == (0, 4, 1) and result.dtype == dtype


def test_wrong_shapes_are_named():
    operator = ConvolutionalOperator(np.ones((2, 3, 1)), (8, 1))
    with pytest.raises(ValueError, match=r"codes must have shape \(n_samples, 8, 2\)"):
        operator.synthesize(np.ones((1, 8, 3)))
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 8, 1\)"):
        operator.analyze(np.ones((1, 9, 1)))

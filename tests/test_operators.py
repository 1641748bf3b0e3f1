"""One adjoint, norm and shape test for all operators; borders against dense matrices."""

import itertools

import numpy as np
import pytest
import torch

from skrobust.operators import (
    ComposedOperator,
    ConvolutionalOperator,
    DenseOperator,
    LayeredDictionary,
    Operator,
    WaveletBasis,
)

PADDINGS = ("same", "full", "valid", "circular")


def dense(dtype):
    return DenseOperator(np.random.default_rng(0).normal(size=(7, 5)).astype(dtype))


def convolution(shape, kernel, stride, padding, dtype, evaluation="auto"):
    components = np.random.default_rng(0).normal(size=(3, *kernel, shape[-1])).astype(dtype)
    return ConvolutionalOperator(components, shape, padding=padding, stride=stride, evaluation=evaluation)


def composed(dtype):
    outer = convolution((9, 2), (3,), 1, "valid", dtype)
    inner = ConvolutionalOperator(np.random.default_rng(1).normal(size=(4, 2, 3)).astype(dtype), outer.code_shape)
    return outer @ inner


def layered(skip, stride, padding, dtype):
    shape, operators, rng = (7, 6, 2), [], np.random.default_rng(0)
    for n_atoms in (3, 4, 2):
        atoms = rng.normal(size=(n_atoms, *(min(2, n) for n in shape[:-1]), shape[-1])).astype(dtype)
        operators.append(ConvolutionalOperator(atoms, shape, padding=padding, stride=stride))
        shape = operators[-1].code_shape
    matrix = rng.normal(size=(4, 2)).astype(dtype)
    return LayeredDictionary(operators, {(3, 1): None, (2, 0): matrix[:3]} if skip == "mixed" else skip)


WAVELETS = [
    ("haar", (8,), None, 1),
    ("db2", (13,), 3, 2),
    ("db3", (8, 12), 2, 3),
    ("db2", (7, 9), 2, 1),
    ("sym4", (5, 6), 3, 2),
    ("dmey", (16, 6), 1, 1),
    ("haar", (6, 5), 0, 2),
]
GEOMETRIES = [
    ((9, 1), (3,), 1),
    ((10, 2), (4,), 2),
    ((5, 1), (5,), 1),
    ((6, 7, 1), (3, 2), 1),
    ((7, 6, 3), (3, 3), 2),
    ((5, 8, 2), (2, 4), (1, 3)),
    ((6, 6, 1), (6, 6), 1),
]
OPERATORS = {
    "dense": dense,
    "composed": composed,
    **{
        f"wavelet-{case[0]}-{case[1]}-{case[2]}-{case[3]}": (lambda dtype, case=case: WaveletBasis(*case))
        for case in WAVELETS
    },
    **{
        f"layered-{skip}-{stride}-{padding}": (lambda dtype, a=(skip, stride, padding): layered(*a, dtype))
        for skip, stride, padding in itertools.product((None, "residual", "dense", "mixed"), (1, 2), PADDINGS)
    },
    **{
        f"conv-{shape}-{kernel}-{stride}-{padding}-{evaluation}": (
            lambda dtype, a=(shape, kernel, stride, padding), e=evaluation: convolution(*a, dtype, e)
        )
        for (shape, kernel, stride), padding, evaluation in itertools.product(
            GEOMETRIES, PADDINGS, ("spatial", "fft")
        )
    },
}


@pytest.fixture(params=OPERATORS)
def make(request):
    return OPERATORS[request.param]


def tolerance(dtype):
    """About ten times the rounding errors of products with unit normal entries."""
    return 2e-6 if dtype == np.float32 else 1e-14


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_analysis_is_the_adjoint_of_synthesis(make, dtype, backend):
    operator = make(dtype)
    rng = np.random.default_rng(2)
    codes = rng.normal(size=(3, *operator.code_shape)).astype(dtype)
    signals = rng.normal(size=(3, *operator.signal_shape)).astype(dtype)
    if backend == "torch":
        codes, signals = torch.tensor(codes), torch.tensor(signals)
    made, correlated = operator.synthesize(codes), operator.analyze(signals)
    assert tuple(made.shape) == (3, *operator.signal_shape) and made.dtype == signals.dtype
    assert tuple(correlated.shape) == (3, *operator.code_shape) and correlated.dtype == codes.dtype
    over_signals = (made * signals).reshape(3, -1).sum(1)
    over_codes = (codes * correlated).reshape(3, -1).sum(1)
    np.testing.assert_allclose(over_signals, over_codes, rtol=tolerance(dtype), atol=100 * tolerance(dtype))


def test_numpy_torch_and_the_matrix_agree(make):
    operator = make(np.float64)
    matrix = operator.to_dense()
    rng = np.random.default_rng(3)
    codes = rng.normal(size=(2, *operator.code_shape))
    expected = (codes.reshape(2, -1) @ matrix.T).reshape(2, *operator.signal_shape)
    np.testing.assert_allclose(operator.synthesize(codes), expected, atol=1e-12)
    np.testing.assert_allclose(operator.synthesize(torch.tensor(codes)), expected, atol=1e-12)
    signals = rng.normal(size=(2, *operator.signal_shape))
    expected = (signals.reshape(2, -1) @ matrix).reshape(2, *operator.code_shape)
    np.testing.assert_allclose(operator.analyze(signals), expected, atol=1e-12)
    np.testing.assert_allclose(operator.analyze(torch.tensor(signals)), expected, atol=1e-12)


def test_lipschitz_bounds_the_squared_norm(make):
    """From above, and closely; the product of the factors' norms bounds that of composed operators loosely."""
    operator = make(np.float64)
    true = np.linalg.norm(operator.to_dense(), 2) ** 2
    assert true * (1 - 1e-9) <= operator.lipschitz <= true * (3 if isinstance(operator, ComposedOperator) else 1.1)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("shape", "kernel", "stride"), GEOMETRIES)
def test_borders_follow_their_definition(shape, kernel, stride, padding):
    """Each atom stands at ``position * stride - offset``; parts beyond the border are cut off or wrap around."""
    operator = convolution(shape, kernel, stride, padding, np.float64)
    stride = np.broadcast_to(stride, len(kernel))
    grid = shape[:-1]
    offset = {"same": [(k - 1) // 2 for k in kernel], "full": [k - 1 for k in kernel]}.get(padding, [0] * len(kernel))
    expected = np.zeros((*operator.code_shape, *shape))
    for position in np.ndindex(*operator.code_shape[:-1]):
        for k, tap in itertools.product(range(3), np.ndindex(*kernel)):
            at = [p * s - o + i for p, s, o, i in zip(position, stride, offset, tap, strict=True)]
            if padding == "circular":
                at = [a % n for a, n in zip(at, grid, strict=True)]
            if all(0 <= a < n for a, n in zip(at, grid, strict=True)):
                expected[(*position, k, *at)] += operator.components[(k, *tap)]
    np.testing.assert_allclose(operator.to_dense().T, expected.reshape(-1, np.prod(shape)), atol=1e-12)


def test_other_components_keep_the_geometry():
    operator = convolution((7, 6, 3), (3, 3), 2, "circular", np.float64, "fft")
    other = operator.with_components(2 * operator.components)
    assert (other.padding, other.geometry, other.evaluation) == (operator.padding, operator.geometry, "fft")
    np.testing.assert_allclose(other.to_dense(), 2 * operator.to_dense())
    np.testing.assert_allclose(dense(np.float64).with_components(np.eye(5)).to_dense(), np.eye(5))
    layers = layered("mixed", 1, "same", np.float64)
    twice = layers.with_components([2 * atoms for atoms in layers.components])
    blocks, doubled = layers.to_dense(), twice.to_dense()
    np.testing.assert_allclose(doubled[:84, :126], 2 * blocks[:84, :126])  # the first layer's own
    np.testing.assert_allclose(doubled[84:, :126], blocks[84:, :126])  # its connections
    with pytest.raises(ValueError, match="components has 2 entries for 3 layers"):
        layers.with_components(layers.components[:2])
    for operator in (composed(np.float64), WaveletBasis("haar", (8,))):
        with pytest.raises(TypeError, match=f"{type(operator).__name__} has no components that could be replaced"):
            operator.with_components(np.eye(2))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"codes must have shape \(n_samples, 7\), got \(2, 5\)"):
        dense(np.float64).synthesize(np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 5\), got \(2, 7\)"):
        dense(np.float64).analyze(np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"X must have shape \(n_samples, 378\), got \(1, 84\)"):
        layered(None, 1, "same", np.float64).analyze(np.zeros((1, 84)))
    with pytest.raises(ValueError, match="outer operator has codes of shape"):
        ComposedOperator(dense(np.float64), dense(np.float64))


def test_a_user_defined_operator_needs_its_members():
    class Half(Operator):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.parametrize(("shape", "excess"), [((300, 400), 1.0011), ((400, 300), 1.0011), ((1300, 1210), 1.02)])
def test_norms_of_large_matrices(shape, excess):
    """By a proved bound for a Gram matrix, or by Lanczos steps where that would be large."""
    matrix = np.random.default_rng(0).normal(size=shape)
    true = np.linalg.norm(matrix, 2) ** 2
    assert true * (1 - 1e-9) <= DenseOperator(matrix).lipschitz <= excess * true
    assert DenseOperator(0 * matrix).lipschitz == 0 and DenseOperator(0 * matrix).step == 1
    small = DenseOperator(matrix / 1e140).lipschitz * 1e280
    assert true * (1 - 1e-9) <= small <= excess * true

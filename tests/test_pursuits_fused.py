"""Shrinkage with momentum: values and derivatives against plain operations, and the Triton kernels against both."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import shrink_with_momentum, unrolled_pursuit
from skrobust.pursuits.proximal import fused

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def skip_without(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def plain(point, previous, thresholds, momentum, positive, slopes, step):
    value = point + step * slopes
    codes = torch.relu(value - thresholds)
    if not positive:
        codes = codes - torch.relu(-value - thresholds)
    return codes, codes if previous is None else codes + momentum * (codes - previous)


def make_inputs(dtype=torch.float64, shape=(3, 4, 5), n_thresholds=5, device="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    point, slopes, previous = (torch.randn(shape, dtype=dtype, generator=generator) for _ in range(3))
    thresholds = torch.rand(n_thresholds, dtype=dtype, generator=generator)
    return [v.to(device) for v in (point, slopes, previous, thresholds)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("with_previous", [False, True])
@pytest.mark.parametrize("layout", ["last", "first", "strided"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_plain_operations(dtype, layout, with_previous, positive, device):
    skip_without(device)
    point, slopes, previous, thresholds = make_inputs(dtype, (3, 70, 5), device=device)
    if layout == "first":
        point, slopes, previous = (v.movedim(-1, 1) for v in (point, slopes.contiguous(), previous))
        slopes, thresholds = slopes.contiguous(), thresholds[:, None]
    elif layout == "strided":
        point, slopes, previous = point[:, ::2], slopes[:, ::2], previous[:, ::2]
    previous = previous if with_previous else None
    momentum, step = (torch.tensor(v, dtype=dtype, device=device) for v in (0.4, 0.7))
    inputs = [v for v in (point, slopes, previous, thresholds, momentum, step) if v is not None]
    for v in inputs:
        v.requires_grad_() if v.is_leaf else v.retain_grad()

    def call(function, *, keyword):
        if keyword:
            return function(point, previous, thresholds, momentum, positive, slopes=slopes, step=step)
        return function(point, previous, thresholds, momentum, positive, slopes, step)

    result, expected = call(shrink_with_momentum, keyword=True), call(plain, keyword=False)
    rounding = dict(rtol=1e-5, atol=1e-6) if dtype == torch.float32 else {}
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, **rounding)
    sides = [torch.randn_like(result[0]) for _ in range(2)]
    for picked in ((0,), (1,), (0, 1)):
        gradients = [
            torch.autograd.grad(
                [pair[i] for i in picked], inputs, [sides[i] for i in picked], retain_graph=True, allow_unused=True
            )
            for pair in (result, expected)
        ]
        for v, one, other in zip(inputs, *gradients, strict=True):
            one, other = (torch.zeros_like(v) if g is None else g for g in (one, other))
            torch.testing.assert_close(one, other, **(rounding and dict(rtol=1e-4, atol=1e-4)))


def test_numbers_and_tensors_agree():
    point, slopes, previous, _ = make_inputs()
    expected = plain(point, previous, 0.3, 0.2, False, slopes, 0.5)
    for wrap in (float, torch.tensor):
        result = shrink_with_momentum(point, previous, wrap(0.3), wrap(0.2), slopes=slopes, step=wrap(0.5))
        for one, other in zip(result, expected, strict=True):
            torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(shrink_with_momentum(point, None, 0.3, 0.0)[0], torch.nn.Softshrink(0.3)(point))


def test_derivatives_of_both_orders_and_transforms():
    point, slopes, previous, thresholds = make_inputs(shape=(2, 3, 5))
    momentum, step = torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)

    def loss(point, slopes, previous, thresholds, momentum, step):
        codes, ahead = shrink_with_momentum(point, previous, thresholds, momentum, slopes=slopes, step=step)
        return codes, ahead

    inputs = tuple(v.clone().requires_grad_() for v in (point, slopes, previous, thresholds, momentum, step))
    assert torch.autograd.gradcheck(loss, inputs)
    assert torch.autograd.gradgradcheck(loss, inputs)

    def total(p, d):
        codes, ahead = shrink_with_momentum(p, d, thresholds, 0.4)
        return (codes * ahead).sum()

    together = torch.func.vmap(torch.func.grad(total))(point, previous)
    one_by_one = torch.stack([torch.func.grad(total)(p, d) for p, d in zip(point, previous, strict=True)])
    torch.testing.assert_close(together, one_by_one)


@pytest.mark.parametrize("device", DEVICES)
def test_backward_keeps_a_byte_a_coefficient(device):
    skip_without(device)
    point, slopes, previous, _ = make_inputs(torch.float32, device=device)
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        shrink_with_momentum(point.requires_grad_(), previous.requires_grad_(), 0.5, 0.3, slopes=slopes, step=0.1)
    assert sum(sizes) == point.numel()


def test_extreme_inputs():
    empty = torch.zeros(0, 3, requires_grad=True)
    codes, ahead = shrink_with_momentum(empty, empty, torch.ones(3), 0.5)
    (codes.sum() + ahead.sum()).backward()
    assert codes.shape == ahead.shape == empty.grad.shape == (0, 3)
    huge = torch.tensor([float("inf"), -float("inf"), 1e38], requires_grad=True)
    codes, _ = shrink_with_momentum(huge, None, torch.tensor(1.0), 0.0)
    torch.testing.assert_close(codes, huge.detach())
    at_threshold = torch.tensor([1.0, -1.0], requires_grad=True)
    shrink_with_momentum(at_threshold, None, 1.0, 0.0)[0].sum().backward()
    assert at_threshold.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_convolutions(device):
    skip_without(device)
    generator = torch.Generator().manual_seed(0)
    atoms = torch.randn(8, 3, 3, 2, generator=generator).to(device)
    atoms = (atoms / atoms.flatten(1).norm(dim=1)[:, None, None, None]).requires_grad_()
    X = torch.randn(4, 12, 12, 2, generator=generator).to(device)
    operator = ConvolutionalOperator(atoms, (12, 12, 2))
    exact = unrolled_pursuit(X, operator, 0.3, n_iter=8)
    (of_exact,) = torch.autograd.grad(exact.square().sum(), atoms)

    def close(codes):
        assert codes.dtype == torch.float32
        assert not torch.equal(codes, exact)
        assert (codes - exact).norm() <= 0.02 * exact.norm()
        (gradient,) = torch.autograd.grad(codes.square().sum(), atoms)
        assert (gradient - of_exact).norm() <= 0.05 * of_exact.norm()

    close(unrolled_pursuit(X, operator, 0.3, n_iter=8, convolution_dtype=torch.bfloat16))
    with torch.autocast(device, dtype=torch.bfloat16):
        close(unrolled_pursuit(X, operator, 0.3, n_iter=8))


def test_triton_kernels_by_interpreter():
    """The kernels themselves, where there is Triton but no device: its interpreter runs them on arrays."""
    pytest.importorskip("triton")
    code = """
        import contextlib, itertools, torch
        torch.cuda.device_of = lambda tensor: contextlib.nullcontext()
        from skrobust.pursuits.proximal import fused, fused_triton as kernels

        generator = torch.Generator().manual_seed(0)
        for dtype, positive, extrapolates, first, shared in itertools.product(
            (torch.float32, torch.float64), (False, True), (False, True), (False, True), (False, True)
        ):
            inputs = [torch.randn(3, 211, 6, dtype=dtype, generator=generator) for _ in range(3)]
            if first:
                inputs = [v.movedim(-1, 1) for v in inputs]
                inputs[1] = inputs[1].contiguous()
            thresholds = torch.rand((6, 1) if first else 6, dtype=dtype, generator=generator)
            if shared:
                thresholds = 0.3
            sides = [torch.randn_like(inputs[1]) for _ in range(2)]
            results = []
            for choose in (lambda tensor: kernels, lambda tensor: None):
                fused.kernels_for = choose
                tensors = [v.detach().requires_grad_() for v in inputs]
                if not shared:
                    thresholds = thresholds.detach().requires_grad_()
                codes, ahead = fused.shrink_with_momentum(
                    tensors[0], tensors[2] if extrapolates else None, thresholds, 0.4, positive,
                    slopes=tensors[1], step=0.7,
                )
                (codes * sides[0] + ahead * sides[1]).sum().backward()
                leaves = tensors if extrapolates else tensors[:2]
                results.append([codes, ahead, *(v.grad for v in leaves + ([] if shared else [thresholds]))])
            for one, other in zip(*results, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        print("agree")
    """
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.stdout.strip() == "agree", ran.stderr[-2000:]


def test_plain_torch_without_triton(monkeypatch):
    fused.triton_kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "skrobust.pursuits.proximal.fused_triton", raising=False)
    assert fused.triton_kernels() is None
    fused.triton_kernels.cache_clear()

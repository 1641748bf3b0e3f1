"""Unrolled layered pursuits of many iterations: the same gradients from a bounded memory."""

import numpy as np
import pytest
import torch
import torch.utils.checkpoint

from skrobust.operators import ConvolutionalOperator, LayeredDictionary
from skrobust.pursuits import deep_pursuit, layered_basis_pursuit, multilayer_pursuit
from skrobust.pursuits.proximal import segments


def tensors_in(values):
    """Tensors of nested lists and tuples."""
    if isinstance(values, torch.Tensor):
        return [values]
    return [tensor for value in values for tensor in tensors_in(value)] if isinstance(values, (list, tuple)) else []


FUNCTIONS = [layered_basis_pursuit, deep_pursuit, multilayer_pursuit]


def problem(dtype=torch.float64, skip=None, seed=0):
    rng = np.random.default_rng(seed)
    shape, atoms = (6, 5, 2), []
    for n_atoms in (4, 3, 5):
        atoms.append(torch.tensor(rng.normal(size=(n_atoms, 2, 2, shape[-1])) / 3, dtype=dtype, requires_grad=True))
        operator = ConvolutionalOperator(atoms[-1].detach(), shape)
        shape = operator.code_shape
    X = torch.tensor(rng.normal(size=(3, 6, 5, 2)), dtype=dtype, requires_grad=True)
    alphas = [torch.full((len(a),), 0.02, dtype=dtype, requires_grad=True) for a in atoms]
    return X, atoms, alphas, skip


def codes_of(function, parameters, skip, max_iter, **options):
    X, atoms, alphas = parameters
    shape, operators = tuple(X.shape[1:]), []
    for a in atoms:
        operators.append(ConvolutionalOperator(a, shape))
        shape = operators[-1].code_shape
    result = function(X, LayeredDictionary(operators, skip), alphas, max_iter=max_iter, **options)
    return torch.cat([w.flatten(1) for w in result], dim=1)


def values_and_gradients(function, max_iter, skip=None, dtype=torch.float64, **options):
    """Codes, their gradients, and the bytes that the backward pass remembers."""
    X, atoms, alphas, _ = problem(dtype)
    if "step" in options:
        options["step"] = [torch.tensor(s, dtype=dtype, requires_grad=True) for s in options["step"]]
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        codes = codes_of(function, (X, atoms, alphas), skip, max_iter, **options)
    weights = torch.linspace(-1, 1, codes.shape[1], dtype=dtype)
    wanted = [X, *atoms, *alphas, *options.get("step", [])]
    return codes.detach(), torch.autograd.grad((codes * weights).sum(), wanted), sum(saved.values())


@pytest.mark.parametrize("skip", [None, "residual"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("steps", ["Lipschitz", "given"])
def test_segments_change_nothing_but_memory(function, skip, steps, monkeypatch):
    if function is multilayer_pursuit and skip:
        pytest.skip("does not support skip connections")
    options = {"step": [0.3, 0.2, 0.4]} if steps == "given" else {}
    for max_iter in (17, 40):
        in_segments = values_and_gradients(function, max_iter, skip, **options)
        with monkeypatch.context() as patch:
            patch.setattr(segments, "REMEMBERED", 10_000)
            at_once = values_and_gradients(function, max_iter, skip, **options)
        np.testing.assert_allclose(in_segments[0], at_once[0], rtol=0, atol=1e-12)
        assert float(at_once[0].abs().max()) > 0
        for one, other in zip(in_segments[1], at_once[1], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_memory_grows_with_the_root_of_the_iterations(function, monkeypatch):
    states = {}
    checkpoint = torch.utils.checkpoint.checkpoint

    def counted(advance, begin, n_iter, state, **options):
        for tensor in tensors_in(state):
            states[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return checkpoint(advance, begin, n_iter, state, **options)

    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", counted)
    few = values_and_gradients(function, 16, dtype=torch.float32)[2]
    assert not states
    outside = values_and_gradients(function, 256, dtype=torch.float32)[2]
    # 256 iterations in 16 segments: 16 states, and while the backward pass is in a segment, its 16 iterations.
    assert 0 < outside + sum(states.values()) < 3 * few


def test_few_iterations_and_inference_use_no_segments(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("segments")

    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", refuse)
    values_and_gradients(deep_pursuit, segments.REMEMBERED)
    X, atoms, alphas, _ = problem()
    with torch.no_grad():
        codes_of(deep_pursuit, (X, atoms, alphas), None, 40)
    fixed = X.detach(), [a.detach() for a in atoms], [a.detach() for a in alphas]
    codes_of(deep_pursuit, fixed, None, 40)
    with pytest.raises(AssertionError, match="segments"):
        values_and_gradients(deep_pursuit, segments.REMEMBERED + 1)


@pytest.mark.parametrize("function", [layered_basis_pursuit, deep_pursuit])
def test_second_derivatives_and_vmap(function, monkeypatch):
    monkeypatch.setattr(segments, "REMEMBERED", 2)
    X, atoms, alphas, _ = problem()
    fixed = [a.detach() for a in atoms], [a.detach() for a in alphas]
    steps = [0.3, 0.2, 0.4]

    def total(x):
        codes = codes_of(function, (x[None], *fixed), None, 5, step=steps)
        return (codes * codes).sum()

    x = X[0].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(total, (x,), atol=1e-6)
    (one_by_one,) = torch.autograd.grad(total(x), x)
    by_transform = torch.func.grad(total)(x.detach())
    np.testing.assert_allclose(by_transform, one_by_one, atol=1e-12)


@pytest.mark.parametrize("steps", ["Lipschitz", "given"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_convolutions_of_half_precision(function, steps):
    options = {"step": [0.3, 0.2, 0.4]} if steps == "given" else {}
    codes, gradients, _ = values_and_gradients(function, 6, dtype=torch.float32, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        rough, rough_gradients, _ = values_and_gradients(function, 6, dtype=torch.float32, **options)
    assert codes.dtype == rough.dtype == torch.float32
    assert float((codes - rough).norm()) < 0.05 * float(codes.norm())
    assert not torch.equal(codes, rough)
    for one, other in zip(gradients, rough_gradients, strict=True):
        assert one.dtype == other.dtype and bool(other.isfinite().all())
    # Of the signals' gradient, which the support decides; those of steps are sums that cancel.
    assert float((gradients[0] - rough_gradients[0]).norm()) < 0.3 * float(gradients[0].norm())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("max_iter", [5, 40])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_on_a_gpu(function, max_iter):
    X, atoms, alphas, _ = problem()
    results = []
    for device in ("cpu", "cuda"):
        on = [[value.detach().to(device).requires_grad_() for value in values] for values in ([X], atoms, alphas)]
        codes = codes_of(function, (on[0][0], on[1], on[2]), None, max_iter)
        gradients = torch.autograd.grad((codes * codes).sum(), [*on[0], *on[1], *on[2]])
        results.append([codes.detach().cpu(), *(gradient.cpu() for gradient in gradients)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)

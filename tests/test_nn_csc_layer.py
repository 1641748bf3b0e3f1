"""`CSCLayer`: optimality, other solvers of the same problem, derivatives, shapes, norms, copies."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from skrobust import ConvSparseCoder
from skrobust.nn import CSCLayer


def layer(*, seed=0, dtype=torch.float64, channels=2, atoms=5, kernel_size=3, **options):
    torch.manual_seed(seed)
    return CSCLayer(channels, atoms, kernel_size, **options).to(dtype).eval()


def images(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def slow_codes(x, module, n_iter, alpha=None, momentum=True):
    """FISTA as the SDNet paper has it, by torch's own convolutions from codes of zeros."""
    weight, step = module.weight, 0.9 / module.squared_norm
    alpha = module.alpha if alpha is None else alpha
    size = {"stride": module.stride, "padding": module.padding}
    example = functional.conv2d(x, weight, **size)
    z = y = torch.zeros_like(example)
    t = 1.0
    for _ in range(n_iter):
        fit = torch.autograd.functional.vjp(lambda v: functional.conv2d(v, weight, **size), x, y, create_graph=True)[1]
        point = y + step * functional.conv2d(x - fit, weight, **size)
        new = torch.relu(point - step * alpha)
        if not module.nonnegative:
            new = new - torch.relu(-point - step * alpha)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        y = new + (t - 1) / t_new * (new - z) if momentum else new
        z, t = new, t_new
    return z


@pytest.mark.parametrize("nonnegative", [True, False])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 2, 8, 8), {"padding": 1}),
        ((1, 2, 7, 9), {"padding": 0, "stride": 2}),
        ((2, 2, 9, 6), {"padding": 2, "stride": (2, 3), "kernel_size": (5, 3)}),
        ((2, 1, 5, 5), {"kernel_size": 1, "channels": 1}),
        ((4, 3, 3, 3), {"channels": 3}),
        ((2, 2, 11, 4), {"kernel_size": 4, "padding": 3, "stride": 3}),
    ],
)
def test_equals_a_slow_loop(shape, options, nonnegative):
    module, x = layer(n_iter=4, nonnegative=nonnegative, **options), images(*shape)
    codes = module(x)
    plain = nn.Conv2d(shape[1], 5, options.get("kernel_size", 3), options.get("stride", 1), options.get("padding", 0))
    assert codes.shape == plain.double()(x).shape
    torch.testing.assert_close(codes, slow_codes(x, module, 4), rtol=1e-9, atol=1e-12)
    assert (codes >= 0).all() or not nonnegative


def test_two_steps_have_no_momentum_and_three_have():
    module, x = layer(n_iter=2, padding=1), images(2, 2, 8, 8)
    torch.testing.assert_close(module(x), slow_codes(x, module, 2, momentum=False), rtol=1e-9, atol=1e-12)
    module.n_iter = 3
    assert not torch.allclose(module(x), slow_codes(x, module, 3, momentum=False), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_meets_the_optimality_conditions_as_iterations_grow(nonnegative):
    module, x = layer(padding=1, nonnegative=nonnegative, alpha=0.3), images(2, 2, 6, 7)
    errors = []
    for n_iter in (2, 20, 200, 2000):
        module.n_iter = n_iter
        with torch.no_grad():
            codes = module(x)
            slopes = functional.conv2d(module.residual(x), module.weight, padding=1)
        # A^T (x - A z) = alpha sign(z) on the support, at most alpha in magnitude (in value, if z >= 0) elsewhere.
        on_support = (slopes - 0.3 * codes.sign()).abs()[codes != 0].max()
        elsewhere = (slopes if nonnegative else slopes.abs())[codes == 0].max() - 0.3
        errors.append(max(float(on_support), float(elsewhere), 0.0))
    assert errors[0] > errors[1] > errors[2] and errors[3] < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_equals_the_coder_with_the_same_dictionary(stride):
    X = np.random.default_rng(0).normal(size=(6, 9, 8))
    coder = ConvSparseCoder(
        4, kernel_size=3, stride=stride, alpha=0.2, positive=True, tol=1e-10, max_iter=10000, n_epochs=1, random_state=0
    ).fit(X)
    module = layer(channels=1, atoms=4, padding=1, stride=stride, alpha=0.2, n_iter=5000)
    module.weight = torch.as_tensor(np.moveaxis(coder.components_, -1, 1))
    with torch.no_grad():
        codes = module(torch.as_tensor(X)[:, None])
    expected = coder.transform(X).reshape(codes.movedim(1, -1).shape)
    np.testing.assert_allclose(codes.movedim(1, -1).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_derivatives(nonnegative):
    module, x = layer(n_iter=4, padding=1, stride=2, nonnegative=nonnegative), images(2, 2, 5, 6).requires_grad_()
    module(x)  # estimates the norm, which is a constant of the derivative
    original = module.parametrizations.weight.original
    alpha = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)

    def codes(x, stored, alpha):
        module.alpha = alpha
        return torch.func.functional_call(module, {"parametrizations.weight.original": stored}, (x,))

    assert torch.autograd.gradcheck(codes, (x, original.detach().requires_grad_(), alpha))


def test_implicit_equals_unrolled_at_convergence():
    x = images(2, 2, 6, 6).requires_grad_()
    unrolled = layer(n_iter=3000, padding=1, alpha=0.3)
    implicit = layer(differentiation="implicit", padding=1, alpha=0.3, tol=1e-12, max_iter=100000)
    found = []
    for module in (unrolled, implicit):
        module.alpha = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
        codes = module(x)
        of_x, of_weight, of_alpha = torch.autograd.grad(
            (codes * torch.sin(torch.arange(codes.numel()).reshape(codes.shape))).sum(),
            (x, module.parametrizations.weight.original, module.alpha),
        )
        found.append((codes, of_x, of_weight, of_alpha))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    implicit.alpha = 0.3
    torch.testing.assert_close(implicit(x)[0], found[1][0][0], rtol=1e-5, atol=1e-6)
    implicit.alpha = 0.0
    with pytest.raises(ValueError, match="alpha"):
        implicit(x)


def test_alpha_per_sample_equals_one_sample_at_a_time():
    module, x = layer(n_iter=7, padding=1), images(3, 2, 6, 6)
    alphas = torch.tensor([0.05, 0.4, 2.0])
    module.alpha = alphas
    together = module(x)
    for i, alpha in enumerate(alphas.tolist()):
        module.alpha = alpha
        torch.testing.assert_close(together[i : i + 1], module(x[i : i + 1]))
    assert (together != 0).flatten(1).sum(1).diff().max() < 0


def test_zero_input_gives_zero_codes_and_finite_gradients():
    module, x = layer(padding=1, n_iter=5), torch.zeros(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    codes = module(x)
    codes.sum().backward()
    assert not codes.any() and torch.isfinite(x.grad).all()
    assert torch.isfinite(module.parametrizations.weight.original.grad).all()
    assert layer(padding=1)(x[:0]).shape == (0, 5, 6, 6)


def test_reconstruction_and_residual():
    module, x = layer(n_iter=50, padding=1, stride=2, alpha=0.01), images(2, 2, 9, 7)
    codes = module(x)
    expected = functional.conv_transpose2d(codes, module.weight, stride=2, padding=1)
    torch.testing.assert_close(module.reconstruct(codes, (9, 7)), expected)
    torch.testing.assert_close(module.residual(x), x - expected)
    assert module.residual(x).norm() < x.norm()


def exact_squared_norm(module, shape):
    """Largest eigenvalue of the dense matrix."""
    eye = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
    dense = functional.conv2d(eye, module.weight.detach().double(), stride=module.stride, padding=module.padding)
    return float(torch.linalg.matrix_norm(dense.flatten(1), 2) ** 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("lr", "largest"), [(0.01, 1.2), (0.3, 2)])  # beyond 2, proximal gradient may diverge
def test_norms_and_steps_stay_safe_in_training(stride, lr, largest):
    module = layer(dtype=torch.float32, padding=1, stride=stride).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    x, shares = images(4, 2, 8, 8, dtype=torch.float32), []
    for _ in range(40):
        optimizer.zero_grad()
        (-module(x).square().sum() / 10).backward()
        optimizer.step()
        torch.testing.assert_close(module.weight.flatten(1).norm(dim=1), torch.ones(5))
        module(x)
        shares.append(0.9 * exact_squared_norm(module, (2, 8, 8)) / float(module.squared_norm))
    assert max(shares) < largest
    module.eval()(x)
    assert float(module.squared_norm) == pytest.approx(exact_squared_norm(module, (2, 8, 8)), rel=0.1)


def test_the_norm_follows_weights_and_larger_images_and_nothing_else():
    module, x = layer(padding=1), images(1, 2, 6, 6)
    module(x)
    first = module.squared_norm.clone()
    module(x)
    module(images(1, 2, 5, 4))  # a smaller image has no larger norm
    assert torch.equal(module.squared_norm, first)
    module(images(1, 2, 12, 6))
    assert module.squared_norm > first and module.direction.shape[2:] == (12, 6)
    module.weight = torch.ones(5, 2, 3, 3, dtype=torch.float64)
    module(x)
    assert float(module.squared_norm) == pytest.approx(exact_squared_norm(module, (2, 12, 6)), rel=0.01)
    with torch.no_grad():
        module.parametrizations.weight.original.normal_()
    module(x)
    assert float(module.squared_norm) == pytest.approx(exact_squared_norm(module, (2, 12, 6)), rel=0.1)


def test_copies_pickles_and_state_dicts_give_the_same_codes():
    module, x = layer(padding=1).train(), images(2, 2, 7, 7)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        module(x).sum().backward()
        optimizer.step()
    module.eval()
    expected = module(x)
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    loaded = layer(seed=9, padding=1)
    loaded(images(1, 2, 5, 5))
    loaded.load_state_dict(module.state_dict())
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(stream, weights_only=False)):
        assert torch.equal(other(x), expected)
    assert torch.equal(loaded(x), expected)
    assert all(isinstance(value, torch.Tensor) for value in module.state_dict().values())


@pytest.mark.parametrize("stopped_after", [2, 3, 5])
@pytest.mark.parametrize("evaluates", [False, True])
def test_training_resumed_from_a_state_dict_goes_on_exactly(stopped_after, evaluates):
    x = images(2, 2, 6, 6)

    def steps(module, n):
        for _ in range(n):
            module.zero_grad()
            module.train()(x).sum().backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter -= 0.1 * parameter.grad
            if evaluates:
                module.eval()(x)
        return module

    through = steps(layer(padding=1), 9)
    stopped = steps(layer(padding=1), stopped_after)
    resumed = layer(seed=5, padding=1)
    resumed.load_state_dict(stopped.state_dict())
    steps(resumed, 9 - stopped_after)
    for name, value in through.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_half_precision_by_autocast():
    module, x = layer(dtype=torch.float32, padding=1, n_iter=5), images(2, 2, 8, 8, dtype=torch.float32)
    full = module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = module(x)
        from_half = module(x.bfloat16())
    assert half.dtype == torch.float32
    for codes in (half, from_half):
        assert 0 < (codes - full).abs().max() < 0.05 * full.abs().max()


def test_channels_last_stays_channels_last():
    module, x = layer(dtype=torch.float32, channels=4, atoms=8, padding=1), images(2, 4, 8, 8, dtype=torch.float32)
    last = module(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, module(x))


@pytest.mark.parametrize("backend", ["aot_eager"])
def test_compiles(backend):
    module, x = layer(dtype=torch.float32, padding=1, n_iter=3), images(2, 2, 6, 6, dtype=torch.float32)
    expected = module(x)
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(module, backend=backend, fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        torch._dynamo.reset()
        training = torch.compile(module.train(), backend=backend)
        codes = training(x)
    codes.sum().backward()
    torch.testing.assert_close(codes, expected)
    assert module.parametrizations.weight.original.grad.abs().sum() > 0


def test_learns_inside_a_network():
    torch.manual_seed(0)
    network = nn.Sequential(CSCLayer(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.AvgPool2d(4), nn.Flatten())
    network.append(nn.Linear(32, 2))
    x = torch.randn(64, 1, 8, 8)
    y = (x[:, 0, 1:].mul(x[:, 0, :-1]).mean((1, 2)) > 0).long()  # smooth or rough
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        loss = functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in_channels": 0}, "in_channels must be an integer >= 1, got 0"),
        ({"out_channels": 1.5}, "out_channels must be an integer >= 1, got 1.5"),
        ({"kernel_size": 0}, "kernel_size must be an integer >= 1 or two of them, got 0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be"),
        ({"stride": (1, 0)}, "stride must be"),
        ({"padding": 3}, "padding must be an integer >= 0 and smaller than kernel_size=3, got 3"),
        ({"padding": "same"}, "padding must be an integer"),
        ({"n_iter": 0}, "n_iter must be an integer >= 1, got 0"),
        ({"alpha": -0.1}, "alpha must be a number >= 0"),
        ({"alpha": float("nan")}, "alpha must be a number >= 0"),
        ({"alpha": "0.1"}, "alpha must be a number >= 0"),
        ({"alpha": torch.ones(2, 2)}, r"alpha must be a number or have shape \(n_samples,\)"),
        ({"differentiation": "exact"}, "differentiation must be 'unrolled' or 'implicit', got 'exact'"),
        ({"tol": 0}, "tol must be > 0"),
        ({"max_iter": 0}, "max_iter must be an integer >= 1"),
    ],
)
def test_bad_parameters(changed, message):
    with pytest.raises(ValueError, match=message):
        CSCLayer(**{"in_channels": 2, "out_channels": 4, "kernel_size": 3, **changed})


def test_bad_input():
    module = layer()
    with pytest.raises(ValueError, match=r"x must have shape \(n_samples, 2, height, width\), got \(1, 3, 5, 5\)"):
        module(images(1, 3, 5, 5))
    with pytest.raises(ValueError, match="must fit into the padded grid"):
        module(images(1, 2, 2, 5))
    module.alpha = torch.tensor([0.1, 0.2])
    with pytest.raises(ValueError, match="alpha has 2 values for 3 samples"):
        module(images(3, 2, 5, 5))

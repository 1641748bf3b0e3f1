"""Interval bounds of networks: sound, exact where they can be, and equal to the network on the images themselves."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skrobust.nn.intervals import (
    NoBoundsError,
    Spread,
    certified_margins,
    margin_bounds,
    propagate,
    register_interval,
)


def convolutional(seed=0, n_classes=4):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, stride=2, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(5, 6, 3, bias=False), nn.LeakyReLU(0.1), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(6, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Linear(7, n_classes),
    )


def pooled(seed=0, n_classes=4):
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3, groups=2), nn.AvgPool2d(2), nn.ReLU(), nn.Conv2d(4, 6, 2), nn.Identity()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, n_classes), nn.LeakyReLU())


def trained_statistics(network):
    """The network in eval mode, with statistics and weights of batch normalisation other than the initial ones."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.1, 2, generator=generator)
            nn.init.normal_(layer.weight, generator=generator)
            nn.init.normal_(layer.bias, generator=generator)
    return network.eval()


def images(n=6, seed=0, dtype=torch.float32):
    return torch.rand(n, 2, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("build", [convolutional, pooled])
@pytest.mark.parametrize("clip", [None, (0, 1)])
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.2])
def test_no_corner_of_the_box_falls_below_the_bound(build, clip, eps):
    network, X = trained_statistics(build()), images()
    y = torch.arange(6) % 4
    margins = certified_margins(network, X, y, eps, clip=clip)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _ in range(300):
            perturbed = X + eps * torch.randn(X.shape, generator=generator).sign()
            scores = network(perturbed if clip is None else perturbed.clamp(*clip))
            assert (scores.gather(1, y[:, None]) - scores + 1e-30 >= margins).all()
    assert margins[torch.arange(6), y].abs().max() == 0


@pytest.mark.parametrize("build", [convolutional, pooled])
def test_without_a_perturbation_the_bounds_are_the_margins(build):
    network, X, y = trained_statistics(build()), images(), torch.arange(6) % 4
    scores = network.double()(X.double())
    expected = scores.gather(1, y[:, None]) - scores
    found = certified_margins(network, X, y, 0.0)
    np.testing.assert_allclose(found, expected.detach(), atol=1e-10)
    rounded = certified_margins(network.float(), X, y, 0.0)
    assert (rounded <= expected).all()
    assert rounded.sub(expected).abs().max() < 2e-3


@pytest.mark.parametrize("clip", [None, (0, 1)])
def test_linear_networks_are_bounded_exactly(clip):
    torch.manual_seed(0)
    network, X, y, eps = nn.Linear(5, 3).double(), torch.rand(4, 5).double(), torch.tensor([0, 1, 2, 0]), 0.3
    with torch.no_grad():
        _, margins = margin_bounds(network, X, y, eps, clip=clip)
        for i, label in enumerate(y):
            for other in range(3):
                weights = network.weight[label] - network.weight[other]
                worst = X[i] - eps * weights.sign()
                scores = network(worst if clip is None else worst.clamp(*clip))
                assert margins[i, other] == pytest.approx(float(scores[label] - scores[other]), abs=1e-12)


@given(st.integers(0, 1000), st.floats(0, 0.5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_convolutions_of_any_geometry_are_sound_and_reach_their_bounds(seed, eps, kernel, stride, padding):
    torch.manual_seed(seed)
    layer = nn.Conv2d(1, 2, kernel, stride=stride, padding=padding).double()
    X = torch.rand(1, 1, 5, 6).double()
    with torch.no_grad():
        spread = propagate(layer, Spread.around(X, eps, None))
        assert spread.lower.shape == layer(X).shape
        # The output at one position is linear in the image: its worst image follows the sign of its gradient.
    X.requires_grad_(True)
    gradient = torch.autograd.grad(layer(X)[0, 0, 0, 0], X)[0]
    with torch.no_grad():
        reached = layer(X + eps * gradient.sign())[0, 0, 0, 0]
    assert float(reached) == pytest.approx(float(spread.upper[0, 0, 0, 0]), abs=1e-9)


def test_training_mode_computes_and_records_what_the_network_does():
    network, X, y = convolutional().train(), images(8), torch.arange(8) % 4
    network[5].p = 0.0
    twin = copy.deepcopy(network)
    scores, _ = margin_bounds(network, X, y, 0.1)
    torch.testing.assert_close(scores, twin(X))
    for name, values in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], values, msg=name)


def test_bounds_are_differentiable():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    X, y = torch.rand(2, 3).double().requires_grad_(True), torch.tensor([0, 1])
    assert torch.autograd.gradcheck(lambda X: margin_bounds(network, X, y, 0.05, clip=None)[1], X)


def test_margins_fall_as_the_ball_grows():
    network, X, y = trained_statistics(convolutional()), images(), torch.arange(6) % 4
    small, large = (certified_margins(network, X, y, eps) for eps in (0.02, 0.05))
    assert (large <= small).all()
    each = certified_margins(network, X, y, torch.tensor([0.02, 0.05] * 3).double())
    torch.testing.assert_close(each[::2], small[::2])
    torch.testing.assert_close(each[1::2], large[1::2])


def test_a_rule_that_is_too_small_is_caught():
    class Broken(nn.Linear):
        pass

    @register_interval(Broken)
    def broken(layer, spread):
        return spread.affine(layer, lambda size, with_offset: size @ layer.weight.T.abs() / 2, layer.in_features)

    torch.manual_seed(0)
    network = nn.Sequential(Broken(4, 1), nn.Linear(1, 2))
    X, y = torch.rand(20, 4), torch.zeros(20, dtype=torch.long)
    margins = certified_margins(network, X, y, 0.3, clip=None)
    generator, caught = torch.Generator().manual_seed(0), False
    for _ in range(50):
        scores = network(X + 0.3 * torch.randn(X.shape, generator=generator).sign())
        caught = caught or bool((scores[:, 0] - scores[:, 1] < margins[:, 1]).any())
    assert caught


def test_layers_without_a_rule_are_named():
    with pytest.raises(NoBoundsError, match="through GELU: register a rule"):
        certified_margins(nn.Sequential(nn.Linear(2, 2), nn.GELU()), torch.zeros(1, 2), torch.tensor([0]), 0.1)
    with pytest.raises(ValueError, match="padding_mode='circular'"):
        layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
        propagate(layer, Spread.around(torch.zeros(1, 1, 4, 4), 0.1, None))

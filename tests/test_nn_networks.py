"""Named networks: shapes, derivatives, parameters, skip connections, options, and images with channels last."""

import inspect

import pytest
import torch
from torch import nn

from skrobust.nn import CSCLayer, ImageNetwork, LayeredPursuit, make_network, network_names

SMALL = {
    "resnet18": {"width": 4},
    "resnet34": {"width": 4},
    "resnet32": {"width": 4},
    "sdnet18": {"width": 4},
    "sdnet34": {"width": 4},
    "sdnet18_all": {"width": 4},
    "sdnet34_all": {"width": 4},
    "stability_mnist": {"n_components": (3, 4, 5)},
    "stability_cifar": {"n_components": (3, 4, 5), "head": (4, 4, 4)},
    "deep_pursuit_chain": {"width": 2},
    "deep_pursuit_residual": {"width": 2},
    "deep_pursuit_dense": {"width": 2},
}
"""Options that make networks small."""


def n_parameters(name, n_classes=10, image_shape=(32, 32, 3), **options):
    return sum(
        p.numel() for p in make_network(name, n_classes=n_classes, image_shape=image_shape, **options).parameters()
    )


@pytest.mark.parametrize("name", network_names())
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 30)])
def test_every_network_learns_from_its_images(name, shape):
    torch.manual_seed(0)
    network = make_network(name, n_classes=4, image_shape=shape, **SMALL.get(name, {}))
    channels = shape[2] if len(shape) == 3 else 1
    x = torch.rand(3, channels, *shape[:2], requires_grad=True)
    scores = network(x)
    assert scores.shape == (3, 4) and network.eval()(x[:1]).shape == (1, 4)
    nn.functional.cross_entropy(network.train()(x), torch.tensor([0, 1, 3])).backward()
    assert x.grad.abs().sum() > 0
    # Betas of layers without iterations or of zero codes may have no gradient; all others do.
    without = [key for key, p in network.named_parameters() if p.grad is None and "betas" not in key]
    assert not without


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet18", 11.2), ("sdnet18", 11.2), ("sdnet18_all", 11.2), ("resnet34", 21.3), ("sdnet34", 21.3)],
)
def test_parameters_of_cifar_networks_are_those_of_the_sdnet_paper(name, millions):
    assert n_parameters(name) / 1e6 == pytest.approx(millions, abs=0.05)


def test_parameters_of_imagenet_networks_are_those_of_the_papers():
    for name in ("resnet18", "sdnet18"):
        assert n_parameters(name, 1000, (224, 224, 3)) / 1e6 == pytest.approx(11.7, abs=0.05)
    assert n_parameters("resnet34", 1000, (224, 224, 3)) / 1e6 == pytest.approx(21.8, abs=0.05)
    assert n_parameters("sdnet18", 100) / 1e6 == pytest.approx(11.25, abs=0.05)


def test_resnet32_has_the_parameters_and_layers_of_he_et_al():
    assert n_parameters("resnet32") / 1e6 == pytest.approx(0.46, abs=0.01)
    network = make_network("resnet32", n_classes=10, image_shape=(32, 32, 3))
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in network.modules()) == 32


def test_networks_of_the_front_end_paper():
    assert n_parameters("front_end_2_layers", 2, (28, 28)) == 784 * 10 + 10 + 10 * 2 + 2
    network = make_network("front_end_4_layers", n_classes=10, image_shape=(28, 28))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [m.out_channels for m in convolutions] == [20, 40]
    assert [(m.in_features, m.out_features) for m in linear] == [(1000, 1000), (1000, 1000), (1000, 10)]


def test_networks_of_the_stability_paper():
    network = make_network("stability_mnist", n_classes=10, image_shape=(28, 28))
    assert network.pursuit.code_shapes == [(12, 12, 64), (4, 4, 128), (1, 1, 512)]
    network = make_network("stability_cifar", n_classes=10, image_shape=(32, 32, 3), max_iter=0)
    assert network.pursuit.code_shapes == [(16, 16, 32), (8, 8, 64), (4, 4, 128)] and not network.pursuit.iterates


@pytest.mark.parametrize("kind", ["chain", "residual", "dense"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_connections_of_deep_pursuit_networks(kind, depth):
    """As in the paper's appendix: 6 n layers, from each unit's input to its second layer, (2, 0), (4, 2), (6, 4)."""
    network = make_network(f"deep_pursuit_{kind}", n_classes=10, image_shape=(32, 32, 3), width=2, depth=depth)
    layers, _, _ = network.pursuit.as_arrays("float32")
    n_layers = 6 * depth
    pairs = {(j + 1, k + 1) for j, k in layers.skips} | {(j + 1, 0) for j in layers.inputs}  # counted from 1
    expected = {
        "chain": set(),
        "residual": {(j, j - 2) for j in range(2, n_layers + 1, 2)},
        "dense": {(j, k) for j in range(3, n_layers + 1) for k in range(1, j - 1)},
    }[kind]
    assert layers.n_layers == n_layers and pairs == expected
    assert [shape[-1] for shape in layers.code_shapes] == [2] * 2 * depth + [4] * 2 * depth + [8] * 2 * depth
    assert [shape[0] for shape in layers.code_shapes] == [32] * 2 * depth + [16] * 2 * depth + [8] * 2 * depth


def test_residual_connections_have_no_parameters_and_the_head_the_papers_size():
    counts = {kind: n_parameters(f"deep_pursuit_{kind}", width=8) for kind in ("chain", "residual", "dense")}
    assert counts["chain"] == counts["residual"] < counts["dense"]
    for width, n_features in ((8, 128), (4, 64)):
        network = make_network("deep_pursuit_chain", n_classes=10, image_shape=(32, 32, 3), width=width)
        assert network.head[-1].in_features == n_features


def test_networks_of_the_dictionary_paper():
    assert n_parameters("dictionary_mlp", 10, (28, 28)) == 2 * 2 * 784 + 784 * 785 + 785 * 256 + 257 * 10
    network = make_network("dictionary_convnet", n_classes=10, image_shape=(28, 28))
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [32, 32, 64, 64, 128, 256]
    network = make_network("dictionary_autoencoder", n_classes=10, image_shape=(28, 28))
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [16, 32, 32, 64, 128, 32, 3, 1]
    assert network[-1].in_features == 256
    network = make_network("dictionary_hrnn", n_classes=10, image_shape=(28, 28))
    assert sum(isinstance(m, nn.LSTM) and m.hidden_size == 256 for m in network.modules()) == 3


def test_sdnets_have_sparse_layers_where_they_should_and_take_their_options():
    options = {"n_classes": 10, "image_shape": (32, 32, 3), "width": 4, "alpha": 0.3, "n_iter": 4}
    first = [m for m in make_network("sdnet18", **options).modules() if isinstance(m, CSCLayer)]
    everywhere = make_network("sdnet18_all", **options)
    assert len(first) == 1 and first[0].alpha == 0.3 and first[0].n_iter == 4
    assert sum(isinstance(m, CSCLayer) for m in everywhere.modules()) == 20
    assert not any(isinstance(m, nn.Conv2d) for m in everywhere.modules())


@pytest.mark.parametrize(("name", "kinds"), [("resnet18", nn.Conv2d), ("sdnet18", CSCLayer)])
def test_stems(name, kinds):
    for side, stem, kernel in ((32, None, 3), (224, None, 7), (224, "cifar", 3), (32, "imagenet", 7)):
        network = make_network(name, n_classes=10, image_shape=(side, side, 3), width=4, stem=stem)
        first = next(m for m in network.modules() if isinstance(m, kinds))
        assert first.kernel_size == (kernel, kernel)
    with pytest.raises(ValueError, match="stem must be 'cifar' or 'imagenet', got 'tiny'"):
        make_network(name, n_classes=10, image_shape=(32, 32, 3), stem="tiny")


def test_imagenet_sizes():
    network = make_network("sdnet18", n_classes=5, image_shape=(224, 224, 3), width=4).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 224, 224)).shape == (1, 5)


def test_the_seed_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return make_network("stability_mnist", n_classes=3, image_shape=(28, 28), n_components=(2, 2, 2)).state_dict()

    first, same, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["pursuit.atoms.0"], other["pursuit.atoms.0"])


def test_pursuits_are_built_as_asked():
    network = make_network(
        "deep_pursuit_residual", n_classes=4, image_shape=(16, 16, 1), width=2, pursuit="basis", max_iter=3
    )
    assert isinstance(network.pursuit, LayeredPursuit)
    assert (network.pursuit.pursuit, network.pursuit.max_iter, network.pursuit.batch_norm) == ("basis", 3, True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"name": "resnet19"},
            ValueError,
            "name must be one of .*'resnet18'.*got 'resnet19'. Did you mean 'resnet18'?",
        ),
        ({"name": None}, ValueError, "name must be one of"),
        ({"image_shape": (32,)}, ValueError, r"image_shape must be \(height, width\) or"),
        ({"image_shape": (32, 0, 3)}, ValueError, "image_shape must be"),
        ({"n_classes": 1}, ValueError, "n_classes must be at least 2, got 1"),
        ({"depth": 3}, TypeError, "The network 'resnet18' has no option 'depth'; it has width, stem"),
        ({"name": "deep_pursuit_chain", "depth": 0}, ValueError, "depth must be at least 1, got 0"),
        ({"name": "front_end_4_layers", "image_shape": (8, 8)}, ValueError, "at least 12 x 12 pixels"),
        ({"name": "dictionary_convnet", "image_shape": (3, 8)}, ValueError, "at least 4 x 4 pixels"),
        ({"name": "sdnet18", "n_iter": 0}, ValueError, "n_iter must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        make_network(**{"name": "resnet18", "n_classes": 10, "image_shape": (32, 32, 3), **arguments})


def test_names_are_sorted_and_make_takes_keywords_only():
    assert network_names() == sorted(network_names()) and len(network_names()) >= 20
    assert all(p.kind is p.KEYWORD_ONLY for p in list(inspect.signature(make_network).parameters.values())[1:-1])


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 1), (7, 6, 3)])
def test_image_network_normalises_images_with_channels_last(shape):
    channels = shape[2] if len(shape) == 3 else 1
    mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 0.25, 2.0][:channels]
    module = ImageNetwork(nn.Identity(), mean=mean, std=std)
    X = torch.rand(2, *shape)
    values = (X.reshape(2, 7, 6, channels) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(module(X), values.permute(0, 3, 1, 2))
    assert set(module.state_dict()) == {"mean", "std"}


def test_image_network_refuses_bad_input():
    with pytest.raises(ValueError, match="std must be > 0"):
        ImageNetwork(nn.Identity(), std=[1.0, 0.0])
    with pytest.raises(ValueError, match="mean must be a finite number, or one per channel"):
        ImageNetwork(nn.Identity(), mean=float("nan"))
    with pytest.raises(
        ValueError, match=r"X must have shape \(n_samples, height, width\[, n_channels\]\), got \(2, 5\)"
    ):
        ImageNetwork(nn.Identity())(torch.rand(2, 5))

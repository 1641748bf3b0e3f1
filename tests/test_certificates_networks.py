"""Certified training by interval bounds, and the certificate of the networks."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skrobust import TorchClassifier, WaveletSparsifier
from skrobust.attacks import APGD, PGD, Square
from skrobust.certificates import NoCertificateError, certify
from skrobust.nn import ImageNetwork, IntervalBound, RowNetwork
from skrobust.nn.intervals import Spread, margin_bounds, propagate

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
IMAGES = X.reshape(-1, 8, 8)


def convolutional():
    layers = nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 32)
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(32, 10))


@pytest.fixture(scope="module")
def certified():
    torch.manual_seed(0)
    model = TorchClassifier(convolutional(), certified=IntervalBound(0.1), max_epochs=40, lr=0.01, random_state=0)
    return model.fit(IMAGES[:1400], Y[:1400])


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    return TorchClassifier(convolutional(), max_epochs=10, lr=0.01, random_state=0).fit(IMAGES[:1400], Y[:1400])


def test_certified_training_makes_certificates(certified, plain):
    proved = certify(certified, IMAGES[1400:], Y[1400:], 0.05, radius=False)
    assert proved.certified_accuracy > 0.5 and not proved.is_exact
    assert certify(plain, IMAGES[1400:], Y[1400:], 0.05, radius=False).certified_accuracy < 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_attack_succeeds_within_a_certified_radius(certified, plain, norm):
    n_pairs = 0
    for model in (certified, plain):
        certificate = certify(model, IMAGES[1400:1600], Y[1400:1600], 0.02, norm=norm)
        index = np.flatnonzero(certificate.radius > 0)
        assert (certificate.radius[certificate.certified] >= 0.02).all()
        radii = certificate.radius[index]
        for attack in (
            PGD(eps=radii, norm=norm, n_iter=20, loss="margin", random_state=0),
            APGD(eps=radii, norm=norm, n_iter=20, random_state=0),
            Square(eps=radii, norm=norm, n_iter=50, random_state=0),
        ):
            X_adv = attack.perturb(model, IMAGES[1400:1600][index], Y[1400:1600][index])
            np.testing.assert_array_equal(model.predict(X_adv), Y[1400:1600][index])
        n_pairs += 3 * len(index)
    assert n_pairs > 500


def test_attacks_succeed_beyond_the_radius_of_linear_networks():
    model = TorchClassifier(nn.Linear(64, 10), max_epochs=30, lr=0.01, random_state=0).fit(X[:1000], Y[:1000])
    certificate = certify(model, X[1000:1100], Y[1000:1100], 0.05)
    images, labels = X[1000:1100].astype(np.float64), Y[1000:1100]
    weights = model.network_.network.weight.numpy() / model.network_.std.numpy()
    index = np.flatnonzero(np.isfinite(certificate.radius) & (certificate.radius > 0))
    broken = np.zeros(len(index), dtype=bool)
    for other in range(10):  # interval bounds of one layer are exact: the worst corner for one of the other classes
        step = 1.001 * certificate.radius[index, None] * np.sign(weights[other] - weights[labels[index]])
        broken |= model.predict(np.clip(images[index] + step, 0, 1)) != labels[index]
    assert broken.mean() > 0.95


@pytest.mark.parametrize("mean, std", [(0.3, 0.5), ([0.2, 0.7], [0.5, 2.0])])
def test_normalisation_is_bounded_exactly(mean, std):
    generator = torch.Generator().manual_seed(0)
    for network, shape in (
        (ImageNetwork(nn.Identity(), mean, std), (3, 4, 4, 2)),
        (RowNetwork(nn.Identity(), mean, std), (3, 2)),
    ):
        batch = torch.rand(shape, generator=generator)
        spread = propagate(network, Spread.around(batch, 0.1, None))
        torch.testing.assert_close(spread.lower, network(batch - 0.1))
        torch.testing.assert_close(spread.upper, network(batch + 0.1))
        torch.testing.assert_close(spread.value, network(batch))


def test_the_loss_is_the_cross_entropy_of_the_worst_scores():
    torch.manual_seed(0)
    network, y = convolutional().eval(), torch.as_tensor(Y[:20])
    batch = torch.as_tensor(IMAGES[:20, None])
    objective = IntervalBound(0.1, clean_weight=0.25)
    for progress, radius in ((0.01, 0.0), (0.195, 0.05), (0.5, 0.1)):
        loss, scores = objective(network, batch, y, progress)
        torch.testing.assert_close(scores, network(batch))
        _, margins = margin_bounds(network, batch, y, radius)
        worst = nn.functional.cross_entropy(-margins, y)
        expected = 0.75 * worst + 0.25 * nn.functional.cross_entropy(network(batch), y)
        if progress == 0.5:
            torch.testing.assert_close(loss, expected)
        else:  # with regularisers
            assert loss >= expected - 1e-6
    assert objective.share_of_radius(0.0) == 0 and objective.share_of_radius(0.37) == 1


def test_initial_weights_keep_intervals_of_one_size():
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(400, 400), nn.ReLU())]
    network = nn.Sequential(*layers)
    IntervalBound(0.1).prepare(network)
    with torch.no_grad():
        spread = propagate(network, Spread.around(torch.rand(8, 400), 0.1, None))
    assert 0.03 < spread.radius.mean() < 0.3


def test_bad_input_gets_a_clear_error(certified):
    for options, message in (
        ({"certified": 0.1}, "certified must be a skrobust.nn.IntervalBound"),
        ({"certified": IntervalBound(0.1), "adversary": PGD()}, "does not go with adversary"),
        ({"certified": IntervalBound(0.1), "loss": "trades"}, "loss='trades'"),
    ):
        with pytest.raises(ValueError, match=message):
            TorchClassifier("mlp", **options).fit(X[:50], Y[:50])
    with pytest.raises(ValueError, match="eps must be > 0"):
        IntervalBound(0)
    with pytest.raises(ValueError, match="warm_up \\+ ramp must be at most 1"):
        IntervalBound(0.1, warm_up=0.5, ramp=0.6)
    gelu = TorchClassifier(nn.Sequential(nn.Linear(64, 10), nn.GELU()), max_epochs=1).fit(X[:100], Y[:100])
    with pytest.raises(NoCertificateError, match="No certificate for this TorchClassifier: No interval bounds"):
        certify(gelu, X[:2], Y[:2], 0.1)
    front_end = WaveletSparsifier("haar", image_shape=(8, 8))
    defended = TorchClassifier("mlp", front_end=front_end, max_epochs=1).fit(X[:100], Y[:100])
    with pytest.raises(NoCertificateError, match="behind the front end WaveletSparsifier"):
        certify(defended, X[:2], Y[:2], 0.1)
    unknown = certify(certified, IMAGES[:2], [99, 98], 0.01)
    assert not unknown.certified.any()

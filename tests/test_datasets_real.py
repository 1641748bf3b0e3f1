"""The real sets, where SKROBUST_DATA names the folder that holds them."""

import os

import numpy as np
import pytest
from datasets_writers import planes_of, write_batch

from skrobust.datasets import DatasetNotFoundError, load_cifar10, load_cifar100, load_fashion_mnist, load_mnist
from skrobust.datasets.published import CIFAR10, MNIST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("SKROBUST_DATA"), reason="SKROBUST_DATA is not set"),
]


def _load(loader, **options):
    try:
        return loader(**options)
    except DatasetNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("split, n", [("train", 60_000), ("test", 10_000)])
def test_mnist(split, n):
    bunch = _load(load_mnist, split=split, dtype="float64")
    assert bunch.verified and bunch.images.shape == (n, 28, 28)
    assert tuple(np.bincount(bunch.target)) == MNIST.class_counts[split]
    if split == "train":
        np.testing.assert_allclose([bunch.images.mean(), bunch.images.std()], [0.13066, 0.30811], atol=5e-6)
        assert bunch.target[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("split, n", [("train", 50_000), ("test", 10_000)])
def test_cifar10(split, n):
    bunch = _load(load_cifar10, split=split, dtype="uint8")
    assert bunch.verified and bunch.images.shape == (n, 32, 32, 3)
    assert np.bincount(bunch.target).tolist() == [n // 10] * 10
    assert bunch.target_names.tolist() == list(CIFAR10.class_names)
    if split == "train":
        # Moments from histograms: exact, and without gigabytes of doubles.
        shares = np.stack([np.bincount(channel, minlength=256) for channel in bunch.images.reshape(-1, 3).T]) / (
            n * 1024
        )
        values = np.arange(256) / 255
        means = shares @ values
        np.testing.assert_allclose(means, [0.49140, 0.48216, 0.44653], atol=5e-6)
        np.testing.assert_allclose(np.sqrt(shares @ values**2 - means**2), [0.24703, 0.24349, 0.26159], atol=5e-6)


def test_cifar10_as_binary_batches_in_any_order(tmp_path):
    bunch = _load(load_cifar10, split="test", dtype="uint8")
    order = np.random.default_rng(0).permutation(len(bunch.target))
    write_batch(tmp_path, "test_batch", bunch.images[order], {"labels": bunch.target[order]}, "binary")
    binary = load_cifar10(tmp_path, split="test", dtype="uint8")
    assert binary.verified
    np.testing.assert_array_equal(binary.images, bunch.images[order])
    assert planes_of(binary.images).shape == (10_000, 3072)


@pytest.mark.parametrize("loader", [load_fashion_mnist, load_cifar100])
def test_optional_data_sets(loader):
    bunch = _load(loader, split="all", dtype="uint8")
    assert len(bunch.target) in (60_000, 70_000)
    assert np.ptp(np.bincount(bunch.target)) == 0

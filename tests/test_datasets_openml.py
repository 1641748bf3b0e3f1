"""The download through scikit-learn, with its function replaced by one of the same signature."""

import dataclasses
from unittest import mock
from urllib.error import URLError

import numpy as np
import pytest
import sklearn.datasets
from datasets_writers import digits_like, planes_of, write_mnist
from sklearn.utils import Bunch

from skrobust.datasets import (
    DatasetFileError,
    DatasetNotFoundError,
    load_cifar10,
    load_dataset,
    load_fashion_mnist,
    load_mnist,
)
from skrobust.datasets import cifar as _cifar
from skrobust.datasets import mnist as _mnist
from skrobust.datasets.files import fingerprint


@pytest.fixture(autouse=True)
def no_homes(monkeypatch, tmp_path):
    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn_home"))


@pytest.fixture
def openml(monkeypatch):
    """`fetch_openml` as a mock that insists on the real signature."""
    fake = mock.create_autospec(sklearn.datasets.fetch_openml)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fake)
    return fake


def _small_set(monkeypatch, module, attribute, shape, n_train=20, n_test=12, known=True):
    """Images and labels, and the set that publishes them."""
    images, labels = digits_like(n_train + n_test, 5, shape)
    labels = labels.astype(np.int64)
    flat = planes_of(images) if len(shape) == 3 else images.reshape(len(images), -1)
    parts = {"train": slice(0, n_train), "test": slice(n_train, None)}
    changes = {
        "class_counts": {
            split: tuple(np.bincount(labels[part], minlength=10).tolist()) for split, part in parts.items()
        },
        "fingerprints": {split: fingerprint(flat[part], labels[part]) for split, part in parts.items()}
        if known
        else {},
    }
    monkeypatch.setattr(module, attribute, dataclasses.replace(getattr(module, attribute), **changes))
    return images, flat, labels


def _as_fetched(flat, labels):
    return Bunch(data=flat.astype(np.float64), target=np.array([str(label) for label in labels], dtype=object))


def test_mnist(monkeypatch, tmp_path, openml):
    images, flat, labels = _small_set(monkeypatch, _mnist, "MNIST", (28, 28))
    openml.return_value = _as_fetched(flat, labels)
    for split, part in {"train": slice(0, 20), "test": slice(20, None), "all": slice(None)}.items():
        bunch = load_mnist(tmp_path, split=split, dtype="uint8", download=True)
        np.testing.assert_array_equal(bunch.images, images[part])
        np.testing.assert_array_equal(bunch.target, labels[part])
        assert bunch.verified and bunch.files == ["OpenML mnist_784"] and bunch.target_names[3] == "3"
    name, options = openml.call_args.args, openml.call_args.kwargs
    assert name == ("mnist_784",) and options["version"] == 1 and options["as_frame"] is False
    assert options["data_home"] == tmp_path
    load_mnist(download=True)
    assert openml.call_args.kwargs["data_home"] is None


def test_cifar10_planes_become_images(monkeypatch, openml):
    images, flat, labels = _small_set(monkeypatch, _cifar, "CIFAR10", (32, 32, 3))
    openml.return_value = _as_fetched(flat, labels)
    bunch = load_dataset("cifar10", split="test", dtype="uint8", download=True)
    np.testing.assert_array_equal(bunch.images, images[20:])
    assert bunch.verified and openml.call_args.args == ("CIFAR_10",)


def test_fashion_mnist_has_no_fingerprint(monkeypatch, openml):
    _, flat, labels = _small_set(monkeypatch, _mnist, "FASHION_MNIST", (28, 28), known=False)
    openml.return_value = _as_fetched(flat, labels)
    bunch = load_fashion_mnist(download=True)
    assert not bunch.verified and bunch.target_names[1] == "Trouser"
    openml.return_value = _as_fetched(flat, labels[::-1])
    with pytest.raises(DatasetFileError, match="OpenML's 'Fashion-MNIST' is not the published"):
        load_fashion_mnist(download=True)


@pytest.mark.parametrize("installed, parser", [(object(), "pandas"), (None, "liac-arff")])
def test_parser_follows_what_is_installed(monkeypatch, openml, installed, parser):
    from skrobust.datasets import openml as _openml

    _, flat, labels = _small_set(monkeypatch, _mnist, "MNIST", (28, 28))
    openml.return_value = _as_fetched(flat, labels)
    monkeypatch.setattr(_openml.importlib.util, "find_spec", lambda name: installed)
    load_mnist(download=True)
    assert openml.call_args.kwargs["parser"] == parser


def test_no_download_without_being_asked(tmp_path, openml):
    with pytest.raises(DatasetNotFoundError, match="download=True"):
        load_mnist(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="download=True"):
        load_cifar10(tmp_path)
    openml.assert_not_called()


def test_files_come_before_the_download(tmp_path, openml):
    write_mnist(tmp_path)
    assert len(load_mnist(tmp_path, verify=False, download=True).target) == 20
    openml.assert_not_called()


@pytest.mark.parametrize(
    "error", [URLError("no route"), TimeoutError("timed out"), ConnectionError("refused"), ValueError("md5 differs")]
)
def test_no_network(openml, error):
    openml.side_effect = error
    with pytest.raises(DatasetNotFoundError, match="'mnist_784' could not be downloaded.*SKROBUST_DATA"):
        load_mnist(download=True)


def test_other_content_is_refused(monkeypatch, openml):
    _, flat, labels = _small_set(monkeypatch, _mnist, "MNIST", (28, 28))
    good = _as_fetched(flat, labels)
    half, out, nan, brightened = (good.data.copy() for _ in range(4))
    half[0, 0], out[0, 0], nan[0, 0] = 0.5, 256, np.nan
    brightened[3, 7] = (brightened[3, 7] + 1) % 256
    for data in (half, out, nan, good.data[:-1], good.data[:, :-1], good.data.astype(object)):
        openml.return_value = Bunch(data=data, target=good.target)
        with pytest.raises(DatasetFileError, match="OpenML's 'mnist_784' is not MNIST"):
            load_mnist(download=True)
    for target in (np.array(["x"] * 32, object), good.target[:-1], np.array(["-1"] * 32, object)):
        openml.return_value = Bunch(data=good.data, target=target)
        with pytest.raises(DatasetFileError, match="OpenML's 'mnist_784' is not MNIST"):
            load_mnist(download=True)
    openml.return_value = Bunch(data=brightened, target=good.target)
    with pytest.raises(DatasetFileError, match="SHA-256 differ"):
        load_mnist(download=True)
    assert not load_mnist(download=True, verify=False).verified

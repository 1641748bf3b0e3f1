"""MNIST and Fashion-MNIST: folders searched, verification and error messages."""

import dataclasses
import gzip
import hashlib

import numpy as np
import pytest
from datasets_writers import MNIST_NAMES, PACKERS, idx_bytes, publish_mnist, write_mnist
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import DatasetFileError, DatasetNotFoundError, load_fashion_mnist, load_mnist
from skrobust.datasets.published import IDX_FILES


@pytest.fixture(autouse=True)
def no_homes(monkeypatch, tmp_path):
    """No data home of the machine the tests run on."""
    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn_home"))


@pytest.mark.parametrize("suffix", sorted(PACKERS))
@pytest.mark.parametrize("subfolder", ["MNIST/raw", "MNIST", "mnist", "."])
def test_layouts(tmp_path, subfolder, suffix):
    parts = write_mnist(tmp_path / subfolder, suffix)
    bunch = load_mnist(tmp_path, split="test", dtype="uint8", verify=False)
    np.testing.assert_array_equal(bunch.images, parts["test"][0])
    np.testing.assert_array_equal(bunch.target, parts["test"][1])
    assert bunch.data.shape == (12, 784) and bunch.image_shape == (28, 28)
    assert all(name.endswith(f"ubyte{suffix}") for name in bunch.files)


def test_other_spelling_of_the_names(tmp_path):
    parts = write_mnist(tmp_path, "", dot=True)
    np.testing.assert_array_equal(load_mnist(tmp_path, verify=False).target, parts["train"][1])


def test_splits_and_dtypes(tmp_path):
    parts = write_mnist(tmp_path / "FashionMNIST" / "raw")
    assert len(load_fashion_mnist(tmp_path, verify=False).target) == 20
    both = load_fashion_mnist(str(tmp_path), split="all", verify=False)
    np.testing.assert_array_equal(both.target, np.concatenate([parts["train"][1], parts["test"][1]]))
    raw = np.concatenate([parts["train"][0], parts["test"][0]])
    assert both.images.dtype == np.float32 and both.images.min() >= 0 and both.images.max() <= 1
    np.testing.assert_array_equal(both.images, (raw / 255).astype(np.float32))
    for dtype in ("float64", np.float64, np.dtype("float64")):
        X, y = load_fashion_mnist(tmp_path, split="all", dtype=dtype, verify=False, return_X_y=True)
        assert X.dtype == np.float64 and X.shape == (32, 784) and y.shape == (32,)
        np.testing.assert_array_equal(X, raw.reshape(32, -1) / 255)


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_published_files_are_verified_in_any_compression(tmp_path, monkeypatch, suffix):
    published, own = tmp_path / "published", tmp_path / "own"
    parts = write_mnist(published)
    publish_mnist(monkeypatch, published, parts)
    write_mnist(own, suffix)
    for file in own.iterdir():
        if suffix == ".gz":  # the same content, packed in another way than the published file
            file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1, mtime=7))
    for folder in (published, own):
        bunch = load_mnist(folder, split="all")
        assert bunch.verified
        assert bunch.target_names.tolist() == list("0123456789")
        assert "LeCun" in bunch.DESCR and "[0, 1]" in bunch.DESCR


@pytest.mark.parametrize("suffix", sorted(PACKERS))
@pytest.mark.parametrize("key", sorted(MNIST_NAMES))
def test_one_changed_value_is_noticed(tmp_path, monkeypatch, suffix, key):
    published, own = tmp_path / "published", tmp_path / "own"
    publish_mnist(monkeypatch, published, write_mnist(published))
    write_mnist(own, suffix)
    path = own / (MNIST_NAMES[key] + suffix)
    content = bytearray((published / f"{MNIST_NAMES[key]}.gz").read_bytes())
    content = bytearray(gzip.decompress(content))
    content[-1] ^= 1
    path.write_bytes(PACKERS[suffix](bytes(content)))
    with pytest.raises(DatasetFileError) as caught:
        load_mnist(own, split=key[0])
    message = str(caught.value)
    assert str(path) in message and "verify=False" in message and "SHA-256" in message
    assert not load_mnist(own, split=key[0], verify=False).verified


def test_truncated_file_is_called_truncated(tmp_path, monkeypatch):
    publish_mnist(monkeypatch, tmp_path, write_mnist(tmp_path))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetFileError, match="train-images-idx3-ubyte.gz is truncated"):
        load_mnist(tmp_path)


def test_without_a_published_sum_the_classes_are_counted(tmp_path, monkeypatch):
    published = tmp_path / "published"
    parts = write_mnist(published)
    publish_mnist(monkeypatch, published, parts, "Fashion-MNIST", sha256=False)
    assert load_fashion_mnist(published).verified
    plain = tmp_path / "plain"
    write_mnist(plain, "")
    bunch = load_fashion_mnist(plain)
    assert not bunch.verified and bunch.target_names[9] == "Ankle boot"
    labels = parts["train"][1].copy()
    labels[0] = 1 - labels[0]
    (plain / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    with pytest.raises(DatasetFileError, match="not the published Fashion-MNIST train set: it has 20 images"):
        load_fashion_mnist(plain)
    # A distribution compresses the same files once more: the md5 of the .gz is another, the content is not.
    packed = tmp_path / "packed"
    write_mnist(packed)
    for file in packed.iterdir():
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1, mtime=7))
    bunch = load_fashion_mnist(packed)
    assert not bunch.verified
    np.testing.assert_array_equal(bunch.target, parts["train"][1])
    (packed / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    with pytest.raises(DatasetFileError, match="not the published Fashion-MNIST train set: it has 20 images"):
        load_fashion_mnist(packed)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_one_set_under_the_others_name(tmp_path, monkeypatch, suffix):
    published, own = tmp_path / "published", tmp_path / "own"
    publish_mnist(monkeypatch, published, write_mnist(published))
    write_mnist(own, suffix)
    if suffix:
        own = published
    with pytest.raises(DatasetFileError, match=r"a file of MNIST \(train-images-idx3-ubyte\)"):
        load_fashion_mnist(own)


def test_a_set_of_the_same_names_and_class_counts_is_recognised(tmp_path, monkeypatch):
    fashion, other = tmp_path / "fashion", tmp_path / "other"
    parts = write_mnist(fashion)
    publish_mnist(monkeypatch, fashion, parts, "Fashion-MNIST", sha256=False)
    write_mnist(other)
    for file in other.iterdir():
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1, mtime=7))
    files = {
        key: dataclasses.replace(file, gz_md5=hashlib.md5((other / f"{file.name}.gz").read_bytes()).hexdigest())
        for key, file in IDX_FILES["KMNIST"].items()
    }
    monkeypatch.setitem(IDX_FILES, "KMNIST", files)
    with pytest.raises(DatasetFileError, match=r"a file of KMNIST \(train-images-idx3-ubyte\)"):
        load_fashion_mnist(other)


def test_another_set_is_accepted_without_verification(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(DatasetFileError, match="verify=False"):
        load_fashion_mnist(tmp_path)
    bunch = load_fashion_mnist(tmp_path, verify=False)
    assert bunch.target_names.tolist() == list("0123456789")  # not the names of clothes
    assert "Not verified" in bunch.DESCR


def test_search_order(tmp_path, monkeypatch):
    homes = {name: tmp_path / name for name in ("argument", "environment", "sklearn_home")}
    for size, home in enumerate(homes.values(), start=13):
        write_mnist(home / "MNIST", n_train=size)

    def n_images(data_home=None):
        return len(load_mnist(data_home, verify=False).target)

    assert n_images() == 15
    monkeypatch.setenv("SKROBUST_DATA", str(homes["environment"]))
    assert n_images() == 14
    assert n_images(homes["argument"]) == 13
    # The variable's folder lacks the files: scikit-learn's data home still has them. A folder that was asked for
    # by name is never replaced by another.
    monkeypatch.setenv("SKROBUST_DATA", str(tmp_path / "empty"))
    assert n_images() == 15
    with pytest.raises(DatasetNotFoundError):
        n_images(tmp_path / "empty")


def test_home_directory_and_scikit_learn_default(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("SCIKIT_LEARN_DATA")
    with pytest.raises(DatasetNotFoundError, match=r"scikit_learn_data \(no such folder\)"):
        load_mnist()
    assert not (tmp_path / "scikit_learn_data").exists()
    write_mnist(tmp_path / "scikit_learn_data", n_train=17)
    assert len(load_mnist(verify=False).target) == 17
    write_mnist(tmp_path / "images", n_train=18)
    assert len(load_mnist("~/images", verify=False).target) == 18


def test_missing_files_message(tmp_path, monkeypatch):
    monkeypatch.setenv("SKROBUST_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    message = str(caught.value)
    assert isinstance(caught.value, DatasetNotFoundError)
    for part in (
        f"{tmp_path}, and in it MNIST/raw",
        f"{tmp_path / 'sklearn_home'} (no such folder)",
        "train-images-idx3-ubyte, train-labels-idx1-ubyte (plain, .gz or .xz)",
        "SKROBUST_DATA",
        "data_home=",
        "download=True",
        "torchvision.datasets.MNIST(FOLDER, download=True)",
    ):
        assert part in message
    assert "t10k" not in message  # not asked for


def test_one_missing_file_is_named(tmp_path):
    write_mnist(tmp_path / "MNIST")
    (tmp_path / "MNIST" / "train-labels-idx1-ubyte.gz").unlink()
    assert len(load_mnist(tmp_path, split="test", verify=False).target) == 12
    with pytest.raises(DatasetNotFoundError, match="MNIST lacks train-labels-idx1-ubyte"):
        load_mnist(tmp_path, verify=False)


def test_images_and_labels_of_different_files(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes((tmp_path / "t10k-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(DatasetFileError, match="20 images and .*12 labels"):
        load_mnist(tmp_path, verify=False)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"split": "validation"}, "'split' parameter of load_mnist"),
        ({"dtype": "int16"}, "'dtype' parameter must be"),
        ({"dtype": None}, "'dtype' parameter must be"),
        ({"dtype": "no dtype"}, "'dtype' parameter must be"),
        ({"verify": "yes"}, "'verify' parameter of load_mnist"),
        ({"data_home": 3}, "'data_home' parameter of load_mnist"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        load_mnist(**options)

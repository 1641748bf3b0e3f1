"""CIFAR-10 and CIFAR-100: Python and binary batches of every age, checksums, damage."""

import dataclasses
import hashlib
import pickle

import numpy as np
import pytest
from datasets_writers import PACKERS, planes_of, write_batch, write_cifar10, write_cifar100

from skrobust.datasets import DatasetFileError, DatasetNotFoundError, load_cifar10, load_cifar100
from skrobust.datasets import cifar as _cifar
from skrobust.datasets import files as _files
from skrobust.datasets.files import fingerprint
from skrobust.datasets.published import CIFAR_MD5

_KINDS = ["python2", 0, 1, 2, 3, 4, 5, "binary"]


@pytest.fixture(autouse=True)
def no_homes(monkeypatch, tmp_path):
    monkeypatch.delenv("SKROBUST_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn_home"))


def _counts(parts):
    return {split: tuple(np.bincount(labels, minlength=10).tolist()) for split, (_, labels) in parts.items()}


def _publish(monkeypatch, folder, parts):
    """Declare the Python batches in `folder` to be the published ones."""
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setitem(CIFAR_MD5, "CIFAR-10", md5)
    prints = {split: fingerprint(planes_of(images), labels) for split, (images, labels) in parts.items()}
    image_set = dataclasses.replace(_cifar.CIFAR10, class_counts=_counts(parts), fingerprints=prints)
    monkeypatch.setattr(_cifar, "CIFAR10", image_set)


@pytest.mark.parametrize("suffix", sorted(PACKERS))
@pytest.mark.parametrize("kind", _KINDS)
def test_cifar10_formats(tmp_path, kind, suffix):
    folder = "cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py"
    parts = write_cifar10(tmp_path / folder, kind, suffix)
    for split in ("train", "test"):
        bunch = load_cifar10(tmp_path, split=split, dtype="uint8", verify=False)
        np.testing.assert_array_equal(bunch.images, parts[split][0])
        np.testing.assert_array_equal(bunch.target, parts[split][1])
        assert bunch.image_shape == (32, 32, 3) and bunch.images.flags.c_contiguous
    both = load_cifar10(tmp_path, split="all", verify=False)
    raw = np.concatenate([parts["train"][0], parts["test"][0]])
    np.testing.assert_array_equal(both.images, (raw / 255).astype(np.float32))
    assert both.data.shape == (24, 3072)


@pytest.mark.parametrize("subfolder", ["CIFAR10", "cifar10", "."])
def test_other_folders(tmp_path, subfolder):
    parts = write_cifar10(tmp_path / subfolder, "binary")
    np.testing.assert_array_equal(load_cifar10(tmp_path, verify=False).target, parts["train"][1])


@pytest.mark.parametrize("kind", ["python2", "binary"])
def test_class_names_of_a_set_of_ones_own(tmp_path, kind):
    folder = tmp_path / "cifar10"
    write_cifar10(folder, kind)
    top = load_cifar10(folder, verify=False).target.max()
    assert load_cifar10(folder, verify=False).target_names.tolist() == [str(label) for label in range(top + 1)]
    names = [f"class{label}" for label in range(10)]
    write_cifar10(folder, kind, names=names)
    assert load_cifar10(folder, verify=False).target_names.tolist() == names
    write_cifar10(folder, kind, names=names[:3])
    with pytest.raises(DatasetFileError, match="there are 3 classes"):
        load_cifar10(folder, verify=False)


@pytest.mark.parametrize("kind", ["python2", "binary"])
@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_published_batches_are_verified(tmp_path, monkeypatch, kind, suffix):
    published, own = tmp_path / "published", tmp_path / "own"
    _publish(monkeypatch, published, write_cifar10(published))
    write_cifar10(own, kind, suffix)
    for split in ("train", "test", "all"):
        bunch = load_cifar10(own, split=split)
        assert bunch.verified and bunch.target_names[0] == "airplane"


@pytest.mark.parametrize("kind", ["python2", "binary"])
@pytest.mark.parametrize("number", [0, 3, 5])
def test_one_changed_pixel_is_noticed(tmp_path, monkeypatch, kind, number):
    published, own = tmp_path / "published", tmp_path / "own"
    _publish(monkeypatch, published, write_cifar10(published))
    write_cifar10(own, kind)
    path = sorted(own.iterdir())[number]
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # a pixel in both formats
    path.write_bytes(content)
    split = "test" if number == 5 else "train"
    with pytest.raises(DatasetFileError, match=r"(md5|SHA-256)[\s\S]*verify=False") as caught:
        load_cifar10(own, split=split)
    assert str(path if kind == "python2" else own) in str(caught.value)
    assert not load_cifar10(own, split=split, verify=False).verified


def test_fingerprint_ignores_only_the_order():
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (6, 12), dtype=np.uint8), np.arange(6)
    order = rng.permutation(6)
    assert fingerprint(pixels, labels) == fingerprint(pixels[order], labels[order])
    assert fingerprint(pixels, labels) != fingerprint(pixels[order], labels)
    assert fingerprint(pixels, labels) != fingerprint(pixels[:5], labels[:5])
    assert fingerprint(pixels[:1], labels[:1]) == hashlib.sha256(b"\0" + pixels[0].tobytes()).hexdigest()


def test_a_wrong_pickle_is_never_opened_when_verifying(tmp_path, monkeypatch):
    write_cifar10(tmp_path)
    monkeypatch.setattr(_cifar, "load_plain_pickle", lambda *_: pytest.fail("opened"))
    with pytest.raises(DatasetFileError, match="data_batch_1 is not the published data_batch_1 of CIFAR-10: its md5"):
        load_cifar10(tmp_path)


def test_hostile_batch_is_refused_without_verification(tmp_path):
    write_cifar10(tmp_path)
    mark = tmp_path / "mark"

    class Hostile:
        def __reduce__(self):
            return open, (str(mark), "w")

    (tmp_path / "test_batch").write_bytes(pickle.dumps({"data": Hostile(), "labels": [0]}))
    with pytest.raises(DatasetFileError, match=r"test_batch was refused: .*open.*Nothing in it was run"):
        load_cifar10(tmp_path, split="test", verify=False)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["python2", "binary", 4])
@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_truncated_batch(tmp_path, kind, suffix):
    write_cifar10(tmp_path, kind, suffix)
    path = next(path for path in tmp_path.iterdir() if path.name.startswith("test_batch"))
    content = path.read_bytes()
    for length in (0, 1, 100, len(content) // 2 - 1, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetFileError, match="test_batch"):
            load_cifar10(tmp_path, split="test", verify=False)


def test_binary_batch_cut_between_two_images(tmp_path, monkeypatch):
    published, own = tmp_path / "published", tmp_path / "own"
    _publish(monkeypatch, published, write_cifar10(published))
    write_cifar10(own, "binary")
    path = own / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-3073])
    with pytest.raises(DatasetFileError, match="not the published CIFAR-10 test set: it has 3 images"):
        load_cifar10(own, split="test")


def test_a_compressed_batch_may_not_unpack_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "UNPACKED_LIMIT", 2 << 20)
    (tmp_path / "test_batch.bin.xz").write_bytes(PACKERS[".xz"](bytes(50 << 20)))
    with pytest.raises(DatasetFileError, match="test_batch.bin.xz unpacks to more than 2 MiB"):
        load_cifar10(tmp_path, split="test", verify=False)


@pytest.mark.parametrize(
    "batch, message",
    [
        ({"labels": [1]}, "'data' is not a uint8 array"),
        ({"data": np.zeros((1, 3072), np.int64), "labels": [1]}, "'data' is not a uint8 array"),
        ({"data": np.zeros((1, 3000), np.uint8), "labels": [1]}, "'data' is not a uint8 array"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "not 0 integers"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "'labels' are not 2 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "'labels' are not 2 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, "2"]}, "'labels' are not 2 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2**80]}, "'labels' are not 2 integers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, -1]}, "labels from -1 to 1"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2**40]}, "labels from 1 to 1099511627776"),
        ([1, 2], "holds a list, not a dict"),
    ],
)
def test_wrong_batches(tmp_path, batch, message):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(DatasetFileError, match=message):
        load_cifar10(tmp_path, split="test", verify=False)


@pytest.mark.parametrize("kind", [2, 5, "binary"])
def test_cifar100(tmp_path, kind):
    folder = "cifar-100-binary" if kind == "binary" else "cifar-100-python"
    parts = write_cifar100(tmp_path / folder, kind)
    for split in ("train", "test"):
        images, fine, coarse = parts[split]
        bunch = load_cifar100(tmp_path, split=split, dtype="uint8", verify=False)
        np.testing.assert_array_equal(bunch.images, images)
        np.testing.assert_array_equal(bunch.target, fine)
        assert bunch.target_names.tolist() == [f"fine{label}" for label in range(100)]
        bunch = load_cifar100(tmp_path, split=split, label="coarse", verify=False)
        np.testing.assert_array_equal(bunch.target, coarse)
        assert bunch.target_names.tolist() == [f"coarse{label}" for label in range(20)]


def test_cifar100_verifies_batches_and_names(tmp_path, monkeypatch):
    parts = write_cifar100(tmp_path)
    with pytest.raises(DatasetFileError, match="meta is not the published meta of CIFAR-100"):
        load_cifar100(tmp_path)
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    monkeypatch.setitem(CIFAR_MD5, "CIFAR-100", md5)
    with pytest.raises(DatasetFileError, match="CIFAR-100 train set: it has 8 images"):
        load_cifar100(tmp_path)
    counts = {split: tuple(np.bincount(part[1], minlength=100).tolist()) for split, part in parts.items()}
    monkeypatch.setattr(_cifar, "CIFAR100", dataclasses.replace(_cifar.CIFAR100, class_counts=counts))
    assert load_cifar100(tmp_path).verified
    monkeypatch.setitem(md5, "test", "0" * 32)
    with pytest.raises(DatasetFileError, match="test is not the published test of CIFAR-100"):
        load_cifar100(tmp_path, split="test")


def test_cifar100_needs_its_names(tmp_path):
    write_cifar100(tmp_path)
    (tmp_path / "meta").unlink()
    with pytest.raises(DatasetNotFoundError, match="lacks meta"):
        load_cifar100(tmp_path, verify=False)


def test_cifar100_is_not_mistaken_for_cifar10(tmp_path):
    images = np.zeros((2, 32, 32, 3), np.uint8)
    write_batch(tmp_path, "test_batch", images, {"coarse": [1, 2], "fine": [3, 4]}, "binary")
    with pytest.raises(DatasetFileError, match="6148 bytes are not a whole number of records of 3073"):
        load_cifar10(tmp_path, split="test", verify=False)


def test_missing_message(tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        load_cifar10(tmp_path, split="test")
    for part in ("test_batch; or test_batch.bin", "cifar-10-batches-py", "download=True", "tar -xzf", "torchvision"):
        assert part in str(caught.value)
    with pytest.raises(DatasetNotFoundError) as caught:
        load_cifar100(tmp_path)
    assert "download=True fetches" not in str(caught.value)

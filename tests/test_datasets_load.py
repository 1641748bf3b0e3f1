"""The digits, the loader by name, and the page that shows them."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from datasets_writers import publish_mnist, write_cifar10, write_mnist
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import DATASETS, DatasetNotFoundError, load_dataset, load_digits_images

_PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "datasets.md"


def test_digits_are_scikit_learns():
    reference = load_digits()
    bunch = load_digits_images()
    assert bunch.images.dtype == np.float32 and bunch.images.max() == 1 and bunch.images.min() == 0
    np.testing.assert_array_equal(bunch.images * 16, reference.images)
    np.testing.assert_array_equal(bunch.target, reference.target)
    np.testing.assert_array_equal(load_digits_images(dtype="uint8").data, reference.data)
    np.testing.assert_array_equal(load_digits_images(dtype="float64").data, reference.data / 16)
    assert "Optical recognition" in bunch.DESCR and "1797 images of 8 x 8" in bunch.DESCR


def test_digits_split_is_disjoint_and_balanced():
    train, test = load_digits_images(split="train"), load_digits_images(split="test")
    assert (len(train.target), len(test.target)) == (1347, 450)
    np.testing.assert_array_equal(np.concatenate([train.data, test.data]), load_digits_images().data)
    for part in (train, test):
        assert np.ptp(np.bincount(part.target)) < 8


def test_every_name_loads(tmp_path):
    write_mnist(tmp_path / "MNIST")
    write_mnist(tmp_path / "FashionMNIST")
    write_cifar10(tmp_path / "cifar-10-batches-py")
    (tmp_path / "tree" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "tree" / "a" / "1.png")
    options = {"data_home": tmp_path, "verify": False, "split": "test"}
    shapes = {
        name: load_dataset(name, **options).images.shape for name in ("mnist", "fashion-mnist", "cifar10", "digits")
    }
    assert shapes == {
        "mnist": (12, 28, 28),
        "fashion-mnist": (12, 28, 28),
        "cifar10": (4, 32, 32, 3),
        "digits": (450, 8, 8),
    }
    assert load_dataset("image-folder", path=tmp_path / "tree").images.shape == (1, 3, 3)
    files = [tmp_path / "MNIST" / f"t10k-{name}-ubyte.gz" for name in ("images-idx3", "labels-idx1")]
    assert load_dataset("idx", images=files[0], labels=files[1]).images.shape == (12, 28, 28)
    for name, more in (("cifar100", {"label": "coarse"}), ("cifar10-c", {"kind": "fog", "severity": 1})):
        with pytest.raises(DatasetNotFoundError):
            load_dataset(name, **options, **more)
    assert set(DATASETS) == {*shapes, "image-folder", "idx", "cifar100", "cifar10-c"}


def test_names_ignore_case_and_underscores(tmp_path):
    write_mnist(tmp_path)
    for name in ("Fashion_MNIST", "fashion-mnist"):
        assert len(load_dataset(name, data_home=tmp_path, verify=False).target) == 20
    X, y = load_dataset("DIGITS", return_X_y=True, dtype="float64")
    assert X.shape == (1797, 64) and X.dtype == np.float64 and y.shape == (1797,)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("svhn", {}, "must be one of digits, mnist"),
        ("mnist", {"kind": "fog"}, "'mnist' has no option 'kind'; it takes data_home, split"),
        ("cifar100", {"download": True}, "'cifar100' has no option 'download'"),
        ("digits", {"color": "rgb"}, "'digits' has no option 'color'"),
        ("image-folder", {"path": ".", "split": "train"}, "'image-folder', which has no splits"),
        ("cifar10-c", {"kind": "fog", "severity": 1, "split": "train"}, "has no splits"),
        ("digits", {"split": "validation"}, "'split' parameter of load_digits_images"),
    ],
)
def test_wrong_calls(name, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        load_dataset(name, **options)


def test_import_is_light():
    code = (
        "import sys, skrobust.datasets; print(*{'torch', 'matplotlib', 'PIL', 'sklearn.datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def _blocks(heading):
    section = _PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def test_examples_of_the_page_run(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "MNIST" / "raw"
    publish_mnist(monkeypatch, folder, write_mnist(folder))  # random images replace MNIST
    monkeypatch.chdir(tmp_path)
    blocks = _blocks("Quick start") + _blocks("Your own images")
    assert len(blocks) == 5
    namespace = {}
    for block in blocks[:-1]:
        exec(compile(block, str(_PAGE), "exec"), namespace)
    assert namespace["X_train"].shape == (20, 784) and namespace["X"].shape == (450, 64)
    exec(compile(blocks[-1], str(_PAGE), "exec"), namespace)
    assert namespace["X"].shape == (2, 224, 224, 3)
    assert namespace["pictures"].target_names.tolist() == ["dark", "light"]

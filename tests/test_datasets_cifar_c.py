"""CIFAR-10-C: the right rows of the right file, and invalid files."""

import numpy as np
import pytest
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import CORRUPTIONS, DatasetFileError, DatasetNotFoundError, load_cifar10c


def _write(folder, kind="fog", *, n=10, n_labels=None, shape=(32, 32, 3), dtype=np.uint8):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5 * n, *shape)).astype(dtype)
    labels = np.tile(np.arange(n) % 10, 5)[:n_labels]
    np.save(folder / f"{kind}.npy", images)
    np.save(folder / "labels.npy", labels)
    return images, labels


@pytest.mark.parametrize("subfolder", ["CIFAR-10-C", "."])
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_rows_of_a_severity(tmp_path, subfolder, severity):
    images, labels = _write(tmp_path / subfolder)
    bunch = load_cifar10c("fog", severity, data_home=tmp_path, dtype="uint8", verify=False)
    rows = slice(10 * (severity - 1), 10 * severity)
    np.testing.assert_array_equal(bunch.images, images[rows])
    np.testing.assert_array_equal(bunch.target, labels[rows])
    assert bunch.images.flags.writeable and not isinstance(bunch.images, np.memmap)
    assert bunch.target_names[9] == "truck" and (bunch.kind, bunch.severity) == ("fog", severity)
    X, y = load_cifar10c("fog", severity, tmp_path, verify=False, return_X_y=True)
    np.testing.assert_array_equal(X, (images[rows] / 255).astype(np.float32).reshape(10, -1))
    assert y.dtype == np.int64


def test_verification_counts_the_classes(tmp_path):
    with pytest.raises(DatasetFileError, match="not the published CIFAR-10 test set: it has 10 images"):
        _write(tmp_path)
        load_cifar10c("fog", 1, tmp_path)
    np.save(tmp_path / "fog.npy", np.zeros((50_000, 32, 32, 3), np.uint8))
    labels = np.tile(np.arange(10).repeat(1000), 5)
    np.save(tmp_path / "labels.npy", labels)
    assert load_cifar10c("fog", 5, tmp_path, dtype="uint8").images.shape == (10_000, 32, 32, 3)
    np.save(tmp_path / "labels.npy", np.concatenate([labels[:40_000], labels[:39_999:-1]]))
    with pytest.raises(DatasetFileError, match="does not repeat the same labels"):
        load_cifar10c("fog", 5, tmp_path, dtype="uint8")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"shape": (28, 28)}, r"uint8 of shape \(50, 28, 28\), not uint8"),
        ({"dtype": np.float32}, "float32 of shape"),
        ({"n_labels": 49}, r"50 images and .*labels of shape \(49,\)"),
        ({"n": 0}, "0 images"),
    ],
)
def test_wrong_arrays(tmp_path, options, message):
    _write(tmp_path, **options)
    with pytest.raises(DatasetFileError, match=message):
        load_cifar10c("fog", 1, tmp_path, verify=False)


def test_truncated_foreign_and_pickled_files(tmp_path):
    _write(tmp_path)
    path = tmp_path / "fog.npy"
    content = path.read_bytes()
    for damaged in (b"", content[:7], content[:100], content[:-1], b"PK\x03\x04" + content):
        path.write_bytes(damaged)
        with pytest.raises(DatasetFileError, match="fog.npy is truncated, damaged or not a .npy file"):
            load_cifar10c("fog", 1, tmp_path, verify=False)
    np.save(path, np.array([{"a": 1}] * 5, object), allow_pickle=True)
    with pytest.raises(DatasetFileError, match="fog.npy"):
        load_cifar10c("fog", 1, tmp_path, verify=False)


def test_missing_file_and_wrong_parameters(tmp_path):
    _write(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"lacks snow.npy[\s\S]*CIFAR-10-C.tar"):
        load_cifar10c("snow", 1, tmp_path)
    with pytest.raises(InvalidParameterError, match="'kind' parameter of load_cifar10c"):
        load_cifar10c("rain", 1, tmp_path)
    for severity in (0, 6, 1.0):
        with pytest.raises(InvalidParameterError, match="'severity' parameter of load_cifar10c"):
            load_cifar10c("fog", severity, tmp_path)
    assert len(set(CORRUPTIONS)) == 19

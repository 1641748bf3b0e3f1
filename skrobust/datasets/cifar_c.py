"""CIFAR-10-C: the test images under common corruptions."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skrobust.signals import documented_like

from .bunch import make_bunch, only, pixel_dtype
from .checks import check_class_counts, check_label_range
from .errors import DatasetFileError
from .files import GET_AGAIN
from .mnist import load_mnist
from .published import CIFAR10
from .search import find_layout

_HOMEPAGE = "https://zenodo.org/records/2535967"
_REFERENCE = (
    "D. Hendrycks, T. Dietterich: Benchmarking neural network robustness to common corruptions and perturbations. "
    "ICLR 2019."
)

#: The corruptions of CIFAR-10-C: the 15 of the benchmark, then the 4 meant for validation.
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)


@documented_like(load_mnist, sections=("Raises",))
@validate_params(
    {"kind": [StrOptions(set(CORRUPTIONS))], "severity": [Interval(Integral, 1, 5, closed="both")]}
    | only("data_home", "dtype", "return_X_y", "verify"),
    prefer_skip_nested_validation=True,
)
def load_cifar10c(kind, severity, data_home=None, *, dtype="float32", return_X_y=False, verify=True):
    """Load one corruption of CIFAR-10-C at one severity: the 10,000 test images of CIFAR-10, corrupted.

    Reads ``<kind>.npy`` and ``labels.npy`` from ``CIFAR-10-C`` or directly from a data home; only the rows of that
    severity are read from disk.

    Parameters
    ----------
    kind : str
        One of `CORRUPTIONS`, such as "gaussian_noise".
    severity : int
        1 to 5.
    verify : bool, default=True
        No checksums are published for the single files: this checks that there are 10,000 images per severity, 1,000
        of each class, with the same labels at each severity. False accepts other numbers.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        As from `load_cifar10`, with ``kind`` and ``severity``. Or ``(data, target)`` if `return_X_y`.

    Examples
    --------
    >>> from skrobust.datasets import load_cifar10c
    >>> foggy = load_cifar10c("fog", 3, data_home="data")  # doctest: +SKIP
    >>> foggy.images.shape  # doctest: +SKIP
    (10000, 32, 32, 3)
    """
    pixel_dtype(dtype)
    remedy = f"unpack CIFAR-10-C.tar of {_HOMEPAGE} there with tar -xf (2.9 GB)."
    layouts = {"npy": {"images": (f"{kind}.npy",), "labels": ("labels.npy",)}}
    _, paths = find_layout(
        data_home, ["CIFAR-10-C", "cifar-10-c"], layouts, title="CIFAR-10-C", remedy=remedy, compressed=False
    )
    images, labels = _map(paths["images"]), _map(paths["labels"])
    if images.dtype != np.uint8 or images.shape[1:] != CIFAR10.image_shape:
        raise DatasetFileError(
            f"{paths['images']} is not a CIFAR-10-C file: it holds {images.dtype.name} of shape {images.shape}, not "
            f"uint8 of shape (50000, 32, 32, 3). {GET_AGAIN}"
        )
    n, remainder = divmod(len(images), 5)
    if remainder or not n or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        raise DatasetFileError(
            f"{paths['images']} has {len(images)} images and {paths['labels']} labels of shape {labels.shape} and "
            f"dtype {labels.dtype.name}, instead of as many integers as images, in five severities of equal size. "
            f"{GET_AGAIN}"
        )
    rows = slice((severity - 1) * n, severity * n)
    target = np.asarray(labels[rows], dtype=np.int64)
    check_label_range(target, paths["labels"], len(CIFAR10.class_names))
    if verify:
        check_class_counts(CIFAR10, "test", target, paths["labels"])
        if not np.array_equal(labels, np.tile(target, 5)):
            raise DatasetFileError(
                f"{paths['labels']} does not repeat the same labels for each of the five severities. {GET_AGAIN}"
            )
    return make_bunch(
        np.array(images[rows]),
        target,
        target_names=CIFAR10.class_names,
        dtype=dtype,
        return_X_y=return_X_y,
        title=f"CIFAR-10-C, {kind}, severity {severity} of 5",
        descr=_REFERENCE,
        files=[str(path) for path in paths.values()],
        verified=False,
        kind=kind,
        severity=severity,
    )


def _map(path):
    """A memory map of a .npy file; NumPy refuses object arrays, which are pickles, here."""
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise DatasetFileError(
            f"{path} is truncated, damaged or not a .npy file of numbers ({error}). {GET_AGAIN}"
        ) from error

"""CIFAR-10 and CIFAR-100, as Python or binary batches."""

import dataclasses

import numpy as np
from sklearn.utils._param_validation import StrOptions, validate_params

from skrobust.signals import documented_like

from .bunch import SPLITS, only, pixel_dtype, published_bunch
from .checks import check_class_counts, check_fingerprint, check_label_range
from .errors import DatasetFileError, DatasetNotFoundError
from .files import GET_AGAIN, content_md5, read_content
from .mnist import load_mnist
from .openml import fetch_parts
from .pickles import load_plain_pickle
from .published import CIFAR10, CIFAR100, CIFAR_MD5
from .search import find_layout, find_variant

_SHAPE = (32, 32, 3)
_N_VALUES = 3 * 32 * 32


@dataclasses.dataclass(frozen=True)
class _Format:
    """The files of one of the two sets in one of the two formats."""

    python: bool
    batches: dict  # split -> file names
    meta: str  # file with the class names
    labels: object  # key in the pickled dict, or index among the record's label bytes
    label_names: str | None = None  # key in the pickled meta file
    n_label_bytes: int = 1


_CIFAR10_FORMATS = {
    "python": _Format(
        True,
        {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]},
        "batches.meta",
        "labels",
        "label_names",
    ),
    "binary": _Format(
        False,
        {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]},
        "batches.meta.txt",
        0,
    ),
}


def _cifar100_formats(label):
    return {
        "python": _Format(
            True, {"train": ["train"], "test": ["test"]}, "meta", f"{label}_labels", f"{label}_label_names"
        ),
        "binary": _Format(
            False,
            {"train": ["train.bin"], "test": ["test.bin"]},
            f"{label}_label_names.txt",
            ("coarse", "fine").index(label),
            n_label_bytes=2,
        ),
    }


@documented_like(load_mnist, sections=("Raises",))
@validate_params(
    only("data_home", "split", "dtype", "return_X_y", "verify", "download"), prefer_skip_nested_validation=True
)
def load_cifar10(data_home=None, *, split="train", dtype="float32", return_X_y=False, verify=True, download=False):
    """Load CIFAR-10: 50,000 + 10,000 colour photographs of 32 x 32 pixels, 10 classes.

    Reads the Python batches (``cifar-10-batches-py``) or the binary ones (``cifar-10-batches-bin``), plain, .gz or
    .xz, from those folders or directly from a data home. The Python batches are pickles: they are read by an
    unpickler that allows only dicts, lists, strings, bytes, integers and integer arrays.

    Parameters
    ----------
    verify : bool, default=True
        Compare with the published checksums (Python batches: md5 of each file; binary batches and OpenML: a
        fingerprint of the images and labels). False accepts any set of the same format.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With ``data`` (n, 3072), ``images`` (n, 32, 32, 3), a view of the same memory, channels last, and the rest as
        from `load_mnist`. Or ``(data, target)`` if `return_X_y`.

    Examples
    --------
    >>> from skrobust.datasets import load_cifar10
    >>> cifar = load_cifar10("data", split="test")  # doctest: +SKIP
    >>> cifar.images.shape, cifar.target_names[cifar.target[0]]  # doctest: +SKIP
    ((10000, 32, 32, 3), np.str_('cat'))
    """
    subfolders = ["cifar-10-batches-py", "cifar-10-batches-bin", "CIFAR10", "cifar10"]
    return _load(
        CIFAR10, _CIFAR10_FORMATS, subfolders, data_home, split, dtype, return_X_y, verify, download, needs_meta=False
    )


@documented_like(load_cifar10, sections=("Raises",))
@validate_params(
    only("data_home", "split", "dtype", "return_X_y", "verify") | {"label": [StrOptions({"fine", "coarse"})]},
    prefer_skip_nested_validation=True,
)
def load_cifar100(data_home=None, *, split="train", label="fine", dtype="float32", return_X_y=False, verify=True):
    """Load CIFAR-100: 50,000 + 10,000 colour photographs of 32 x 32 pixels, 100 classes in 20 groups.

    Reads the Python files (``cifar-100-python``: train, test, meta) or the binary ones (``cifar-100-binary``), plain,
    .gz or .xz. Checksums are published only for the Python files. For the binary ones the structure and the number of
    images per class are checked, and ``verified`` is False. There is no `download`: OpenML's copy could not be
    verified.

    Parameters
    ----------
    label : {"fine", "coarse"}, default="fine"
        The 100 classes or the 20 groups as target.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        As from `load_cifar10`, or ``(data, target)`` if `return_X_y`.

    Examples
    --------
    >>> from skrobust.datasets import load_cifar100
    >>> cifar = load_cifar100("data", label="coarse")  # doctest: +SKIP
    >>> len(cifar.target_names)  # doctest: +SKIP
    20
    """
    image_set = CIFAR100
    if label == "coarse":
        counts = {split: (image_set.n_images(split) // 20,) * 20 for split in ("train", "test")}
        image_set = dataclasses.replace(image_set, class_counts=counts)
    subfolders = ["cifar-100-python", "cifar-100-binary", "CIFAR100", "cifar100"]
    return _load(
        image_set, _cifar100_formats(label), subfolders, data_home, split, dtype, return_X_y, verify, needs_meta=True
    )


def _load(image_set, formats, subfolders, data_home, split, dtype, return_X_y, verify, download=False, *, needs_meta):
    pixel_dtype(dtype)
    layouts = {}
    for name, form in formats.items():
        files = [file for part in SPLITS[split] for file in form.batches[part]] + [form.meta] * needs_meta
        layouts[name] = {file: (file,) for file in files}
    torchvision = f"torchvision.datasets.{image_set.title.replace('-', '')}"
    remedy = (
        ("download=True fetches it from OpenML (needs a network, over 1 GB of memory); " if image_set.openml else "")
        + f"{torchvision}(FOLDER, download=True) gets the Python version; or unpack the Python or the binary archive "
        f"of {image_set.homepage} there with tar -xzf."
    )
    try:
        name, paths = find_layout(data_home, subfolders, layouts, title=image_set.title, remedy=remedy)
    except DatasetNotFoundError:
        if not download:
            raise
        parts, verified = fetch_parts(image_set, SPLITS[split], data_home=data_home, verify=verify)
        files, names = [f"OpenML {image_set.openml}"], image_set.class_names
    else:
        form = formats[name]
        files = [str(path) for path in paths.values()]
        meta = find_variant(next(iter(paths.values())).parent, (form.meta,))
        names = _read_names(meta, form, image_set, verify) if meta else _default_names(image_set, verify)
        parts, verified = [], verify
        for part in SPLITS[split]:
            batches = [_read_batch(paths[file], file, form, image_set, verify) for file in form.batches[part]]
            pixels, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            where = paths[form.batches[part][0]].parent
            check_label_range(labels, where, *([] if names is None else [len(names)]))
            if verify:
                check_class_counts(image_set, part, labels, where)
                # The Python batches have been compared with the md5 of each file.
                verified &= form.python or check_fingerprint(image_set, part, pixels, labels, where)
            parts.append((pixels, labels))
    parts = [(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels) for planes, labels in parts]
    options = {"names": names, "files": files, "verified": verified}
    return published_bunch(image_set, split, parts, verify=verify, dtype=dtype, return_X_y=return_X_y, **options)


def _read_batch(path, file, form, image_set, verify):
    """Pixels ``(n, 3072)``, uint8, plane by plane, and labels ``(n,)``, int64, of one batch."""
    content = read_content(path)
    if form.python:
        _check_md5(content, path, file, image_set, verify)
        batch = load_plain_pickle(content, path)
        pixels, labels = batch.get("data"), np.asarray(batch.get(form.labels))
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_N_VALUES,):
            raise DatasetFileError(
                f"{path} is not a CIFAR batch: its 'data' is not a uint8 array of shape (n, {_N_VALUES}). {GET_AGAIN}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),) or len(pixels) == 0:
            raise DatasetFileError(
                f"{path} is not a {image_set.title} batch: its {form.labels!r} are not {len(pixels)} integers. "
                f"{GET_AGAIN}"
            )
        return pixels, labels.astype(np.int64)
    length = form.n_label_bytes + _N_VALUES
    if not content or len(content) % length:
        raise DatasetFileError(
            f"{path} is truncated or not a {image_set.title} batch: its {len(content)} bytes are not a whole number of "
            f"records of {length} bytes. {GET_AGAIN}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return records[:, form.n_label_bytes :], records[:, form.labels].astype(np.int64)


def _read_names(path, form, image_set, verify):
    content = read_content(path)
    if form.python:
        _check_md5(content, path, form.meta, image_set, verify)
        names = load_plain_pickle(content, path).get(form.label_names)
    else:
        names = content.decode("utf-8", errors="replace").split()
    expected = len(image_set.class_counts["train"])
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DatasetFileError(f"{path} has no list of class names under {form.label_names!r}. {GET_AGAIN}")
    if verify and len(names) != expected:
        raise DatasetFileError(
            f"{path} names {len(names)} classes, but {image_set.title} has {expected}: it is damaged or of another "
            f"set. {GET_AGAIN} Or pass verify=False to accept another set in this format."
        )
    return names


def _default_names(image_set, verify):
    return image_set.class_names if verify else None


def _check_md5(content, path, file, image_set, verify):
    """Compare with the published md5, before a pickle is opened."""
    if not verify:
        return
    expected, found = CIFAR_MD5[image_set.title][file], content_md5(content)
    if found != expected:
        raise DatasetFileError(
            f"{path} is not the published {file} of {image_set.title}: its md5 is {found}, not {expected}. It is "
            f"damaged, truncated or of another set. Get the original from {image_set.homepage}, or pass verify=False "
            "to accept another set in this format."
        )

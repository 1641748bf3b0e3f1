"""MNIST, Fashion-MNIST and other sets in IDX files."""

import os

from sklearn.utils._param_validation import validate_params

from skrobust.signals import documented_like

from .bunch import SPLITS, make_bunch, numbered, only, pixel_dtype, published_bunch
from .checks import check_class_counts, check_label_range
from .errors import DatasetFileError, DatasetNotFoundError
from .files import compression, file_md5
from .idx import read_idx_images, read_idx_labels
from .openml import fetch_parts
from .published import FASHION_MNIST, IDX_FILES, MNIST
from .search import find_layout

_PARAMETERS = only("data_home", "split", "dtype", "return_X_y", "verify", "download")


@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def load_mnist(data_home=None, *, split="train", dtype="float32", return_X_y=False, verify=True, download=False):
    """Load MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 pixels.

    Reads the four IDX files, as .gz, unpacked or as .xz, from ``MNIST/raw`` (torchvision's layout), ``MNIST``,
    ``mnist`` or directly from a data home.

    Parameters
    ----------
    data_home : path-like, default=None
        The folder to search. None: the folder in the environment variable SKROBUST_DATA, then scikit-learn's data
        home (SCIKIT_LEARN_DATA, or ``~/scikit_learn_data``).
    split : {"train", "test", "all"}, default="train"
        The published split; "all" is the training images followed by the test images.
    dtype : {"float32", "float64", "uint8"}, default="float32"
        Floats are scaled to [0, 1]; "uint8" gives the stored values, 0 to 255.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    verify : bool, default=True
        Compare the files with the published checksums. False accepts any set of the same format and file names
        (KMNIST, one of your own); its classes are then named by their numbers.
    download : bool, default=False
        If the files are in none of the folders, fetch the set from OpenML with
        `sklearn.datasets.fetch_openml`, which keeps it in `data_home` or scikit-learn's data home.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With ``data`` (n, 784), ``images`` (n, 28, 28), a view of the same memory, ``target`` (n,) int64,
        ``target_names``, ``image_shape``, ``DESCR``, ``files`` (the paths that were read) and ``verified`` (True if
        every one had a published checksum and matched it). Or ``(data, target)`` if `return_X_y`.

    Raises
    ------
    DatasetNotFoundError
        A FileNotFoundError that lists where it looked and what to do.
    DatasetFileError
        A ValueError that names the file that is truncated, damaged or not the published one.

    See Also
    --------
    load_idx : Read IDX files of any name.

    Examples
    --------
    >>> from skrobust.datasets import load_mnist
    >>> X_train, y_train = load_mnist("data", return_X_y=True)  # doctest: +SKIP
    >>> X_train.shape, X_train.min(), X_train.max()  # doctest: +SKIP
    ((60000, 784), np.float32(0.0), np.float32(1.0))
    """
    return _load(MNIST, ["MNIST/raw", "MNIST", "mnist"], data_home, split, dtype, return_X_y, verify, download)


@documented_like(load_mnist, sections=("Raises",))
@validate_params(_PARAMETERS, prefer_skip_nested_validation=True)
def load_fashion_mnist(
    data_home=None, *, split="train", dtype="float32", return_X_y=False, verify=True, download=False
):
    """Load Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 x 28 grey pixels, 10 classes.

    Reads the four IDX files, as .gz, unpacked or as .xz, from ``FashionMNIST/raw`` (torchvision's layout),
    ``FashionMNIST``, ``fashion-mnist`` or directly from a data home. Their contents are checked by SHA-256, so that
    files that were unpacked or compressed again (as in Debian's package dataset-fashion-mnist) are recognised.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        As from `load_mnist`, or ``(data, target)`` if `return_X_y`.

    Examples
    --------
    >>> from skrobust.datasets import load_fashion_mnist
    >>> fashion = load_fashion_mnist("data", split="test")  # doctest: +SKIP
    >>> fashion.target_names[fashion.target[0]]  # doctest: +SKIP
    np.str_('Ankle boot')
    """
    subfolders = ["FashionMNIST/raw", "FashionMNIST", "fashion-mnist"]
    return _load(FASHION_MNIST, subfolders, data_home, split, dtype, return_X_y, verify, download)


@documented_like(load_mnist)
@validate_params(
    {"images": [str, os.PathLike], "labels": [str, os.PathLike], "target_names": ["array-like", None]}
    | only("dtype", "return_X_y"),
    prefer_skip_nested_validation=True,
)
def load_idx(images, labels, *, target_names=None, dtype="float32", return_X_y=False):
    """Load labelled images from two IDX files, the format of MNIST, EMNIST, KMNIST and sets of your own.

    Parameters
    ----------
    images : path-like
        Unsigned bytes of shape (n, height, width) or (n, height, width, channels); plain, gzip or xz.
    labels : path-like
        Integers of shape (n,).
    target_names : array-like of str, default=None
        The name of class 0, 1, ...; None: the numbers themselves.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        As from `load_mnist`, or ``(data, target)`` if `return_X_y`.

    Raises
    ------
    FileNotFoundError
        If one of the files is not there.
    DatasetFileError
        If one is truncated, longer than its header says, or does not fit the other.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from skrobust.datasets import load_idx
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> n_written = (folder / "images").write_bytes(bytes([0, 0, 8, 3, 0,0,0,2, 0,0,0,2, 0,0,0,2, *range(8)]))
    >>> n_written = (folder / "labels").write_bytes(bytes([0, 0, 8, 1, 0,0,0,2, 1, 0]))
    >>> bunch = load_idx(folder / "images", folder / "labels", dtype="uint8")
    >>> bunch.images.shape, bunch.target.tolist()
    ((2, 2, 2), [1, 0])
    """
    pixel_dtype(dtype)
    (pixels, _), (target, _) = read_idx_images(images), read_idx_labels(labels)
    _check_pair(pixels, images, target, labels)
    if target_names is None:
        target_names = numbered(target.max() + 1)
    elif len(target_names) <= target.max():
        raise ValueError(
            f"target_names has {len(target_names)} names, but {labels} has labels up to {target.max()}: give one name "
            "for each label from 0 up."
        )
    return make_bunch(
        pixels,
        target,
        target_names=target_names,
        dtype=dtype,
        return_X_y=return_X_y,
        title=f"Images of {images}",
        descr="",
        files=[str(images), str(labels)],
        verified=False,
    )


def _load(image_set, subfolders, data_home, split, dtype, return_X_y, verify, download):
    pixel_dtype(dtype)
    published = IDX_FILES[image_set.title]
    files_of_split = {key: file for key, file in published.items() if key[0] in SPLITS[split]}
    # Some unpackers turn "train-images-idx3-ubyte" into "train-images.idx3-ubyte".
    layouts = {"idx": {key: (file.name, file.name.replace("-idx", ".idx")) for key, file in files_of_split.items()}}
    remedy = (
        f"download=True fetches {image_set.title} from OpenML (needs a network); "
        f"torchvision.datasets.{image_set.title.replace('-', '')}(FOLDER, download=True) gets the original files, as "
        f"does {image_set.homepage}."
    )
    try:
        _, paths = find_layout(data_home, subfolders, layouts, title=image_set.title, remedy=remedy)
    except DatasetNotFoundError:
        if not download:
            raise
        parts, verified = fetch_parts(image_set, SPLITS[split], data_home=data_home, verify=verify)
        parts = [(pixels.reshape(-1, *image_set.image_shape), labels) for pixels, labels in parts]
        files = [f"OpenML {image_set.openml}"]
    else:
        parts, verified = [], verify
        for part in SPLITS[split]:
            image_path, label_path = paths[part, "images"], paths[part, "labels"]
            images, images_ok = _read(read_idx_images, image_path, files_of_split[part, "images"], image_set, verify)
            labels, labels_ok = _read(read_idx_labels, label_path, files_of_split[part, "labels"], image_set, verify)
            _check_pair(images, image_path, labels, label_path)
            if verify:
                check_label_range(labels, label_path, len(image_set.class_names))
                check_class_counts(image_set, part, labels, label_path)
            verified = verified and images_ok and labels_ok
            parts.append((images, labels))
        files = [str(path) for path in paths.values()]
    options = {"names": image_set.class_names if verify else None, "files": files, "verified": verified}
    return published_bunch(image_set, split, parts, verify=verify, dtype=dtype, return_X_y=return_X_y, **options)


def _read(reader, path, file, image_set, verify):
    """The values in one of the published files, and whether they are known to be the published ones."""
    packed_md5 = file_md5(path) if verify and compression(path) == "gzip" else None
    if packed_md5 == file.gz_md5:
        return reader(path)[0], True
    # Read before comparing checksums, so that a truncated file is reported as truncated.
    values, sha256 = reader(path)
    if not verify or sha256 == file.sha256:
        return values, verify
    owner = _owner(packed_md5, sha256)
    if file.sha256 is None and owner is None:
        # A different md5 of the .gz may also mean the same content, compressed again.
        return values, False
    raise DatasetFileError(
        f"{path} is not the published {file.name} of {image_set.title}: "
        + (f"it is a file of {owner}. " if owner else f"the SHA-256 of its content ({sha256}) differs. ")
        + f"Get the original from {image_set.homepage}, or pass verify=False to accept another set in this format."
    )


def _owner(md5, sha256):
    """The title of the set that has a file of this checksum, or None."""
    for title, files in IDX_FILES.items():
        for file in files.values():
            if md5 == file.gz_md5 or sha256 == file.sha256:
                return f"{title} ({file.name})"
    return None


def _check_pair(images, image_path, labels, label_path):
    if len(images) != len(labels):
        raise DatasetFileError(
            f"{image_path} has {len(images)} images and {label_path} {len(labels)} labels: they do not belong together."
        )

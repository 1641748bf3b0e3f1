"""Download of sets from OpenML, through scikit-learn."""

import contextlib
import importlib.util
import os
import pathlib

import numpy as np

from .checks import check_class_counts, check_fingerprint, check_label_range
from .errors import DatasetFileError, DatasetNotFoundError


def fetch_parts(image_set, splits, *, data_home, verify):
    """Download a set with `sklearn.datasets.fetch_openml`, which keeps it in scikit-learn's data home.

    OpenML has the training images first, then the test images, each image as in the published files. Returns pixels,
    uint8 ``(n, n_values)``, and labels for each of `splits`, and whether the images are known to be the published ones.
    Raises DatasetNotFoundError if OpenML cannot be reached, DatasetFileError if it sends something else.
    """
    from sklearn.datasets import fetch_openml

    # pandas parses much faster in far less memory, but is an optional dependency.
    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"
    where = f"OpenML's {image_set.openml!r}"
    try:
        with _no_empty_folders(data_home):
            fetched = fetch_openml(
                image_set.openml, version=1, data_home=data_home, as_frame=False, return_X_y=False, parser=parser
            )
    # No network, an HTTP error, or one of scikit-learn's own checks of the download.
    except (OSError, ValueError) as error:
        raise DatasetNotFoundError(
            f"{where} could not be downloaded ({error}). Without a network, get the files of {image_set.title} from "
            f"{image_set.homepage} on another machine and pass data_home= or set SKROBUST_DATA."
        ) from error
    pixels, labels = _as_bytes(fetched.data), _as_labels(fetched.target)
    sizes = {split: image_set.n_images(split) for split in ("train", "test")}
    n_values = int(np.prod(image_set.image_shape))
    if (
        pixels is None
        or labels is None
        or pixels.shape != (sum(sizes.values()), n_values)
        or len(labels) != len(pixels)
    ):
        raise DatasetFileError(
            f"{where} is not {image_set.title}: {sum(sizes.values())} rows of {n_values} pixels from 0 to 255 and "
            f"class numbers were expected. Get the files from {image_set.homepage}, and pass data_home=."
        )
    bounds = {"train": slice(0, sizes["train"]), "test": slice(sizes["train"], None)}
    parts, verified = [], verify
    for split in splits:
        part = pixels[bounds[split]], labels[bounds[split]]
        if verify:
            check_label_range(part[1], where, len(image_set.class_names))
            check_class_counts(image_set, split, part[1], where)
            verified &= check_fingerprint(image_set, split, *part, where)
        parts.append(part)
    return parts, verified


@contextlib.contextmanager
def _no_empty_folders(data_home):
    """Remove the empty folders that a failed or interrupted download leaves."""
    home = data_home or os.environ.get("SCIKIT_LEARN_DATA") or os.path.join("~", "scikit_learn_data")
    home = pathlib.Path(home).expanduser()
    created = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        inside = [pathlib.Path(parent) for parent, _, _ in os.walk(home / "openml", topdown=False)]
        for folder in [*inside, *created]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _as_bytes(values):
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        return None
    with np.errstate(invalid="ignore"):
        pixels = values.astype(np.uint8)
    return pixels if np.array_equal(pixels, values) else None


def _as_labels(values):
    try:
        labels = np.asarray(values).astype(np.int64)
    except ValueError:
        return None
    return labels if labels.ndim == 1 and labels.min(initial=0) >= 0 else None

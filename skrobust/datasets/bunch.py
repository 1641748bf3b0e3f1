"""Conversion of raw pixels and labels to a Bunch."""

import os

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import InvalidParameterError, StrOptions

# Common parameters of the loaders for scikit-learn's validate_params; `pixel_dtype` checks `dtype`.
COMMON_PARAMETERS = {
    "data_home": [str, os.PathLike, None],
    "split": [StrOptions({"train", "test", "all"})],
    "dtype": "no_validation",
    "return_X_y": ["boolean"],
    "verify": ["boolean"],
    "download": ["boolean"],
}
SPLITS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


def only(*names):
    """The constraints of the named parameters."""
    return {name: COMMON_PARAMETERS[name] for name in names}


def pixel_dtype(dtype):
    """Check the parameter `dtype` before any file is read."""
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = None
    if dtype is None or checked not in (np.float32, np.float64, np.uint8):
        raise InvalidParameterError(
            "The 'dtype' parameter must be 'float32' or 'float64' (pixels scaled to [0, 1]) or 'uint8' (as stored). "
            f"Got {dtype!r} instead."
        )
    return checked


def numbered(n_classes):
    """Class names of a set without names."""
    return [str(label) for label in range(n_classes)]


def make_bunch(raw, labels, *, target_names, dtype, return_X_y, title, descr, white=255, **fields):
    """Scale the pixels and return everything in scikit-learn's form.

    `raw` is uint8, with `white` as the value that becomes 1.0, or already scaled and of `dtype`. `fields` are further
    entries of the Bunch.
    """
    dtype = pixel_dtype(dtype)
    # A division, because multiplying by a rounded 1 / 255 would not map 255 to exactly 1 in every precision.
    images = raw if raw.dtype == dtype else np.divide(raw, white, dtype=dtype)
    data = images.reshape(len(images), -1)
    target = labels.astype(np.int64, copy=False)
    if return_X_y:
        return data, target
    scale = f"0 to {white}, as stored" if dtype == np.uint8 else "[0, 1]"
    shape = " x ".join(str(size) for size in images.shape[1:])
    head = f"{title}: {len(images)} images of {shape}, {len(target_names)} classes, pixels {dtype.name} in {scale}."
    return Bunch(
        data=data,
        images=images,
        target=target,
        target_names=np.asarray(target_names, dtype=str),
        image_shape=tuple(images.shape[1:]),
        DESCR=f"{head}\n{descr}".strip(),
        **fields,
    )


def published_bunch(image_set, split, parts, *, names, verify, **options):
    """The Bunch of a published set from the images and labels of its parts; classes are numbered without `names`."""
    images = np.concatenate([part[0] for part in parts]) if len(parts) > 1 else parts[0][0]
    labels = np.concatenate([part[1] for part in parts])
    return make_bunch(
        np.ascontiguousarray(images),
        labels,
        target_names=numbered(labels.max() + 1) if names is None else names,
        title=f"{image_set.title}, {split}",
        descr=image_set.reference if verify else "Not verified: another set may have the same file names.",
        **options,
    )

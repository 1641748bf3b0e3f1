"""Trees of image files, one folder a class."""

import os
import pathlib

import numpy as np
from sklearn.utils._param_validation import StrOptions, validate_params

from .bunch import make_bunch, only, pixel_dtype
from .errors import DatasetFileError, DatasetNotFoundError

_MODES = {"gray": "L", "rgb": "RGB"}


@validate_params(
    {"path": [str, os.PathLike], "color": [StrOptions({"gray", "rgb"}), None]} | only("dtype", "return_X_y"),
    prefer_skip_nested_validation=True,
)
def load_image_folder(path, *, color=None, dtype="float32", return_X_y=False):
    """Load a tree of image files with one folder a class (``path/cat/1.png``), in any 8-bit format that Pillow reads.

    Classes are numbered in the alphabetical order of their folders, images come in the order of their paths. Folders
    within a class folder are read too; hidden files and files that are no images by their extension are passed over.

    Parameters
    ----------
    path : path-like
        The folder that holds the class folders.
    color : {"gray", "rgb"}, default=None
        Convert all images to grey or to RGB. None: as stored, and then all must be grey or all RGB. Transparency is
        dropped where an image has none to show, and refused otherwise.
    dtype : {"float32", "float64", "uint8"}, default="float32"
        Floats are scaled to [0, 1]; "uint8" gives the stored values.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With ``data`` (n, n_values), ``images`` (n, height, width[, 3]), a view of the same memory, ``target`` (n,)
        int64, ``target_names`` (the folders), ``image_shape``, ``DESCR``, ``files`` (one path an image) and
        ``verified`` (False). Or ``(data, target)`` if `return_X_y`.

    Raises
    ------
    DatasetNotFoundError
        If there is no such folder, or no class folder in it.
    DatasetFileError
        If a class has no images, or an image is damaged or has another size or other channels than the first; the
        message names the file.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skrobust.datasets import load_image_folder
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, shade in ("dark", 0), ("light", 255):
    ...     (root / name).mkdir()
    ...     Image.fromarray(np.full((4, 6), shade, np.uint8)).save(root / name / "1.png")
    >>> bunch = load_image_folder(root)
    >>> bunch.images.shape, bunch.target_names.tolist(), bunch.images.max(axis=(1, 2)).tolist()
    ((2, 4, 6), ['dark', 'light'], [0.0, 1.0])
    """
    pixel_dtype(dtype)
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DatasetNotFoundError(f"There is no folder {root}. Pass the folder that holds one folder a class.")
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not classes:
        raise DatasetNotFoundError(
            f"{root} holds no folders. Wanted is one folder a class, with the images inside: {root / 'class' / '1.png'}"
        )
    files, labels = [], []
    for label, folder in enumerate(classes):
        found = _image_files(folder)
        if not found:
            raise DatasetFileError(f"{folder} holds no images: each folder in {root} is a class. Remove or fill it.")
        files += found
        labels += [label] * len(found)
    first = _read_image(files[0], color)
    images = np.empty((len(files), *first.shape), np.uint8)
    images[0] = first
    for index, file in enumerate(files[1:], start=1):
        image = _read_image(file, color)
        if image.shape != first.shape:
            remedy = "Bring all images to one size"
            if image.shape[:2] == first.shape[:2]:
                remedy = 'Pass color="gray" or color="rgb" to convert all of them'
            raise DatasetFileError(f"{file} has the shape {image.shape}, and {files[0]} has {first.shape}. {remedy}.")
        images[index] = image
    return make_bunch(
        images,
        np.array(labels),
        target_names=[folder.name for folder in classes],
        dtype=dtype,
        return_X_y=return_X_y,
        title=f"Images of {root}",
        descr="",
        files=[str(file) for file in files],
        verified=False,
    )


def _image_files(folder):
    from PIL import Image

    formats = _formats()
    extensions = {end for end, name in Image.registered_extensions().items() if name in formats}
    return sorted(
        pathlib.Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions
    )


def _formats():
    """The formats that Pillow reads by itself: for EPS it would start Ghostscript on a file that may be hostile."""
    from PIL import Image

    Image.init()
    return sorted(set(Image.OPEN) - {"EPS"})


def _read_image(path, color):
    """One image as uint8 ``(height, width)`` or ``(height, width, 3)``."""
    from PIL import Image

    try:
        with Image.open(path, formats=_formats()) as image:
            return np.asarray(_to_mode(image, path, color))
    except DatasetFileError:
        raise
    # Pillow's decoders let out whatever they trip over.
    except (OSError, ValueError, SyntaxError, LookupError, EOFError, Image.DecompressionBombError) as error:
        raise DatasetFileError(
            f"{path} cannot be read as an image: it is truncated, damaged or of another format ({error}). "
            "Replace or remove it."
        ) from error


def _to_mode(image, path, color):
    if image.mode in ("1", "L", "RGB", "YCbCr", "CMYK"):
        stored = image
    elif image.mode in ("P", "PA", "LA", "RGBA"):
        stored = image.convert("RGBA")
        if stored.getchannel("A").getextrema()[0] < 255:
            raise DatasetFileError(f"{path} has transparent pixels: put it on a background and save it as RGB.")
        if image.mode == "LA":
            stored = stored.convert("L")
    else:
        raise DatasetFileError(
            f"{path} has pixels of Pillow's mode {image.mode!r}; only 8-bit images are read. Convert it to 8-bit grey "
            "or RGB."
        )
    return stored.convert(_MODES[color] if color else "L" if stored.mode in ("1", "L") else "RGB")

"""Trees of image files, one folder per class."""

import os
import pathlib
from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions, validate_params

from skrobust.signals import batch_slices, documented_like

from .bunch import make_bunch, only, pixel_dtype
from .errors import DatasetFileError, DatasetNotFoundError
from .mnist import load_mnist
from .pixels import formats, read_image, resized, white_of


@documented_like(load_mnist)
@validate_params(
    {
        "path": [str, os.PathLike],
        "color": [StrOptions({"gray", "rgb"}), None],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "resize": [StrOptions({"crop", "pad", "stretch"})],
    }
    | only("dtype", "return_X_y"),
    prefer_skip_nested_validation=True,
)
def load_image_folder(path, *, color=None, size=None, resize="crop", dtype="float32", return_X_y=False):
    """Load a tree of image files with one folder per class (``path/cat/1.png``), in the formats that Pillow reads.

    Classes are numbered in the alphabetical order of their folders; images are sorted by path. Folders within a class
    folder are read too; hidden files and files without an image extension are skipped. Photographs are oriented by
    their EXIF data. Of animations the first image is read.

    Parameters
    ----------
    path : path-like
        The folder with the class folders.
    color : {"gray", "rgb"}, default=None
        Convert all images to grey or to RGB. None: as stored; all must then be grey or all RGB. Palettes, YCbCr
        and CMYK become RGB. An alpha channel is dropped if no pixel is transparent; otherwise an error is raised.
    size : int, (height, width) or None, default=None
        Resize all images to this size; an int is height and width. None: as stored; all must then have one size.
    resize : {"crop", "pad", "stretch"}, default="crop"
        How images are resized, with Pillow's bilinear filter, which averages when it shrinks. "crop": resize the
        largest centred part with the proportions of `size`. "pad": resize the whole image, keep its proportions, and
        centre it on black. "stretch": scale height and width separately.
    dtype : {"float32", "float64", "uint8"}, default="float32"
        Floats are scaled to [0, 1], each image by the white of its 8 or 16 bits; "uint8" gives the stored values, of
        8-bit images only.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With ``data`` (n, n_values), ``images`` (n, height, width[, 3]), a view of the same memory, ``target`` (n,)
        int64, ``target_names`` (the folders), ``image_shape``, ``DESCR``, ``files`` (one path per image) and
        ``verified`` (False). Or ``(data, target)`` if `return_X_y`.

    Raises
    ------
    DatasetNotFoundError
        If there is no such folder, or no class folder in it.
    DatasetFileError
        If a class has no images, or an image is damaged, has transparent pixels or pixels of another type than 8 or
        16-bit integers, or has another size or other channels than the first; the message names the file.

    Notes
    -----
    PNG and TIFF are read with all of their 16 bits, colour included. Of JPEG 2000 and AVIF colour with more than 8 bits
    per sample, Pillow decodes the upper 8.

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
    dtype = pixel_dtype(dtype)
    root, classes, files, labels = _listed(path)
    images = _read_all(files, color, _checked_size(size), resize, dtype)
    return make_bunch(
        images,
        labels,
        target_names=[folder.name for folder in classes],
        dtype=dtype,
        return_X_y=return_X_y,
        title=f"Images of {root}",
        descr="",
        files=[str(file) for file in files],
        verified=False,
    )


@documented_like(load_image_folder)
@validate_params(
    {
        "path": [str, os.PathLike],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "color": [StrOptions({"gray", "rgb"})],
        "resize": [StrOptions({"crop", "pad", "stretch"})],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
    }
    | only("dtype"),
    prefer_skip_nested_validation=True,
)
def image_folder_batches(
    path,
    *,
    batch_size=64,
    size=224,
    color="rgb",
    resize="crop",
    dtype="float32",
    shuffle=False,
    random_state=None,
):
    """Read a tree of image files batch by batch, for trees that do not fit into memory.

    Only one batch is in memory at a time. Folders, files and errors as for `load_image_folder`; the tree is listed, and
    parameters are checked, at the call, images are read when their batch is asked for.

    Parameters
    ----------
    path : path-like
        The folder with the class folders.
    batch_size : int, default=64
        Images in a batch; the last may have fewer.
    size : int or (height, width), default=224
        Resize all images to this size; an int is height and width.
    color : {"gray", "rgb"}, default="rgb"
        Convert all images to grey or to RGB.
    shuffle : bool, default=False
        Whether images come in random order, to train on.
    random_state : int, RandomState instance or None, default=None
        Of the order.

    Returns
    -------
    batches : generator of (X, y)
        Images of shape (batch_size, height, width[, 3]), and the numbers of their classes, int64.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from PIL import Image
    >>> from skrobust.datasets import image_folder_batches
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, shade in ("dark", 0), ("light", 255):
    ...     (root / name).mkdir()
    ...     for height in (300, 400):
    ...         Image.fromarray(np.full((height, 500, 3), shade, np.uint8)).save(root / name / f"{height}.png")
    >>> for X, y in image_folder_batches(root, batch_size=3):
    ...     print(X.shape, y.tolist())
    (3, 224, 224, 3) [0, 0, 1]
    (1, 224, 224, 3) [1]
    """
    dtype, size = pixel_dtype(dtype), _checked_size(size)
    _, _, files, labels = _listed(path)
    order = check_random_state(random_state).permutation(len(files)) if shuffle else np.arange(len(files))

    def batches():
        for batch in batch_slices(len(files), 0, batch_size):
            chosen = order[batch]
            yield _read_all([files[index] for index in chosen], color, size, resize, dtype), labels[chosen]

    return batches()


def _listed(path):
    """The folder, the folders of its classes, the images in them, and their labels."""
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DatasetNotFoundError(f"There is no folder {root}. Pass the folder that holds one folder per class.")
    classes = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if not classes:
        raise DatasetNotFoundError(
            f"{root} has no folders. It needs one folder per class, with the images inside: {root / 'class' / '1.png'}"
        )
    files, labels = [], []
    for label, folder in enumerate(classes):
        paths = _image_files(folder)
        if not paths:
            raise DatasetFileError(f"{folder} holds no images: each folder in {root} is a class. Remove or fill it.")
        files += paths
        labels += [label] * len(paths)
    return root, classes, files, np.array(labels)


def _image_files(folder):
    from PIL import Image

    readable = formats()
    extensions = {end for end, name in Image.registered_extensions().items() if name in readable}
    return sorted(
        pathlib.Path(parent) / name
        for parent, _, names in os.walk(folder)
        for name in names
        if not name.startswith(".") and os.path.splitext(name)[1].lower() in extensions
    )


def _checked_size(size):
    if size is None or isinstance(size, Integral):
        return None if size is None else (int(size), int(size))
    if len(size) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in size):
        raise InvalidParameterError(
            f"The 'size' parameter must be an int, (height, width) of integers >= 1 or None. Got {size!r} instead."
        )
    return tuple(int(n) for n in size)


def _read_all(files, color, size, resize, dtype):
    """All images in one array of `dtype`, scaled to [0, 1] unless it is uint8."""
    images = None
    for index, file in enumerate(files):
        image = read_image(file, color)
        if dtype == np.uint8 and image.dtype != np.uint8:
            raise DatasetFileError(f"{file} has 16 bits per sample, more than dtype='uint8' holds: use 'float32'.")
        if size is not None:
            image = resized(image, size, resize)
        if images is None:
            images = np.empty((len(files), *image.shape), dtype)
        elif image.shape != images.shape[1:]:
            remedy = "Pass size=(height, width) to bring all images to one size"
            if image.shape[:2] == images.shape[1:3]:
                remedy = 'Pass color="gray" or color="rgb" to convert all of them'
            raise DatasetFileError(
                f"{file} has the shape {image.shape}, but {files[0]} has {images.shape[1:]}. {remedy}."
            )
        if dtype == np.uint8:
            images[index] = image
        else:
            np.divide(image, white_of(image), out=images[index], dtype=dtype)
    return images

"""The IDX format of MNIST and similar sets."""

import hashlib
import math

import numpy as np

from .checks import check_label_range
from .errors import DatasetFileError
from .files import GET_AGAIN, open_unpacked, read_exactly

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path, ndims):
    """Read one IDX file, plain, gzip or xz, and check every field of its header.

    Layout: two zero bytes, a type code, the number of dimensions, each size as a big-endian uint32, the values in C
    order, and nothing after them. Returns the array in native byte order, and the SHA-256 of the unpacked file. A file
    that is truncated, longer than its header says, empty or not of one of `ndims` dimensions raises a DatasetFileError.
    """
    with open_unpacked(path) as stream:
        head = stream.read(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES:
            raise DatasetFileError(
                f"{path} is not an IDX file: it starts with {head.hex(' ') or 'nothing'}, but an IDX file with "
                f"00 00 and a type code (08 for bytes). {GET_AGAIN}"
            )
        if head[3] not in ndims:
            numbers = " or ".join(map(str, ndims))
            raise DatasetFileError(
                f"{path} holds an array of {head[3]} dimensions where {numbers} are needed "
                "(images have 3 or 4, labels 1): are images and labels swapped?"
            )
        sizes_field = read_exactly(stream, 4 * head[3], path)
        shape = tuple(int(size) for size in np.frombuffer(sizes_field, ">u4"))
        if 0 in shape:
            raise DatasetFileError(f"{path} is empty: its header gives the shape {shape}. {GET_AGAIN}")
        dtype = np.dtype(_TYPES[head[2]])
        values = read_exactly(stream, math.prod(shape) * dtype.itemsize, path)
        # Reading one more byte detects trailing bytes, and makes gzip and xz compare their checksums.
        if stream.read(1):
            raise DatasetFileError(
                f"{path} has more than the {math.prod(shape)} values that its header {shape} announces: it is damaged "
                f"or not an IDX file. {GET_AGAIN}"
            )
    digest = hashlib.sha256(head + sizes_field)
    digest.update(values)
    array = np.frombuffer(values, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()


def read_idx_images(path):
    """Images from an IDX file as ``(uint8 array of shape (n, height, width[, channels]), sha256)``."""
    images, digest = read_idx(path, (3, 4))
    if images.dtype != np.uint8:
        raise DatasetFileError(
            f"{path} holds {images.dtype.name} values; images are unsigned bytes (type code 08), whose range is known."
        )
    return images, digest


def read_idx_labels(path):
    """Labels from an IDX file as ``(int64 array of shape (n,), sha256)``."""
    labels, digest = read_idx(path, (1,))
    if labels.dtype.kind not in "iu":
        raise DatasetFileError(f"{path} holds {labels.dtype.name} values; labels are integers.")
    check_label_range(labels, path)
    return labels.astype(np.int64), digest

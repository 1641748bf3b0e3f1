"""Reading of plain, gzip and xz files with limits on their size, and checksums."""

import contextlib
import gzip
import hashlib
import lzma
import zlib

from .errors import DatasetFileError

_CHUNK = 1 << 20
# Above any published batch (the largest, CIFAR-100's training file, has 155 MB), below decompression bombs.
UNPACKED_LIMIT = 1 << 29

GET_AGAIN = "Delete it and get it again."


def compression(path):
    """``"gzip"``, ``"xz"`` or None by the first bytes, because browsers unpack .gz files but keep the name."""
    with open(path, "rb") as stream:
        head = stream.read(6)
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    return "xz" if head == b"\xfd7zXZ\x00" else None


@contextlib.contextmanager
def open_unpacked(path):
    """Open a plain, gzip or xz file for reading its content; damaged compression raises a `DatasetFileError`."""
    opener = {"gzip": gzip.open, "xz": lzma.open, None: open}[compression(path)]
    try:
        with opener(path, "rb") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DatasetFileError(f"{path} is truncated or damaged: it does not unpack ({error}). {GET_AGAIN}") from error


def read_exactly(stream, n_bytes, path):
    """The next `n_bytes` of a stream, as a bytearray that grows as bytes are read.

    Memory is not allocated in advance, because a damaged header may announce terabytes.
    """
    content = bytearray()
    while len(content) < n_bytes:
        chunk = stream.read(min(_CHUNK, n_bytes - len(content)))
        if not chunk:
            raise DatasetFileError(
                f"{path} is truncated: {len(content)} bytes instead of the {n_bytes} in its header. {GET_AGAIN}"
            )
        content += chunk
    return content


def read_content(path):
    """All bytes of a plain, gzip or xz file; a compressed one may not unpack to more than half a gibibyte."""
    if compression(path) is None:
        with open(path, "rb") as stream:
            return stream.read()
    content = bytearray()
    with open_unpacked(path) as stream:
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > UNPACKED_LIMIT:
                raise DatasetFileError(
                    f"{path} unpacks to more than {UNPACKED_LIMIT >> 20} MiB, more than any file of this format. "
                    "If it is your own, unpack it first."
                )
    return bytes(content)


def file_md5(path):
    """The md5 of a file on disk, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def content_md5(content):
    """The md5 of bytes, in hexadecimal."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def fingerprint(pixels, labels):
    """A checksum of labelled images that does not depend on their order: the sum of one SHA-256 per image.

    It recognises the same images in another container (binary batches, OpenML). `pixels` has one row per
    image, uint8, in the order of the published files (CIFAR: red plane, green plane, blue plane); labels are below 256.
    """
    total = 0
    for row, label in zip(pixels, labels.tolist(), strict=True):
        total += int.from_bytes(hashlib.sha256(bytes([label]) + row.tobytes()).digest(), "big")
    return f"{total % (1 << 256):064x}"

"""Small files in the formats of the published image sets, written independently of the readers."""

import dataclasses
import gzip
import hashlib
import lzma
import pickle
import struct
import zlib

import numpy as np

from skrobust.datasets import mnist
from skrobust.datasets.published import IDX_FILES

IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
MNIST_NAMES = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def idx_bytes(array):
    """An array as the content of an IDX file."""
    array = np.asarray(array)
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, IDX_CODES[array.dtype.name], array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def digits_like(n, seed, shape=(28, 28), n_classes=10):
    """Random images and labels in which each of the first `n_classes` samples has a class of its own."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])[:n]
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), labels.astype(np.uint8)


def write_mnist(folder, suffix=".gz", *, n_train=20, n_test=12, seed=0, dot=False):
    """The four files of MNIST with a few random images; returns {split: (images, labels)}."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for split, prefix, n in (("train", "train", n_train), ("test", "t10k", n_test)):
        images, labels = parts[split] = digits_like(n, seed + n)
        separator = "." if dot else "-"
        for array, name in ((images, f"images{separator}idx3"), (labels, f"labels{separator}idx1")):
            (folder / f"{prefix}-{name}-ubyte{suffix}").write_bytes(PACKERS[suffix](idx_bytes(array)))
    return parts


def publish_mnist(monkeypatch, folder, parts, title="MNIST", sha256=True):
    """Declare the .gz files in `folder` to be the published ones."""
    files = {}
    for key, name in MNIST_NAMES.items():
        packed = (folder / f"{name}.gz").read_bytes()
        digest = hashlib.sha256(gzip.decompress(packed)).hexdigest() if sha256 else None
        files[key] = dataclasses.replace(IDX_FILES[title][key], gz_md5=hashlib.md5(packed).hexdigest(), sha256=digest)
    monkeypatch.setitem(IDX_FILES, title, files)
    counts = {split: tuple(np.bincount(labels, minlength=10).tolist()) for split, (_, labels) in parts.items()}
    attribute = title.upper().replace("-", "_")
    monkeypatch.setattr(mnist, attribute, dataclasses.replace(getattr(mnist, attribute), class_counts=counts))


def planes_of(images):
    """CIFAR's order of pixels: the red plane, the green, the blue."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def python2_batch(planes, labels, label_key="labels"):
    """A batch as Python 2's cPickle wrote it in protocol 2: byte strings, and NumPy's old names."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    raw = planes.tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + text("u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
    )
    dtype += b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    array += b"(K\x01" + number(planes.shape[0]) + number(planes.shape[1]) + b"\x86" + dtype
    array += b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    items = text("batch_label") + text("a batch") + text(label_key)
    items += b"](" + b"".join(number(int(label)) for label in labels) + b"e" + text("data") + array
    return b"\x80\x02}(" + items + b"u."


def write_cifar10(folder, kind="python2", suffix="", *, n=4, names=None):
    """CIFAR-10's batches with `n` random images each; returns {split: (images, labels)}."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = []
    for number in range(6):
        images, labels = digits_like(n, 100 + number, (32, 32, 3))
        labels = (labels + number) % 10
        batches.append((images, labels))
        file = "test_batch" if number == 5 else f"data_batch_{number + 1}"
        write_batch(folder, file, images, {"labels": labels}, kind, suffix)
    if names is not None:
        if kind == "binary":
            (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
        else:
            meta = {b"label_names": [name.encode() for name in names], b"num_vis": 3072}
            (folder / "batches.meta").write_bytes(pickle.dumps(meta, 3))
    train = tuple(np.concatenate(arrays) for arrays in zip(*batches[:5], strict=True))
    return {"train": train, "test": batches[5]}


def write_batch(folder, file, images, labels, kind, suffix=""):
    """One batch; `labels` is {key: labels} in the order of the binary format's label bytes.

    `kind` is "python2", "binary" or the number of a pickle protocol.
    """
    planes = planes_of(images)
    if kind == "binary":
        columns = [np.asarray(values, np.uint8)[:, None] for values in labels.values()]
        content, file = np.hstack([*columns, planes]).tobytes(), file + ".bin"
    elif kind == "python2":
        ((key, values),) = labels.items()
        content = python2_batch(planes, values, key)
    else:
        batch = {key: [int(value) for value in values] for key, values in labels.items()}
        content = pickle.dumps({"data": planes, **batch}, kind)
    (folder / (file + suffix)).write_bytes(PACKERS[suffix](content))


def write_cifar100(folder, kind=2, *, n=8):
    """CIFAR-100's files with `n` random images each; returns {split: (images, fine, coarse)}."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for number, split in enumerate(("train", "test")):
        images, fine = digits_like(n, 200 + number, (32, 32, 3))
        fine = fine + 90
        coarse = fine // 5
        parts[split] = images, fine, coarse
        write_batch(folder, split, images, {"coarse_labels": coarse, "fine_labels": fine}, kind)
    names = {
        "fine_label_names": [f"fine{label}" for label in range(100)],
        "coarse_label_names": [f"coarse{label}" for label in range(20)],
    }
    if kind == "binary":
        for key, values in names.items():
            (folder / f"{key}.txt").write_text("\n".join(values))
    else:
        (folder / "meta").write_bytes(pickle.dumps(names, kind))
    return parts


def png_bytes(pixels, bits=16, transparent=None):
    """A grey, grey and alpha, RGB or RGBA array as a PNG of `bits` a sample; `transparent` goes into its tRNS chunk."""
    pixels = np.atleast_3d(pixels)
    height, width, n_channels = pixels.shape
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in pixels]
    else:  # samples of 1, 2 or 4 bits are packed from the left
        each = [np.unpackbits(row[:, 0].astype(np.uint8)[:, None], axis=1)[:, -bits:].ravel() for row in pixels]
        rows = [np.packbits(row).tobytes() for row in each]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if transparent is not None:
        parts.append(chunk(b"tRNS", struct.pack(f">{n_channels}H", *np.atleast_1d(transparent).tolist())))
    parts.append(chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")

"""The IDX reader: every field of the header, truncation anywhere, and files that promise more than they hold."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from datasets_writers import PACKERS, idx_bytes
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import DatasetFileError, load_idx
from skrobust.datasets.idx import read_idx

_IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@given(
    array=hnp.arrays(
        st.sampled_from(["uint8", "int8", "int16", "int32", "float32", "float64"]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    ),
    suffix=st.sampled_from(sorted(PACKERS)),
)
def test_values_come_back_in_native_byte_order(tmp_path_factory, array, suffix):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(PACKERS[suffix](idx_bytes(array)))
    read, digest = read_idx(path, (1, 2, 3, 4))
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)
    assert len(digest) == 64


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_truncated_anywhere_names_the_file(tmp_path, suffix):
    content = PACKERS[suffix](idx_bytes(_IMAGES))
    path = tmp_path / f"cut{suffix}"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetFileError, match=f"cut{suffix}"):
            read_idx(path, (3,))


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_trailing_bytes_are_refused(tmp_path, suffix):
    path = tmp_path / "long"
    path.write_bytes(PACKERS[suffix](idx_bytes(_IMAGES) + b"\0"))
    with pytest.raises(DatasetFileError, match=r"long has more than the 24 values .*\(2, 3, 4\)"):
        read_idx(path, (3,))


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
def test_damaged_compression_is_noticed(tmp_path, suffix):
    content = bytearray(PACKERS[suffix](idx_bytes(_IMAGES)))
    content[-6] ^= 0xFF  # within gzip's trailing size and sum, and xz's footer
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DatasetFileError, match="damaged is truncated or damaged"):
        read_idx(path, (3,))


@pytest.mark.parametrize(
    "head, message",
    [
        (b"", "starts with nothing"),
        (b"<!DOCTYPE html>", "starts with 3c 21 44 4f"),
        (b"\0\0\x07\x03" + bytes(12), "00 00 07 03"),
        (b"\0\x01\x08\x03" + bytes(12), "00 01 08 03"),
        (b"\0\0\x08\x01\0\0\0\x01\x05", "1 dimensions where 3 or 4 .* swapped"),
        (b"\0\0\x08\x00", "0 dimensions"),
        (b"\0\0\x08\xff", "255 dimensions"),
        (b"\0\0\x08\x03" + struct.pack(">3I", 2, 0, 4), r"is empty: .*\(2, 0, 4\)"),
    ],
)
def test_wrong_headers(tmp_path, head, message):
    path = tmp_path / "head"
    path.write_bytes(head)
    with pytest.raises(DatasetFileError, match=message):
        read_idx(path, (3, 4))


@pytest.mark.parametrize("suffix", sorted(PACKERS))
def test_header_that_promises_an_exabyte_allocates_nothing(tmp_path, suffix):
    path = tmp_path / "liar"
    path.write_bytes(PACKERS[suffix](b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100)))
    tracemalloc.start()
    with pytest.raises(DatasetFileError, match="100 bytes instead of the 79228162458924105385300197375"):
        read_idx(path, (3,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_decompression_stops_where_the_header_does(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_bytes(_IMAGES) + bytes(200_000_000), 9))
    tracemalloc.start()
    with pytest.raises(DatasetFileError, match="has more than the"):
        read_idx(path, (3,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def _pair(folder, images, labels):
    (folder / "images").write_bytes(idx_bytes(images))
    (folder / "labels").write_bytes(idx_bytes(labels))
    return folder / "images", folder / "labels"


def test_load_idx_scales_and_flattens(tmp_path):
    images = np.array([[[0, 51], [102, 255]]], dtype=np.uint8)
    bunch = load_idx(*_pair(tmp_path, images, np.array([2], np.uint8)))
    np.testing.assert_array_equal(bunch.images, np.array([[[0, 0.2], [0.4, 1]]], np.float32))
    assert bunch.data.shape == (1, 4) and np.shares_memory(bunch.data, bunch.images)
    assert bunch.image_shape == (2, 2) and bunch.target_names.tolist() == ["0", "1", "2"]
    assert bunch.target.tolist() == [2] and bunch.target.dtype == np.int64
    assert not bunch.verified


def test_load_idx_reads_colour_and_wide_labels(tmp_path):
    images = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)
    bunch = load_idx(*_pair(tmp_path, images, np.array([300, 0], np.int16)), dtype=np.uint8)
    np.testing.assert_array_equal(bunch.images, images)
    assert bunch.image_shape == (2, 3, 3) and bunch.target.tolist() == [300, 0]


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((2, 2, 2), np.float32), np.zeros(2, np.uint8), "images holds float32 values"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, np.float32), "labels holds float32 values"),
        (np.zeros((2, 2, 2), np.uint8), np.array([0, -1], np.int8), "labels has labels from -1"),
        (np.zeros((2, 2, 2), np.uint8), np.array([0, 2**30], np.int32), "labels has labels from 0 to 1073741824"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(3, np.uint8), "2 images and .* 3 labels"),
        (np.zeros(2, np.uint8), np.zeros((2, 2, 2), np.uint8), "are images and labels swapped"),
    ],
)
def test_load_idx_refuses(tmp_path, images, labels, message):
    with pytest.raises(DatasetFileError, match=message):
        load_idx(*_pair(tmp_path, images, labels))


def test_load_idx_names_and_missing_file(tmp_path):
    paths = _pair(tmp_path, np.zeros((2, 2, 2), np.uint8), np.array([0, 1], np.uint8))
    assert load_idx(*paths, target_names=["no", "yes"]).target_names.tolist() == ["no", "yes"]
    with pytest.raises(ValueError, match="target_names has 1 names"):
        load_idx(*paths, target_names=["no"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_idx(tmp_path / "nowhere", paths[1])
    with pytest.raises(InvalidParameterError, match="'dtype' parameter must be 'float32'"):
        load_idx(*paths, dtype="int64")

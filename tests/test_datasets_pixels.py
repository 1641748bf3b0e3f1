"""Image files as cameras, scanners and editors write them: orientation, transparency, 16 bits, modes and sizes."""

import numpy as np
import pytest
import tifffile
from datasets_writers import png_bytes
from PIL import Image
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import DatasetFileError, load_image_folder

_RNG = np.random.default_rng(0)
_TURNED = {  # how a viewer rotates the stored image, by the EXIF specification
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def _samples(shape, dtype=np.uint16):
    return _RNG.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def _folder(root, **contents):
    """A folder of one class with files of these contents: bytes, or Pillow images."""
    (root / "a").mkdir(exist_ok=True)
    for name, content in contents.items():
        path = root / "a" / name.replace("_", ".")
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
    return root


@pytest.mark.parametrize("extension", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", _TURNED)
def test_photographs_stand_upright(tmp_path, extension, orientation):
    stored = _samples((6, 4, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / f"1.{extension}"
    Image.fromarray(stored).save(path, exif=exif, **({"lossless": True} if extension == "webp" else {}))
    if extension == "jpg":
        stored = np.asarray(Image.open(path).convert("RGB"))
    images = load_image_folder(tmp_path, dtype="uint8").images
    np.testing.assert_array_equal(images[0], _TURNED[orientation](stored))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_16_bits_are_read_to_the_last(tmp_path, shape, dtype):
    stored = _samples(shape)
    extra = np.full((4, 5, 1), 65535, np.uint16)
    _folder(tmp_path, **{"1_png": png_bytes(stored)})
    _folder(tmp_path, **{"2_png": png_bytes(np.concatenate([np.atleast_3d(stored), extra], axis=2))})
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    for number, order in (("3", "<"), ("4", ">")):
        tifffile.imwrite(tmp_path / "a" / f"{number}.tif", stored, photometric=photometric, byteorder=order)
    Image.open(tmp_path / "a" / "3.tif").close()
    images = load_image_folder(tmp_path, dtype=dtype).images
    np.testing.assert_array_equal(images, [np.divide(stored, 65535, dtype=dtype)] * 4)
    with pytest.raises(DatasetFileError, match="1.png has 16 bits per sample, more than dtype='uint8' holds"):
        load_image_folder(tmp_path, dtype="uint8")


def test_16_bits_beside_8_and_converted(tmp_path):
    colour = _samples((4, 5, 3))
    _folder(tmp_path, **{"1_png": png_bytes(colour), "2_png": Image.fromarray((colour >> 8).astype(np.uint8))})
    images = load_image_folder(tmp_path, dtype="float64").images
    assert 0 < abs(images[0] - images[1]).max() < 1 / 255
    grey = load_image_folder(tmp_path, color="gray", dtype="float64").images
    np.testing.assert_allclose(grey[0], colour @ [0.299, 0.587, 0.114] / 65535, atol=2e-5)
    expected = np.asarray(Image.fromarray((colour >> 8).astype(np.uint8)).convert("L"))
    np.testing.assert_array_equal(grey[1], expected / 255)
    both = load_image_folder(tmp_path, color="rgb", dtype="float64").images
    np.testing.assert_array_equal(both, images)


def test_compressed_tiff_of_16_bits_that_lies_on_its_side(tmp_path):
    stored = _samples((4, 6, 3))
    (tmp_path / "a").mkdir()
    options = {"photometric": "rgb", "compression": "zlib", "extratags": [(274, "H", 1, 6, True)]}
    tifffile.imwrite(tmp_path / "a" / "1.tif", stored, **options)
    images = load_image_folder(tmp_path, dtype="float64").images
    np.testing.assert_array_equal(images[0], np.rot90(stored, -1) / 65535)


def test_portable_graymaps_of_any_white(tmp_path):
    _folder(tmp_path, **{"1_pgm": b"P5 2 1 65535\n" + bytes([1, 0, 255, 255]), "2_pgm": b"P2 2 1 1000\n0 500"})
    images = load_image_folder(tmp_path, dtype="float64").images
    np.testing.assert_allclose(images, [[[256 / 65535, 1]], [[0, 0.5]]], atol=1e-5)
    _folder(tmp_path, **{"3_ppm": b"P6 1 1 65535\n" + bytes(6)})
    with pytest.raises(DatasetFileError, match="3.ppm is a colour PPM of more than 8 bits per sample. Save it as PNG"):
        load_image_folder(tmp_path, color="rgb")


@pytest.mark.parametrize(
    ("pixels", "bits", "key", "clear"),
    [
        (np.array([[0, 3], [1, 2]]), 2, 3, 3),
        (np.array([[0, 9], [15, 2]]), 4, 9, 7),
        (np.array([[0, 300], [65535, 2]]), 16, 300, 301),
        (np.array([[[1, 2, 3], [300, 2, 1]]]), 16, (300, 2, 1), (300, 2, 257)),
    ],
)
def test_transparent_grey_and_colour(tmp_path, pixels, bits, key, clear):
    """A value named as transparent is refused where a pixel has it, to the last bit, and else does no harm."""
    _folder(tmp_path, **{"1_png": png_bytes(pixels, bits, key)})
    with pytest.raises(DatasetFileError, match="1.png has transparent pixels: put it on a background"):
        load_image_folder(tmp_path)
    other = pixels if clear != key else np.zeros_like(pixels)
    _folder(tmp_path, **{"1_png": png_bytes(other, bits, clear)})
    images = load_image_folder(tmp_path, dtype="float64").images
    np.testing.assert_allclose(images[0], other / (2**bits - 1), rtol=1e-15)


def test_transparent_palettes_and_8_bit_colour(tmp_path):
    colour = Image.fromarray(np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8))
    (tmp_path / "a").mkdir()
    for image, key, refused in (
        (colour, (10, 20, 30), True),
        (colour, (10, 20, 31), False),
        (colour.quantize(2), 0, True),
        (colour.quantize(2), bytes([255, 128]), True),
        (colour.quantize(2), bytes([255, 255]), False),
    ):
        image.save(tmp_path / "a" / "1.png", transparency=key)
        if refused:
            with pytest.raises(DatasetFileError, match="1.png has transparent pixels"):
                load_image_folder(tmp_path)
        else:
            np.testing.assert_array_equal(load_image_folder(tmp_path, dtype="uint8").images[0], np.asarray(colour))


def test_modes_whose_white_is_unknown_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for values in (np.ones((2, 2), np.float32), np.ones((2, 2), np.int32)):
        Image.fromarray(values).save(tmp_path / "a" / "1.tif")
        with pytest.raises(DatasetFileError, match=r"1.tif has pixels of Pillow's mode '[FI]', whose white is"):
            load_image_folder(tmp_path)


def test_cmyk_becomes_rgb(tmp_path):
    stored = Image.fromarray(_samples((4, 4, 3), np.uint8)).convert("CMYK")
    _folder(tmp_path, **{"1_tif": stored})
    np.testing.assert_array_equal(load_image_folder(tmp_path, dtype="uint8").images[0], stored.convert("RGB"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_crop_pad_and_stretch(tmp_path, dtype):
    """Four areas of one value each, which distinguish the ways of scaling without a reference."""
    white = np.iinfo(dtype).max
    wide = np.zeros((20, 40), dtype)
    wide[:, 10:30] = white
    content = png_bytes(wide) if dtype == np.uint16 else Image.fromarray(wide)
    _folder(tmp_path, **{"1_png": content, "2_png": Image.fromarray(np.full((10, 10), 255, np.uint8))})
    crop, whole = load_image_folder(tmp_path, size=10).images
    np.testing.assert_array_equal(crop[:, 1:-1], 1)  # the middle square; the filter reaches beyond its edge
    assert crop[:, [0, -1]].min() > 0.8
    np.testing.assert_array_equal(whole, 1)
    stretched = load_image_folder(tmp_path, size=(10, 10), resize="stretch").images[0]
    np.testing.assert_array_equal(stretched[:, [0, 5, 9]], [[0, 1, 0]] * 10)
    np.testing.assert_allclose(stretched.mean(), 0.5, atol=0.01)  # Pillow rounds the weights of its filter
    padded = load_image_folder(tmp_path, size=(10, 10), resize="pad").images[0]
    np.testing.assert_array_equal(padded[[0, 1, 8, 9]], 0)
    np.testing.assert_array_equal(padded[2:7, 4:6], 1)
    bunch = load_image_folder(tmp_path, size=(8, 12), resize="pad", color="rgb")
    assert bunch.images.shape == (2, 8, 12, 3) and bunch.image_shape == (8, 12, 3)
    np.testing.assert_array_equal(bunch.images[1][:, [0, 1, 10, 11]], 0)
    np.testing.assert_array_equal(bunch.images[1][:, 2:10], 1)


def test_shrinking_averages(tmp_path):
    board = (255 * (np.indices((64, 64)).sum(axis=0) % 2)).astype(np.uint8)
    _folder(tmp_path, **{"1_png": Image.fromarray(board)})
    for resize in ("crop", "pad", "stretch"):
        small = load_image_folder(tmp_path, size=8, resize=resize).images
        np.testing.assert_allclose(small, 0.5, atol=0.05)  # the filter is a triangle, cut off at the edges


@pytest.mark.parametrize("size", [0, (4,), (4, 4, 3), (4, 0), (4.5, 4), "8"])
def test_invalid_sizes_are_refused(tmp_path, size):
    _folder(tmp_path, **{"1_png": Image.fromarray(np.zeros((4, 4), np.uint8))})
    with pytest.raises(InvalidParameterError, match="'size' parameter"):
        load_image_folder(tmp_path, size=size)
    with pytest.raises(InvalidParameterError, match="'resize' parameter"):
        load_image_folder(tmp_path, size=4, resize="fit")

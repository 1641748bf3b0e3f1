"""Trees of image files."""

import numpy as np
import pytest
from PIL import Image
from sklearn.utils._param_validation import InvalidParameterError

from skrobust.datasets import DatasetFileError, DatasetNotFoundError, load_image_folder

_RNG = np.random.default_rng(0)


def _save(path, shape=(5, 7), mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = _RNG.integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return pixels


def test_order_classes_and_nested_folders(tmp_path):
    pixels = {
        name: _save(tmp_path / name)
        for name in ("b/2.png", "a/10.png", "a/1.bmp", "a/deep/0.tif", "B/1.PNG", "b/1.pgm")
    }
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "file.png").write_text("beside the classes")
    bunch = load_image_folder(tmp_path, dtype="uint8")
    order = ["B/1.PNG", "a/1.bmp", "a/10.png", "a/deep/0.tif", "b/1.pgm", "b/2.png"]
    assert bunch.target_names.tolist() == ["B", "a", "b"]
    assert bunch.target.tolist() == [0, 1, 1, 1, 2, 2]
    assert bunch.files == [str(tmp_path / name) for name in order]
    np.testing.assert_array_equal(bunch.images, [pixels[name] for name in order])
    assert bunch.image_shape == (5, 7) and bunch.data.shape == (6, 35)


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp", "ppm", "gif", "jpg"])
def test_colour_formats(tmp_path, extension):
    options = {"lossless": True} if extension == "webp" else {}
    _save(tmp_path / "a" / f"1.{extension}", (8, 9, 3), **options)
    with Image.open(tmp_path / "a" / f"1.{extension}") as image:
        expected = np.asarray(image.convert("RGB"))
    bunch = load_image_folder(str(tmp_path))
    assert bunch.image_shape == (8, 9, 3) and bunch.images.dtype == np.float32
    np.testing.assert_array_equal(bunch.images[0], (expected / 255).astype(np.float32))


def test_pillow_modes(tmp_path):
    grey = _save(tmp_path / "a" / "1.png", (4, 4))
    alpha = np.full((4, 4), 255, np.uint8)
    Image.fromarray(np.dstack([grey, alpha]), "LA").save(tmp_path / "a" / "2.png")
    bunch = load_image_folder(tmp_path, dtype="uint8")
    np.testing.assert_array_equal(bunch.images, [grey, grey])
    Image.fromarray(grey > 127).save(tmp_path / "a" / "3.png")
    np.testing.assert_array_equal(load_image_folder(tmp_path, dtype="uint8").images[2], (grey > 127) * 255)
    colours = load_image_folder(tmp_path, color="rgb", dtype="uint8").images
    np.testing.assert_array_equal(colours[0], np.dstack([grey] * 3))


def test_opaque_alpha_is_dropped_and_palette_becomes_rgb(tmp_path):
    rgb = _save(tmp_path / "a" / "1.png", (4, 4, 3))
    Image.fromarray(np.dstack([rgb, np.full((4, 4), 255, np.uint8)])).save(tmp_path / "a" / "2.png")
    Image.fromarray(rgb).quantize(16).save(tmp_path / "a" / "3.png")
    images = load_image_folder(tmp_path, dtype="uint8").images
    np.testing.assert_array_equal(images[:2], [rgb, rgb])
    np.testing.assert_array_equal(images[2], np.asarray(Image.fromarray(rgb).quantize(16).convert("RGB")))
    grey = load_image_folder(tmp_path, color="gray", dtype="uint8").images
    np.testing.assert_array_equal(grey[0], np.asarray(Image.fromarray(rgb).convert("L")))


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.full((5, 7, 4), 100, np.uint8), "2.png has transparent pixels"),
        (np.zeros((5, 8), np.uint8), r"2.png has the shape \(5, 8\), but .*1.png has \(5, 7\). Pass size="),
        (np.zeros((5, 7, 3), np.uint8), r'2.png has the shape \(5, 7, 3\).*Pass color="gray"'),
    ],
)
def test_images_that_do_not_fit_are_named(tmp_path, pixels, message):
    _save(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    Image.fromarray(pixels).save(tmp_path / "b" / "2.png")
    with pytest.raises(DatasetFileError, match=message):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tif", "gif", "webp"])
def test_truncated_images_are_named(tmp_path, extension):
    path = tmp_path / "a" / f"1.{extension}"
    _save(path, (64, 64, 3))
    content = path.read_bytes()
    for length in (0, 3, 30, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(DatasetFileError, match=f"1.{extension} cannot be read as an image"):
            load_image_folder(tmp_path)


def test_foreign_content_is_refused(tmp_path):
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    for content in (b"<html>", b"GIF89a"):
        path.write_bytes(content)
        with pytest.raises(DatasetFileError, match="1.png cannot be read as an image"):
            load_image_folder(tmp_path)


def test_postscript_is_not_run(tmp_path):
    _save(tmp_path / "a" / "1.eps", (4, 4, 3))
    with pytest.raises(DatasetFileError, match="a holds no images"):
        load_image_folder(tmp_path)
    (tmp_path / "a" / "1.eps").rename(tmp_path / "a" / "1.png")
    with pytest.raises(DatasetFileError, match="cannot identify image file"):
        load_image_folder(tmp_path)


def test_invalid_folders_are_refused(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="There is no folder .*nowhere"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match="has no folders. It needs one folder per class"):
        load_image_folder(tmp_path)
    _save(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(DatasetFileError, match="b holds no images"):
        load_image_folder(tmp_path)
    with pytest.raises(InvalidParameterError, match="'color' parameter of load_image_folder"):
        load_image_folder(tmp_path, color="ycbcr")

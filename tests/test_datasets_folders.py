"""Trees of image files."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNetClassifier

from skrobust import WaveletSparsifier, as_module
from skrobust.datasets import DatasetFileError, DatasetNotFoundError, image_folder_batches, load_image_folder
from skrobust.nn import ImageNetwork, make_network

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


def _photographs(root, n=4):
    """Two classes of photographs of several sizes, reddish and bluish."""
    for label, channel in (("cold", 2), ("warm", 0)):
        for index in range(n):
            pixels = _RNG.integers(0, 120, (230 + 20 * index, 300 - 15 * index, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            path = root / label / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_batches_are_the_whole_tree(tmp_path, batch_size):
    _photographs(tmp_path)
    whole = load_image_folder(tmp_path, size=224, color="rgb")
    batches = list(image_folder_batches(tmp_path, batch_size=batch_size))
    assert all(len(X) == len(y) == batch_size for X, y in batches[:-1])
    np.testing.assert_array_equal(np.concatenate([X for X, _ in batches]), whole.images)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), whole.target)
    assert whole.images.shape == (8, 224, 224, 3)


def test_shuffled_batches_hold_each_image_once(tmp_path):
    _photographs(tmp_path)
    whole = load_image_folder(tmp_path, size=32, color="rgb")
    options = {"batch_size": 3, "size": 32, "shuffle": True}
    one, same, other = (list(image_folder_batches(tmp_path, random_state=seed, **options)) for seed in (0, 0, 1))
    assert [y.tolist() for _, y in one] == [y.tolist() for _, y in same] != [y.tolist() for _, y in other]
    means = {float(image.mean()): label for image, label in zip(whole.images, whole.target, strict=True)}
    read = {float(image.mean()): label for X, y in one for image, label in zip(X, y, strict=True)}
    assert read == means


def test_batches_keep_one_batch_in_memory(tmp_path):
    _photographs(tmp_path, n=12)
    batch_bytes = 2 * 224 * 224 * 3 * 4
    tracemalloc.start()
    try:
        for X, _ in image_folder_batches(tmp_path, batch_size=2):
            assert X.nbytes == batch_bytes
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * batch_bytes  # the tree has 12 batches; decoding one photograph takes some copies of it


def test_batches_check_before_the_first_is_read(tmp_path):
    with pytest.raises(DatasetNotFoundError):
        image_folder_batches(tmp_path / "missing")
    _photographs(tmp_path, n=1)
    with pytest.raises(InvalidParameterError, match="'batch_size'"):
        image_folder_batches(tmp_path, batch_size=0)
    (tmp_path / "warm" / "1.jpg").write_bytes(b"damaged")
    batches = image_folder_batches(tmp_path, batch_size=1)
    next(batches), next(batches)
    with pytest.raises(DatasetFileError, match="1.jpg"):
        next(batches)


@pytest.mark.parametrize("name", ["resnet18", "sdnet18"])
def test_networks_of_imagenet_learn_from_batches_and_predict(tmp_path, name):
    """From files to a classifier behind a wavelet front end, batch by batch."""
    _photographs(tmp_path)
    torch.manual_seed(0)
    network = ImageNetwork(
        make_network(name, n_classes=2, image_shape=(224, 224, 3), width=4), mean=(0.485, 0.456, 0.406), std=0.25
    )
    net = NeuralNetClassifier(
        network, criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.01, batch_size=4, max_epochs=1,
        train_split=None, classes=[0, 1], verbose=0,
    )  # fmt: skip
    front_end = WaveletSparsifier("haar", n_nonzero_coefs=0.05, clip=(0, 1))
    for epoch in range(6):
        for X, y in image_folder_batches(tmp_path, batch_size=4, shuffle=True, random_state=epoch):
            net.partial_fit(front_end.fit(X).transform(X), y)
    module = as_module(make_pipeline(front_end, net), dtype="float32")
    losses = np.reshape(net.history[:, "train_loss"], (6, 2)).mean(1)
    assert losses[-1] < 0.8 * losses[0]
    for X, _ in image_folder_batches(tmp_path, batch_size=3):
        np.testing.assert_array_equal(module.predict(torch.tensor(X)), net.predict(front_end.transform(X)))

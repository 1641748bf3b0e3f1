"""The corruptions of CIFAR-10-C, one function per kind, each applied to one 8-bit image.

Constants and order of operations are those of Hendrycks and Dietterich (2019) for CIFAR-10-C, which are milder than
ImageNet-C's. A function takes ``(image, constants, rng)``: `image` is uint8 of shape ``(*grid, n_channels)``, the
result holds values of 0 to 255 that `corrupt` truncates, never rounds, to uint8, as the published files were made.
"""

import io
import math
from dataclasses import dataclass

import numpy as np


def gaussian_noise(image, sigma, rng):
    x = _unit(image)
    return _bytes(x + rng.normal(scale=sigma, size=x.shape))


def shot_noise(image, photons, rng):
    return _bytes(rng.poisson(_unit(image) * photons) / photons)


def impulse_noise(image, amount, rng):
    from skimage.util import random_noise

    return _bytes(random_noise(_unit(image), mode="s&p", rng=rng, amount=amount))


def speckle_noise(image, sigma, rng):
    x = _unit(image)
    return _bytes(x + x * rng.normal(scale=sigma, size=x.shape))


def gaussian_blur(image, sigma, rng):
    return _bytes(_gaussian(_unit(image), sigma))


def defocus_blur(image, constants, rng):
    from scipy.ndimage import correlate

    kernel = defocus_kernel(*constants)[:, :, np.newaxis]
    return _bytes(correlate(_unit(image), kernel, mode="mirror"))


def glass_blur(image, constants, rng):
    sigma, max_shift, n_rounds = constants
    x = np.uint8(_gaussian(_unit(image), sigma) * 255)
    height, width = x.shape[:2]
    rows, columns = range(height - max_shift, max_shift, -1), range(width - max_shift, max_shift, -1)
    source = list(range(height * width))
    for moves in rng.integers(-max_shift, max_shift, size=(n_rounds, len(rows), len(columns), 2)).tolist():
        for row, row_moves in zip(rows, moves, strict=True):
            for column, (dx, dy) in zip(columns, row_moves, strict=True):
                # Intended to swap two pixels, but the published files copy one over the other.
                source[row * width + column] = source[(row + dy) * width + column + dx]
    x = x.reshape(height * width, -1)[source].reshape(x.shape)
    return _bytes(_gaussian(_unit(x), sigma))


def zoom_blur(image, zooms, rng):
    x = _unit(image).astype(np.float32)
    total = np.zeros_like(x)
    for zoom in zooms:
        total += _centre_zoomed(x, zoom)
    return _bytes((x + total) / (len(zooms) + 1))


def fog(image, constants, rng):
    thickness, decay = constants
    x = _unit(image)
    height, width = x.shape[:2]
    side = 2 ** math.ceil(math.log2(max(height, width, 2)))
    brightest = x.max()
    x = x + thickness * plasma(side, decay, rng)[:height, :width, np.newaxis]
    return _bytes(x * brightest / (brightest + thickness))


def brightness(image, shift, rng):
    x = _unit(image)
    if x.shape[-1] == 1:
        # Grey has saturation 0, and its value is the grey level.
        return _bytes(x + shift)
    from skimage.color import hsv2rgb, rgb2hsv

    hsv = rgb2hsv(x)
    hsv[..., 2] = np.clip(hsv[..., 2] + shift, 0, 1)
    return _bytes(hsv2rgb(hsv))


def saturate(image, constants, rng):
    from skimage.color import hsv2rgb, rgb2hsv

    factor, shift = constants
    hsv = rgb2hsv(_unit(image))
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    return _bytes(hsv2rgb(hsv))


def contrast(image, factor, rng):
    x = _unit(image)
    mean = x.mean(axis=tuple(range(x.ndim - 1)), keepdims=True)
    return _bytes((x - mean) * factor + mean)


def pixelate(image, factor, rng):
    from PIL import Image

    picture = _picture(image)
    width, height = picture.size
    small = picture.resize((max(1, int(width * factor)), max(1, int(height * factor))), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)).reshape(image.shape)


def jpeg_compression(image, quality, rng):
    from PIL import Image

    stored = io.BytesIO()
    _picture(image).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored)).reshape(image.shape)


@dataclass(frozen=True)
class Kind:
    """Function and constants of one kind of corruption, and its requirements on the signal."""

    make: object
    constants: tuple
    needs_image: bool = True
    channels: tuple = (1, 3)


# Constants for severity 1 to 5. Pixelwise kinds accept any signal.
KINDS = {
    "gaussian_noise": Kind(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10), needs_image=False, channels=()),
    "shot_noise": Kind(shot_noise, (500, 250, 100, 75, 50), needs_image=False, channels=()),
    "impulse_noise": Kind(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07), needs_image=False, channels=()),
    "speckle_noise": Kind(speckle_noise, (0.06, 0.10, 0.12, 0.16, 0.20), needs_image=False, channels=()),
    "gaussian_blur": Kind(gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0), channels=()),
    "defocus_blur": Kind(defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)), channels=()),
    "glass_blur": Kind(glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)), channels=()),
    # np.arange, whose rounding decides whether the last zoom is included, as in the published files.
    "zoom_blur": Kind(
        zoom_blur, tuple(np.arange(1, stop, 0.01) for stop in (1.06, 1.11, 1.16, 1.21, 1.26)), channels=()
    ),
    "fog": Kind(fog, ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)), channels=()),
    "brightness": Kind(brightness, (0.05, 0.10, 0.15, 0.20, 0.30), needs_image=False),
    "contrast": Kind(contrast, (0.75, 0.5, 0.4, 0.3, 0.15), needs_image=False, channels=()),
    "saturate": Kind(saturate, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)), channels=(3,)),
    "pixelate": Kind(pixelate, (0.95, 0.90, 0.85, 0.75, 0.65)),
    "jpeg_compression": Kind(jpeg_compression, (80, 65, 58, 50, 40)),
}


def defocus_kernel(radius, sigma):
    """A disk of `radius` on a 17 × 17 grid, smoothed by a Gaussian of three taps; float32, sum 1."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(-8, 9)
    disk = (offsets[:, np.newaxis] ** 2 + offsets**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    side = math.exp(-1 / (2 * sigma**2))
    taps = (np.array([side, 1, side]) / (1 + 2 * side)).astype(np.float32)

    return correlate1d(correlate1d(disk, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")


def plasma(side, decay, rng):
    """A periodic plasma fractal (diamond-square) of values 0 to 1; `side` is a power of two."""
    height = np.zeros((side, side))
    step, amplitude = side, 100.0

    def displaced(sum_of_four):
        return sum_of_four / 4 + amplitude * rng.uniform(-amplitude, amplitude, sum_of_four.shape)

    while step >= 2:
        half = step // 2
        corners = height[::step, ::step]
        down = corners + np.roll(corners, -1, axis=0)
        height[half::step, half::step] = displaced(down + np.roll(down, -1, axis=1))
        centres = height[half::step, half::step]
        along_row = corners + np.roll(corners, -1, axis=1)
        height[::step, half::step] = displaced(centres + np.roll(centres, 1, axis=0) + along_row)
        # Left edges should average the corners above and below; the published maps use those of the row.
        height[half::step, ::step] = displaced(centres + np.roll(centres, 1, axis=1) + along_row)
        step, amplitude = half, amplitude / decay
    height -= height.min()
    return height / height.max()


def _centre_zoomed(x, zoom):
    """The centre of `x`, enlarged linearly by `zoom` to the size of `x`."""
    from scipy.ndimage import zoom as resample

    sizes = x.shape[:2]
    crops = [math.ceil(size / zoom) for size in sizes]
    starts = [(size - crop) // 2 for size, crop in zip(sizes, crops, strict=True)]
    centre = x[tuple(slice(start, start + crop) for start, crop in zip(starts, crops, strict=True))]
    large = resample(centre, (zoom, zoom, 1), order=1)
    trims = [(have - size) // 2 for have, size in zip(large.shape, sizes, strict=False)]
    return large[tuple(slice(trim, trim + size) for trim, size in zip(trims, sizes, strict=True))]


def _unit(image):
    return image / 255.0


def _bytes(x):
    return np.clip(x, 0, 1) * 255


def _gaussian(x, sigma):
    from skimage.filters import gaussian

    return gaussian(x, sigma=sigma, channel_axis=-1)


def _picture(image):
    from PIL import Image

    return Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])

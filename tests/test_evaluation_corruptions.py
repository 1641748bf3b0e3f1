"""Corruptions against CIFAR-10-C's definitions: moments over 1e5 pixels, and slow independent forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from skrobust.evaluation import CORRUPTIONS, Corruption, corrupt, corruptions_for
from skrobust.evaluation.corruptions.kinds import KINDS, defocus_kernel, glass_blur, plasma

SEVERITIES = (1, 2, 3, 4, 5)


def _grey(level, n_pixels=100_000):
    """Uniform images of one level of 255, 1e5 pixels in all."""
    return np.full((n_pixels // 1000, 1000), level / 255)


def _colour_images(n, seed=0, shape=(32, 32, 3)):
    from scipy.ndimage import gaussian_filter

    rough = np.random.default_rng(seed).uniform(size=(n, *shape))
    smooth = gaussian_filter(rough, (0, 2, 2, 0)[: len(shape) + 1])
    low, high = smooth.min(), smooth.max()
    return np.rint(255 * (smooth - low) / (high - low)).astype(np.uint8)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_noise_has_the_published_standard_deviation(severity):
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noise = corrupt(_grey(128), "gaussian_noise", severity, random_state=0) - 128 / 255
    # Truncation to uint8 lowers the mean by half a level; the spread of its rounding adds 1/12 of a level squared.
    assert abs(noise.mean() + 0.5 / 255) < 4 * sigma / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(np.sqrt(sigma**2 + 1 / 12 / 255**2), rel=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_has_the_published_variance(severity):
    photons = (500, 250, 100, 75, 50)[severity - 1]
    corrupted = np.rint(255 * corrupt(_grey(51), "shot_noise", severity, random_state=0))
    # Few photons leave few levels: the truncated distribution is summed rather than approximated.
    n_photons = np.arange(2 * photons)
    probability = poisson.pmf(n_photons, 51 / 255 * photons)
    levels = np.floor(np.clip(n_photons / photons, 0, 1) * 255)
    mean = probability @ levels
    variance = probability @ (levels - mean) ** 2
    assert abs(corrupted.mean() - mean) < 4 * np.sqrt(variance / corrupted.size)
    assert corrupted.var() == pytest.approx(variance, rel=0.02)  # of a sample
    # Truncation to 256 levels changes the variance of Poisson noise.
    assert variance == pytest.approx(255**2 * 0.2 / photons, rel=0.1)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_speckle_noise_scales_with_the_pixel(severity):
    sigma = (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1]
    for level in (60, 120):
        noise = corrupt(_grey(level), "speckle_noise", severity, random_state=0) - level / 255
        assert noise.std() == pytest.approx(np.sqrt((sigma * level / 255) ** 2 + 1 / 12 / 255**2), rel=0.01)
        assert abs(noise.mean() + 0.5 / 255) < 4 * noise.std() / np.sqrt(noise.size)
    assert not corrupt(_grey(0), "speckle_noise", severity, random_state=0).any()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise_salts_the_published_share_of_elements(severity):
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    X = np.full((50, 32, 32, 3), 128, np.uint8)
    Z = corrupt(X, "impulse_noise", severity, random_state=0)
    tolerance = 4 * np.sqrt(amount / X.size)
    assert (Z == 255).mean() == pytest.approx(amount / 2, abs=tolerance)
    assert (Z == 0).mean() == pytest.approx(amount / 2, abs=tolerance)
    assert np.isin(Z, [0, 128, 255]).all()
    # Each channel is hit on its own: few pixels lose all three at once.
    assert (Z != 128).all(axis=-1).mean() < 3 * amount**3 + 1e-3


def test_values_are_truncated_not_rounded():
    X = np.full((1, 4), 101, np.uint8)
    X[0, 0] = 0
    mean, factor = 303 / 4, 0.75
    expected = np.floor((np.array([0.0, 101, 101, 101]) - mean) * factor + mean)
    np.testing.assert_array_equal(corrupt(X, "contrast", 1)[0], expected)
    # 8 bits in, 8 bits out of range.
    assert corrupt(np.full((1, 4), 250, np.uint8), "brightness", 5).tolist() == [[255] * 4]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_deterministic_kinds_against_independent_forms(severity):
    from io import BytesIO

    from PIL import Image
    from skimage import color, filters

    X = _colour_images(3)

    def as_published(make):
        return np.stack([np.uint8(np.clip(make(x / 255.0), 0, 1) * 255) for x in X])

    sigma = (0.4, 0.6, 0.7, 0.8, 1)[severity - 1]
    expected = as_published(lambda x: filters.gaussian(x, sigma=sigma, channel_axis=2))
    np.testing.assert_array_equal(corrupt(X, "gaussian_blur", severity), expected)

    shift = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]

    def brighter(x):
        hue, saturation, value = np.moveaxis(color.rgb2hsv(x), -1, 0)
        return color.hsv2rgb(np.stack([hue, saturation, np.minimum(value + shift, 1)], axis=-1))

    np.testing.assert_array_equal(corrupt(X, "brightness", severity), as_published(brighter))

    factor, offset = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]

    def saturated(x):
        hue, saturation, value = np.moveaxis(color.rgb2hsv(x), -1, 0)
        return color.hsv2rgb(np.stack([hue, np.clip(saturation * factor + offset, 0, 1), value], axis=-1))

    np.testing.assert_array_equal(corrupt(X, "saturate", severity), as_published(saturated))

    squeeze = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    expected = as_published(lambda x: squeeze * (x - x.mean((0, 1))) + x.mean((0, 1)))
    assert np.abs(corrupt(X, "contrast", severity).astype(int) - expected).max() <= 1  # order of operations
    side = (30, 28, 27, 24, 20)[severity - 1]
    expected = [Image.fromarray(x).resize((side, side), Image.BOX).resize((32, 32), Image.BOX) for x in X]
    np.testing.assert_array_equal(corrupt(X, "pixelate", severity), np.stack(expected))
    for x, z in zip(X, corrupt(X, "jpeg_compression", severity), strict=True):
        stream = BytesIO()
        Image.fromarray(x).save(stream, format="JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        np.testing.assert_array_equal(z, np.asarray(Image.open(stream)))


def test_number_of_zooms_of_zoom_blur():
    # np.arange(1, 1.06, 0.01) ends at 1.06 and np.arange(1, 1.26, 0.01) at 1.25, by rounding: as published.
    assert [len(c) for c in KINDS["zoom_blur"].constants] == [7, 12, 16, 21, 26]
    constant = np.full((1, 32, 32, 3), 200, np.uint8)
    assert np.abs(corrupt(constant, "zoom_blur", 3).astype(int) - 200).max() <= 1


def test_defocus_kernel_and_blur_match_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV made the published files; it is no dependency of ours")
    X = _colour_images(4)
    for severity, (radius, sigma) in enumerate(KINDS["defocus_blur"].constants, start=1):
        y, x = np.mgrid[-8:9, -8:9]
        disk = np.float32(x * x + y * y <= radius**2)
        kernel = cv2.GaussianBlur(disk / disk.sum(), (3, 3), sigma)
        np.testing.assert_allclose(defocus_kernel(radius, sigma), kernel, atol=1e-7)
        expected = np.uint8(np.clip(cv2.filter2D(X[0] / 255.0, -1, kernel), 0, 1) * 255)
        np.testing.assert_array_equal(corrupt(X, "defocus_blur", severity)[0], expected)


def test_defocus_kernels_in_closed_form():
    for radius, sigma in KINDS["defocus_blur"].constants[:3]:  # a disk of one pixel: the softening alone remains
        taps = np.exp(-(np.array([-1.0, 0, 1]) ** 2) / (2 * sigma**2))
        taps /= taps.sum()
        kernel = defocus_kernel(radius, sigma)
        np.testing.assert_allclose(kernel[7:10, 7:10], np.outer(taps, taps), atol=1e-7)
        assert kernel.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_copies_pixels_as_the_published_loop_does(severity):
    """The published swap of two views of a colour image overwrites the one and leaves the other."""
    from skimage.filters import gaussian

    sigma, max_shift, rounds = KINDS["glass_blur"].constants[severity - 1]
    image = _colour_images(1, seed=severity, shape=(12, 10, 3))[0]
    moves = np.random.default_rng(7).integers(
        -max_shift, max_shift, size=(rounds, 12 - 2 * max_shift, 10 - 2 * max_shift, 2)
    )
    x = np.uint8(gaussian(image / 255.0, sigma=sigma, channel_axis=-1) * 255)
    for step in range(rounds):
        for i, h in enumerate(range(12 - max_shift, max_shift, -1)):
            for j, w in enumerate(range(10 - max_shift, max_shift, -1)):
                dx, dy = moves[step, i, j]
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    expected = np.clip(gaussian(x / 255.0, sigma=sigma, channel_axis=-1), 0, 1) * 255
    result = glass_blur(image, (sigma, max_shift, rounds), np.random.default_rng(7))
    np.testing.assert_array_equal(np.uint8(result), np.uint8(expected))


def test_plasma_is_a_normalised_fractal_whose_roughness_follows_the_decay():
    maps = {decay: plasma(32, decay, np.random.default_rng(0)) for decay in (1.75, 3)}
    for height in maps.values():
        assert height.shape == (32, 32) and height.min() == 0 and height.max() == 1
    roughness = {decay: np.abs(np.diff(height, axis=0)).mean() for decay, height in maps.items()}
    assert roughness[1.75] > 1.3 * roughness[3]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_same_for_any_batch_and_threads(kind):
    X = _colour_images(7)
    whole = corrupt(X, kind, 4, random_state=3)
    np.testing.assert_array_equal(corrupt(X, kind, 4, random_state=3, n_jobs=2), whole)
    np.testing.assert_array_equal(corrupt(X[:3], kind, 4, random_state=3), whole[:3])
    if kind in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "fog"):
        assert (corrupt(X, kind, 4, random_state=4) != whole).any()
        assert (corrupt(np.stack([X[0], X[0]]), kind, 4, random_state=3)[0] != whole[1]).any()


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_harder_with_severity_and_never_out_of_range(kind):
    X = _colour_images(5) / 255
    distance = [np.sqrt(np.mean((corrupt(X, kind, s, random_state=0) - X) ** 2)) for s in SEVERITIES]
    assert distance[0] > 0 and distance[-1] > distance[0]
    for s in SEVERITIES:
        Z = corrupt(X, kind, s, random_state=0)
        assert Z.min() >= 0 and Z.max() <= 1
        np.testing.assert_allclose(Z * 255, np.rint(Z * 255), atol=1e-9)  # 8-bit levels


@given(st.sampled_from(sorted(set(CORRUPTIONS) - {"saturate"})), st.sampled_from([np.float32, np.float64, np.uint8]))
def test_layouts_and_dtypes(kind, dtype):
    X = _colour_images(2, shape=(9, 11, 1))[..., 0]
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    Z = corrupt(X, kind, 2, random_state=0)
    assert Z.dtype == dtype and Z.shape == X.shape
    flat = corrupt(np.asfortranarray(X.reshape(2, -1)), kind, 2, random_state=0, image_shape=(9, 11))
    np.testing.assert_array_equal(flat, Z.reshape(2, -1))


def test_data_range_and_object():
    X = np.linspace(-1, 1, 64).reshape(1, 64)
    Z = corrupt(X, "gaussian_noise", 3, random_state=0, data_range=(-1, 1))
    half = corrupt((X + 1) / 2, "gaussian_noise", 3, random_state=0)
    np.testing.assert_allclose(Z, 2 * half - 1, atol=1e-12)
    noise = Corruption("gaussian_noise", 3, 0, data_range=(-1, 1))
    np.testing.assert_array_equal(noise.perturb(None, X), Z)
    assert noise.describe()["threat_model"] == "corruption" and noise.describe()["seed"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((1, 8)), "fuzz"), "The 'kind' parameter"),
        ((np.zeros((1, 8)), "contrast", 6), "The 'severity' parameter"),
        ((np.zeros((1, 8)), "jpeg_compression"), r"kind='jpeg_compression' needs images.*image_shape"),
        ((np.zeros((1, 8, 8)), "saturate"), "kind='saturate' needs 3 channels, but the images have 1"),
        ((np.full((1, 8), 16.0), "contrast"), r"X must lie within data_range=\(0, 1\), but spans 16 to 16"),
        ((np.full((1, 8), np.nan), "contrast"), "NaN"),
        ((np.zeros((0, 8)), "contrast"), "0 sample"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments)


@pytest.mark.parametrize(
    ("shape", "image_shape", "lacks"),
    [
        ((2, 16, 16), None, {"saturate"}),
        ((2, 256), (16, 16), {"saturate"}),
        ((2, 16, 16, 3), None, set()),
        ((2, 768), (16, 16, 3), set()),
        ((2, 16, 16, 2), None, {"saturate", "brightness", "pixelate", "jpeg_compression"}),
        (
            (2, 256),
            None,
            set(CORRUPTIONS)
            - {f"{noise}_noise" for noise in ("gaussian", "shot", "impulse", "speckle")}
            - {"brightness", "contrast"},
        ),
    ],
)
def test_kinds_that_fit_can_be_made_and_no_others(shape, image_shape, lacks):
    X = np.random.default_rng(0).random(shape)
    fitting = corruptions_for(X, severity=5, image_shape=image_shape)
    assert [one.kind for one in fitting] == [kind for kind in CORRUPTIONS if kind not in lacks]
    for one in fitting:
        assert one.perturb(None, X).shape == shape
    for kind in lacks:
        with pytest.raises(ValueError, match="corruptions_for"):
            Corruption(kind, image_shape=image_shape).perturb(None, X)

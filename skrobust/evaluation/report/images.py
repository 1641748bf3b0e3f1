"""Samples as images: their layout, the output of front ends, and image quality."""

import math

import numpy as np

from skrobust.bridge.inputs import active_steps
from skrobust.signals import SignalLayout, SignalTransformer
from skrobust.signals.layout import channels_first_hint


def image_layout(model, sample_shape, image_shape=None):
    """The layout in which samples can be displayed, or None if they are not images. Without `image_shape` that of the
    model's front end, else a square.
    """
    if image_shape is None and len(sample_shape) == 1:
        image_shape = next((s for s in _image_shapes(model) if math.prod(s) == sample_shape[0]), None)
        side = math.isqrt(sample_shape[0])
        if image_shape is None and side * side == sample_shape[0] and side > 2:
            image_shape = (side, side)
    if image_shape is None and channels_first_hint(sample_shape):  # from a torch network
        return None
    layout = SignalLayout.infer(sample_shape, image_shape)
    return layout if len(layout.grid) == 2 and layout.n_channels in (1, 3) else None


def as_images(X, layout):
    """`X` as (n_samples, height, width) grey or (n_samples, height, width, 3) colour images."""
    images = layout.place(np.asarray(X)).values
    return images[..., 0] if layout.n_channels == 1 else images


def restored(model, X):
    """Output of the front ends at the start of a Pipeline for `X`, or None if there are none.

    A front end is one of our transformers whose output has the shape of its input.
    """
    pipeline = fitted_part(model)
    images, latest = X, None
    for _, step in active_steps(pipeline)[:-1] if hasattr(pipeline, "steps") else ():
        images = np.asarray(step.transform(images))
        if images.shape != X.shape:
            break
        if isinstance(step, SignalTransformer):
            latest = images
    return latest


def image_quality(clean, other, layout, data_range=1.0):
    """Peak signal-to-noise ratio in decibels and structural similarity of `other` to `clean`, per image.

    `data_range` is white minus black; the PSNR uses its square and is infinite for equal images. The SSIM is NaN for
    images smaller than 3 × 3; its window is 7 × 7, or as large as the image allows.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    clean, other = as_images(clean, layout).astype(float), as_images(other, layout).astype(float)
    pairs = list(zip(clean, other, strict=True))
    with np.errstate(divide="ignore"):
        psnr = np.array([peak_signal_noise_ratio(a, b, data_range=data_range) for a, b in pairs])
    window = min(7, *layout.grid)
    window -= 1 - window % 2
    if window < 3:
        return psnr, np.full(len(clean), np.nan)
    axis = -1 if layout.n_channels > 1 else None
    return psnr, np.array(
        [structural_similarity(a, b, win_size=window, data_range=data_range, channel_axis=axis) for a, b in pairs]
    )


def fitted_part(model):
    """The fitted Pipeline or classifier inside a finished search."""
    return getattr(model, "best_estimator_", model)


def _image_shapes(model):
    for _, step in getattr(fitted_part(model), "steps", []):
        shape = getattr(step, "image_shape", None)
        if shape is not None:
            yield tuple(shape)

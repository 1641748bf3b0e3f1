"""
Denoising and inpainting with convolutional codes
=================================================

Atoms are learned on the clean upper half of a picture. Codes of the lower half are found under noise, or from a third
of its pixels, with a mask; their synthesis is the estimate. Beside it: what scikit-image has for the task.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data, metrics, restoration

from skrobust import ConvSparseCoder
from skrobust.displays import DictionaryDisplay
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_basis_pursuit

rng = np.random.default_rng(0)
pictures = {
    "page": data.page()[:190].astype(np.float32) / 255,
    "photograph": data.camera()[100:356, 130:430].astype(np.float32) / 255,
}

# %%
# Learn 64 atoms from 60 crops of each upper half. `highpass` subtracts the smooth part of the crops first.
coders = {}
for name, picture in pictures.items():
    height, width = len(picture) // 2, picture.shape[1]
    corners = rng.integers([height - 40, width - 40], size=(60, 2))
    crops = np.stack([picture[y : y + 40, x : x + 40] for y, x in corners])
    coders[name] = ConvSparseCoder(64, kernel_size=9, alpha=0.1, highpass=5.0, tol=1e-2, random_state=0).fit(crops)

figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained", gridspec_kw={"wspace": 0.06})
for ax, (name, coder) in zip(axes, coders.items(), strict=True):
    DictionaryDisplay.from_estimator(coder, ax=ax)
    ax.set_title(f"atoms of the {name}")


# %%
# **Denoising**: a coder that returns reconstructions is a front end. Its penalty, and the weight of total variation,
# are each the best of four values. PSNR is that of the whole lower half; its left part is shown.
def ratio(image, estimate):
    return metrics.peak_signal_noise_ratio(image, np.clip(estimate, 0, 1), data_range=1)


def best(image, estimates):
    return max(estimates, key=lambda estimate: ratio(image, estimate))


def denoise(noisy, components, alpha):
    front_end = ConvSparseCoder(
        dictionary=components, alpha=alpha, highpass=5.0, tol=1e-2, output="reconstruction", image_shape=noisy.shape
    )
    return front_end.fit_transform(noisy[None])[0]


def show(rows, names):
    figure, axes = plt.subplots(len(rows), len(names), figsize=(11, 3.9), layout="constrained")
    for line, images in zip(axes, rows, strict=True):
        for ax, name, image in zip(line, names, images, strict=True):
            ax.imshow(image[:, :200], cmap="gray", vmin=0, vmax=1)
            known = np.isfinite(image).all()
            ax.set_title(name if image is images[0] or not known else f"{name}, {ratio(images[0], image):.1f} dB")
            ax.axis("off")


rows = []
for name, picture in pictures.items():
    clean = picture[len(picture) // 2 :]
    noisy = clean + np.float32(0.08) * rng.standard_normal(clean.shape, dtype=np.float32)
    ours = [denoise(noisy, coders[name].components_, alpha) for alpha in (0.1, 0.15, 0.2, 0.25)]
    theirs = [restoration.denoise_tv_chambolle(noisy, weight=weight) for weight in (0.02, 0.05, 0.08, 0.1)]
    rows.append([clean, noisy, best(clean, theirs), best(clean, ours)])
show(rows, ["clean", "noisy", "total variation", "convolutional codes"])


# %%
# **Inpainting**: two thirds of the pixels are unknown. Smooth part and codes are estimated alternately, with a
# decreasing penalty; each pursuit is warm-started from the previous codes.
def inpaint(image, components):
    known = np.isfinite(image)
    operator = ConvolutionalOperator(components, (*image.shape, 1))
    estimate, codes = np.full_like(image, image[known].mean()), None
    for alpha in (0.2, 0.1, 0.05, 0.02, 0.01):
        smooth = gaussian_filter(np.where(known, image, estimate), 2)
        result = convolutional_basis_pursuit(
            (image - smooth)[None, ..., None], operator, alpha, mask=known, init=codes, tol=1e-2
        )
        codes = result.codes
        estimate = smooth + operator.synthesize(codes)[0, ..., 0]
    return np.where(known, image, estimate)


rows = []
for name, picture in pictures.items():
    clean = picture[len(picture) // 2 :]
    image = np.where(rng.random(clean.shape) < 1 / 3, clean, np.float32(np.nan))
    theirs = restoration.inpaint_biharmonic(np.nan_to_num(image), ~np.isfinite(image))
    rows.append([clean, image, theirs, inpaint(image, coders[name].components_)])
show(rows, ["clean", "known", "biharmonic", "convolutional codes"])

# %%
# Letters repeat, so atoms learned from some of them can fill in others. The photograph has few repetitions; there, an
# estimate by smoothness is equally good.
plt.show()

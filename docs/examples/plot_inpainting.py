"""
Inpainting and denoising with convolutional codes
=================================================

Atoms are learned on a clean part of a photograph. Codes of the rest are found from the pixels that are known, with a
mask; the synthesis fills in the others.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage import data, metrics

from skrobust import ConvSparseCoder
from skrobust.pursuits import ConvolutionalOperator, convolutional_basis_pursuit

photograph = data.camera()[100:356, 150:406].astype(np.float32) / 255
rng = np.random.default_rng(0)

# %%
# Learn 48 atoms from 60 crops of the upper half, less their local mean: the coder takes care of detail.
detail = photograph - gaussian_filter(photograph, 4)
corners = rng.integers([96, 224], size=(60, 2))
crops = np.stack([detail[y : y + 32, x : x + 32] for y, x in corners])
coder = ConvSparseCoder(48, kernel_size=8, alpha=0.05, n_epochs=8, random_state=0).fit(crops)

figure, axes = plt.subplots(4, 12, figsize=(9, 3))
for atom, axis in zip(coder.components_[..., 0], axes.flat, strict=True):
    axis.imshow(atom, cmap="gray")
    axis.axis("off")
figure.suptitle("learned atoms")

# %%
# Two thirds of the pixels of the lower half are lost, the others are noisy. The local mean is that of known pixels.
lower = photograph[128:]
mask = rng.random(lower.shape) < 1 / 3
noisy = np.where(mask, lower + 0.03 * rng.normal(size=lower.shape), 0).astype(np.float32)
smooth = gaussian_filter(noisy, 4) / gaussian_filter(mask.astype(np.float32), 4)

operator = ConvolutionalOperator(coder.components_, (*lower.shape, 1))
result = convolutional_basis_pursuit(
    np.where(mask, noisy - smooth, 0)[None, ..., None], operator, alpha=0.03, mask=mask, tol=1e-2
)
filled = smooth + operator.synthesize(result.codes)[0, ..., 0]

figure, axes = plt.subplots(4, 1, figsize=(6, 12))
axes[0].set_title("truth")
for axis, image, title in zip(axes, [lower, noisy, smooth, filled], ["", "known", "mean", "filled"], strict=True):
    if title:
        psnr = metrics.peak_signal_noise_ratio(lower, image.clip(0, 1), data_range=1)
        axis.set_title(f"{title}, PSNR {psnr:.1f} dB")
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.axis("off")
print(f"relative gap {float(result.gap[0] / result.objective[0]):.1e}, {int((result.codes != 0).sum())} atoms")

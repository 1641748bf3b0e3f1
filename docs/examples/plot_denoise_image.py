"""
Denoising an image with a dictionary
====================================

Overlapping patches of a noisy image, each approximated by a few atoms, averaged: first with atoms of a cosine
transform, then with atoms that are learned from the noisy image itself.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage.data import camera
from skimage.metrics import peak_signal_noise_ratio

from skrobust import PatchDictionaryDenoiser
from skrobust.displays import DictionaryDisplay

clean = camera()[60:252, 130:322] / 255
sigma = 25 / 255
noisy = clean + sigma * np.random.default_rng(0).standard_normal(clean.shape)

# %%
# The pursuit of a patch stops when the residual is at the noise level. `image_weight` adds the noisy image to the
# average, as in Elad and Aharon.
settings = {"noise_std": sigma, "image_weight": 30 / (255 * sigma), "clip": (0, 1), "random_state": 0}
denoisers = {
    "cosine transform": PatchDictionaryDenoiser(256, dictionary="dct", **settings),
    "learned from the image": PatchDictionaryDenoiser(256, dictionary="image", **settings),
}
results = {"clean": clean, "noisy": noisy}
for name, denoiser in denoisers.items():
    results[name] = denoiser.fit_transform(noisy[None])[0]

# %%
# Peak signal-to-noise ratios of the images.
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for ax, (name, image) in zip(axes, results.items(), strict=True):
    ratio = "" if image is clean else f"\n{peak_signal_noise_ratio(clean, image, data_range=1):.1f} dB"
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_title(name + ratio)
    ax.axis("off")

# %%
# The atoms, the most used ones first, and the number of patches that use each. A few atoms dominate.
DictionaryDisplay.from_estimator(denoisers["cosine transform"], noisy[None], max_atoms=144)
plt.show()

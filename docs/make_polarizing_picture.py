"""Draw docs/images/ambiguous_shares.png: ``python docs/make_polarizing_picture.py``, some seconds."""

import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from sklearn.datasets import load_digits, load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d

from skrobust import PolarizingCoder
from skrobust.displays import AmbiguityDisplay

digits = load_digits().images / 16
pictures = [*load_sample_images().images, data.astronaut(), data.cat(), data.coffee(), data.rocket()]
patches = [extract_patches_2d(picture / 255, (32, 32), max_patches=200, random_state=0) for picture in pictures]
# Images to fit, and others to ask: for photographs, of other pictures.
sets = {
    "scikit-learn's digits": (digits[::2], digits[1::2]),
    "32 × 32 patches of photographs": (np.concatenate(patches[::2]), np.concatenate(patches[1::2])),
}
figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.7), layout="constrained")
for ax, (name, (fit, held)) in zip(axes, sets.items(), strict=True):
    coder = PolarizingCoder(eps=0.1).fit(fit)
    AmbiguityDisplay.from_estimator(coder, held, eps=np.linspace(0, 0.2, 33), ax=ax)
    ax.set_title(name, fontsize=10)
    ax.set_ylim(0, 40)
axes[1].set_ylabel("")
path = pathlib.Path(__file__).parent / "images" / "ambiguous_shares.png"
figure.savefig(path, dpi=110)
print(f"Wrote {path}")

"""
Layered codes of digits
=======================

Two layers of atoms, learned from digits alone, and three ways to find the codes: layered thresholding (a convolutional
network's forward pass), layered basis pursuit, and deep pursuit, which solves for both layers at once.
"""

import matplotlib.pyplot as plt
import numpy as np

from skrobust import DeepPursuit, LayeredBasisPursuit, LayeredThresholding
from skrobust.datasets import load_dataset
from skrobust.displays import CoherenceDisplay, PursuitTraceDisplay

X_train = load_dataset("digits", split="train", return_X_y=True)[0].reshape(-1, 8, 8)
X_test = load_dataset("digits", split="test", return_X_y=True)[0].reshape(-1, 8, 8)[:100]

# %%
# Learn 12 atoms of 3 x 3 pixels, and 24 of 3 x 3 codes of those. The three coders then share these dictionaries.
deep = DeepPursuit((12, 24), kernel_size=3, padding="same", alpha=0.05, max_iter=60, random_state=0).fit(X_train)
given = {"dictionaries": deep.components_, "padding": "same"}
coders = {
    "L-THR": LayeredThresholding(threshold=0.05, **given).fit(X_train),
    "L-BP": LayeredBasisPursuit(alpha=0.05, max_iter=60, **given).fit(X_train),
    "deep pursuit": deep,
}

# %%
# Reconstruction errors of each layer against iterations. Atoms overlap, so one thresholded convolution represents each
# stroke several times; iterations correct this. L-BP fits the first layer best, because it ignores the second. Deep
# pursuit trades some of that accuracy for codes that the second layer can represent.
PursuitTraceDisplay.from_estimator(coders, X_test, iterations=(0, 1, 2, 4, 8, 15, 30, 60))

# %%
# Sparsity of the codes, and digits reconstructed from the deepest codes.
figure, axes = plt.subplots(len(coders) + 1, 8, figsize=(8, 4.4), layout="constrained")
for ax, image in zip(axes[0], X_test, strict=False):
    ax.imshow(image, cmap="gray")
axes[0, 0].set_ylabel("digits", rotation=0, ha="right", va="center")
for line, (name, coder) in zip(axes[1:], coders.items(), strict=True):
    print(name, "share of codes that are not zero:", [f"{np.mean(w != 0):.2f}" for w in coder.encode(X_test)])
    for ax, image in zip(line, coder.inverse_transform(coder.transform(X_test)), strict=False):
        ax.imshow(image, cmap="gray")  # each to its own scale
    line[0].set_ylabel(name, rotation=0, ha="right", va="center")
for ax in axes.ravel():
    ax.set(xticks=[], yticks=[])

# %%
# Coherence. The theorems need a small mutual coherence, which learned atoms do not have, especially where an edge cuts
# them. The frame potential, the root mean square of all inner products, is closer to its bound.
CoherenceDisplay.from_estimator(deep)
plt.show()

"""
Common corruptions
==================

CIFAR-10-C's corruptions on digits, and a search that tunes for corruptions and attacks at once.
"""

import matplotlib.pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from skrobust.attacks import PGD
from skrobust.datasets import load_dataset
from skrobust.evaluation import Corruption, TradeOff, corrupt, make_robust_scorer

X_train, y_train = load_dataset("digits", split="train", return_X_y=True)
X_test, y_test = load_dataset("digits", split="test", return_X_y=True)

# %%
# The same digit at five severities. As in CIFAR-10-C, images are 8-bit: values are truncated to 256 levels.
kinds = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "contrast", "gaussian_blur"]
figure, axes = plt.subplots(len(kinds), 5, figsize=(5.6, 6.2), layout="constrained")
for kind, line in zip(kinds, axes, strict=True):
    for severity, ax in enumerate(line, start=1):
        noisy = corrupt(X_test[:1], kind, severity, random_state=0, image_shape=(8, 8))
        ax.imshow(noisy.reshape(8, 8), cmap="gray", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
    line[0].set_ylabel(kind.replace("_", " "), rotation=0, ha="right", va="center")
for severity, ax in enumerate(axes[0], start=1):
    ax.set_title(severity)

# %%
# Scorers accept a corruption in place of an attack. The selected candidate has the largest mean of robust and corrupted
# accuracy among those with at least 85 % clean accuracy.
noises = [Corruption(kind, 5, random_state=0, image_shape=(8, 8)) for kind in ("gaussian_noise", "impulse_noise")]
search = GridSearchCV(
    LogisticRegression(max_iter=500),
    {"C": [0.003, 0.01, 0.03, 0.1, 1, 10]},
    scoring={
        "clean": "accuracy",
        "robust": make_robust_scorer(PGD(eps=0.1, n_iter=10, loss="margin", random_state=0), max_samples=150),
        "corrupted": make_robust_scorer(noises, reduce="mean"),
    },
    refit=TradeOff({"robust": 1, "corrupted": 1}, at_least={"clean": 0.85}),
    cv=3,
).fit(X_train, y_train)
print(search.best_params_)

# %%
# The three scores of all candidates.
figure, ax = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
C = search.cv_results_["param_C"].astype(float)
for score in ("clean", "corrupted", "robust"):
    ax.semilogx(C, 100 * search.cv_results_[f"mean_test_{score}"], label=score)
ax.axvline(search.best_params_["C"], color="#8a8f98", linestyle=":", label="chosen")
ax.set(xlabel="C", ylabel="accuracy, %")
ax.legend(frameon=False)

"""
A report, and whether to believe it
===================================

A defence that rounds pixels looks robust to an attack that follows its gradients, because it has none. The masking
checks say so, and the default attacks, which differentiate a front end in several ways, find what that one missed.
"""

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust.attacks import PGD
from skrobust.bridge import register_module
from skrobust.datasets import load_dataset
from skrobust.displays import ConfusionUnderAttackDisplay, PerturbationGalleryDisplay
from skrobust.evaluation import robustness_report

X_train, y_train = load_dataset("digits", split="train", return_X_y=True)
X_test, y_test = load_dataset("digits", split="test", return_X_y=True)
X_test, y_test = X_test[::4], y_test[::4]


# %%
# A user-defined front end that rounds to three levels. Registered with the bridge, it can be attacked white box.
class Rounding(TransformerMixin, BaseEstimator):
    """Pixels 0, 1/2 or 1."""

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.round(2 * np.asarray(X)) / 2


class RoundingModule(torch.nn.Module):
    """The same in torch; "identity" takes the derivative of rounding for that of doing nothing."""

    def __init__(self, gradient):
        super().__init__()
        self.gradient = gradient

    def forward(self, X):
        rounded = torch.round(2 * X) / 2
        return rounded if self.gradient == "exact" else X + (rounded - X).detach()


@register_module(Rounding)
def rounding_module(estimator, conversion):
    return RoundingModule(conversion.gradient)


plain = LogisticRegression(C=0.1, max_iter=300).fit(X_train, y_train)
rounded = make_pipeline(Rounding(), LogisticRegression(C=0.1, max_iter=300)).fit(X_train, y_train)

# %%
# A misleading evaluation: many steps along the exact gradient, which is zero. The verdicts are below the table.
flattering = robustness_report(
    {"rounded": rounded},
    X_test,
    y_test,
    eps=[0.05, 0.1, 0.15],
    attacks=PGD(gradient="exact", random_start=False),
    baseline={"plain": plain},
)
print(flattering)

# %%
# The default attacks are not stopped by the rounding. Gradients are still zero, but the accuracy is now realistic.
report = robustness_report(
    {"rounded": rounded}, X_test, y_test, eps=[0.05, 0.1, 0.15], baseline={"plain": plain}, n_examples=6
)
print(*report.conclusions(), *report.warnings(), sep="\n")
flattering.plot().set_title("PGD with exact gradients", loc="left")
report.plot().set_title("default attacks", loc="left")

# %%
# Attacked images, and confusion matrices.
PerturbationGalleryDisplay.from_report(report)
ConfusionUnderAttackDisplay.from_report(report, model="rounded", eps=0.15)

# %%
# Every result has a row with its threat model and settings.
report.to_frame().head(8)

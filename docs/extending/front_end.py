"""A front end of one's own in NumPy: attacks go through it with the identity as its gradient."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skrobust.attacks import PGD
from skrobust.bridge import register_array_front_end


@register_array_front_end
class Levels(TransformerMixin, BaseEstimator):
    """Round pixels to `n_levels` levels."""

    def __init__(self, n_levels=5):
        self.n_levels = n_levels

    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.round((self.n_levels - 1) * X) / (self.n_levels - 1)


X, y = load_digits(return_X_y=True)
X = X / 16
model = make_pipeline(Levels(), LogisticRegression(max_iter=500)).fit(X[:1000], y[:1000])
attacked = PGD(eps=0.1, gradient="identity", random_state=0).perturb(model, X[1000:1100], y[1000:1100])
assert model.score(attacked, y[1000:1100]) < 0.9 * model.score(X[1000:1100], y[1000:1100])

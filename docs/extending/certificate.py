"""A certificate of one's own: a front end that averages neighbouring pixels, before a linear classifier."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skrobust.certificates import Proof, certify, other_classes, register_certificate


class Average(FunctionTransformer):
    """Each pixel and its neighbour, averaged."""

    def transform(self, X):
        return (X + np.roll(X, 1, axis=1)) / 2


class AverageProof(Proof):
    """Averages of perturbations within eps lie within eps, so that the linear worst case bounds the harm."""

    method = "average of two pixels, then a linear worst case (sound)"

    def holds(self, eps, index):
        x, others = self.values[index], self.others[index]
        reach = np.broadcast_to(eps[:, None], x.shape)
        return (others.margins(x, reach, reach) > 1e-9).all(axis=1)


@register_certificate(Average)
def prove(front, name, head, X, y, norm, clip):
    return AverageProof(front.transform(np.asarray(X)), other_classes(head, y), norm, clip)


X, y = load_digits(return_X_y=True)
X = X / 16
model = make_pipeline(Average(), LogisticRegression(max_iter=1000)).fit(X[:1000], y[:1000])
certificate = certify(model, X[1000:], y[1000:], 0.02)
assert 0 < certificate.certified_accuracy < certificate.accuracy

"""The exact certificate of a linear classifier on the images themselves."""

import numpy as np
from sklearn.utils.validation import check_array

from skrobust.estimators.polar.atoms import DUAL_ORDERS
from skrobust.kernels.rounding import gamma

from .margins import other_classes
from .proofs import Proof


class LinearProof(Proof):
    """Margin against eps times the dual norm of the difference of weights; for linf limited by `clip`."""

    method = "linear: margin against eps times the dual norm of the weights"

    @property
    def is_exact(self):
        return self.norm == "linf" or self.clip is None

    def holds(self, eps, index):
        x = self.values[index].astype(np.float64)
        others, radius = self.others[index], eps[:, None]
        if self.norm == "linf":
            fall = rise = np.broadcast_to(radius, x.shape)
            if self.clip is not None:
                fall, rise = np.minimum(radius, x - self.clip[0]), np.minimum(radius, self.clip[1] - x)
            margins = others.margins(x, fall, rise)
        else:
            margins = others.margins(x)
            for _, members, weights, _ in others.groups():
                dual = np.linalg.norm(weights, ord=DUAL_ORDERS[self.norm], axis=1)
                dual = dual * (1 + gamma(x.shape[1] + 4, np.float64))
                margins[members] -= eps[members, None] * dual
        size = np.abs(x) + radius
        return (margins > 2 * others.errors(size, self.values.dtype)).all(axis=1)


def prove_linear(head, X, y, norm, clip):
    """The proof of a linear classifier on the images themselves."""
    values = check_array(X, dtype=(np.float64, np.float32), input_name="X")
    return LinearProof(values, other_classes(head, y), norm, clip)

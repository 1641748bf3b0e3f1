"""Base class of certificates: proofs for given radii, and the largest such radius; that of linear classifiers."""

import abc

import numpy as np
from sklearn.utils.validation import check_array

from skrobust.estimators.polar.atoms import DUAL_ORDERS
from skrobust.kernels.rounding import gamma
from skrobust.signals.tensors import to_numpy

from .margins import other_classes

_LARGEST_RADIUS = 16.0
"""Upper limit of the search for radii if images have no bounds, in l-infinity."""

_N_BISECTIONS = 24


class Proof(abc.ABC):
    """A proof that no image of a ball changes its class.

    Parameters
    ----------
    values : ndarray of shape (n_samples, ...)
        Images, in the dtype in which the model computes.
    others : OtherClasses
    norm : {"linf", "l2", "l1"}
    clip : tuple of float or None
    """

    method = ""
    is_exact = False

    def __init__(self, values, others, norm, clip):
        self.values, self.others, self.norm, self.clip = values, others, norm, clip

    @abc.abstractmethod
    def holds(self, eps, index):
        """Whether the balls of radii `eps` around the images `index` are proved to keep their class."""

    def radii(self):
        """Largest certified radius of each image; zero if not even the image itself is certified.

        Infinite if no image within `clip` changes the class.
        """
        n = len(self.values)
        everything = np.arange(n)
        # The diameter of the box: a ball of that radius contains the box.
        scale = _LARGEST_RADIUS if self.clip is None else float(self.clip[1] - self.clip[0])
        scale *= self.values[0].size ** {"linf": 0, "l2": 0.5, "l1": 1}[self.norm] * (1 + 1e-9)
        low, high = np.zeros(n), np.full(n, scale)
        beyond = self.holds(high, everything)
        low[beyond] = scale if self.clip is None else np.inf
        pending = np.flatnonzero(~beyond & self.holds(np.zeros(n), everything))
        low_pending, high_pending = np.zeros(len(pending)), high[pending]
        for _ in range(_N_BISECTIONS):
            if not len(pending):
                break
            middle = (low_pending + high_pending) / 2
            proved = self.holds(middle, pending)
            low_pending, high_pending = np.where(proved, middle, low_pending), np.where(proved, high_pending, middle)
        low[pending] = low_pending
        return low


def array_images(front, X):
    """Images as an array of shape ``(n_samples, *grid, n_channels)``, in the layout of an estimator."""
    return to_numpy(front._read_signals(X, reset=False).values)


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

"""The l1 norm, optionally weighted, and for codes of either sign or >= 0."""

import numpy as np

from skrobust.signals import is_tensor
from skrobust.signals.arrays import last_axis_largest, like, sample_largest, sample_sums

from .base import Penalty


class L1(Penalty):
    """``sum_i w_i |z_i|``.

    Parameters
    ----------
    weights : array-like or Tensor or None, default=None
        Relative penalties, > 0, that broadcast to codes: of shape (n_components,) for one per atom, or of the shape of
        a code for one per position and atom. None: 1.
    positive : bool, default=False
        Whether codes are >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import L1
    >>> L1(weights=[1.0, 4.0]).value(np.array([[-1.0, 2.0]]))
    array([9.])
    >>> L1(positive=True).prox(np.array([[3.0, -3.0]]), 1.0)
    array([[2., 0.]])
    """

    is_norm = True

    def __init__(self, weights=None, positive=False):
        self.weights = weights
        self.positive = positive

    def value(self, codes):
        """Weighted sum of magnitudes."""
        return sample_sums(self._weighted(abs(codes), codes))

    def prox(self, values, step):
        """Soft thresholding; with `positive`, followed by the positive part."""
        return shrink(values, self._weighted(step, values), self.positive)

    def dual_norm(self, correlations):
        """Largest magnitude (with `positive`, value) relative to its weight."""
        return sample_largest(self._relative(correlations)).clip(0)

    def local_dual_norm(self, correlations):
        """Largest over the atoms at each position."""
        return last_axis_largest(self._relative(correlations))

    def gradient(self, codes):
        """``w sign(z)``."""
        signs = codes.sign() if is_tensor(codes) else np.sign(codes)
        return self._weighted(signs, codes)

    def _weighted(self, values, codes):
        return values if self.weights is None else values * like(self.weights, codes)

    def _relative(self, correlations):
        values = correlations if self.positive else abs(correlations)
        return values if self.weights is None else values / like(self.weights, correlations)


def is_plain_l1(penalty):
    """Whether a penalty is the l1 norm without weights, which compiled kernels and fused steps compute."""
    return type(penalty) is L1 and penalty.weights is None


def shrink(values, thresholds, positive):
    """Soft thresholding; with `positive`, followed by the positive part."""
    if positive:
        return (values - thresholds).clip(0)
    return values - values.clip(-thresholds, thresholds)

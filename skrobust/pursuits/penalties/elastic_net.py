"""The elastic net: l1 norm and squared l2 norm."""

from numbers import Real

from skrobust.signals.arrays import by_sample, sample_sums

from .base import Penalty
from .l1 import L1, shrink


class ElasticNet(Penalty):
    """``l1_ratio ||z||_1 + (1 - l1_ratio) / 2 ||z||_2^2``.

    Correlated atoms get similar coefficients, where the l1 norm selects one of them; the minimiser is unique.

    Parameters
    ----------
    l1_ratio : float, default=0.5
        In (0, 1); 1 is `L1`.
    positive : bool, default=False
        Whether codes are >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ElasticNet
    >>> ElasticNet(0.5).prox(np.array([[3.5, -0.5]]), 1.0)
    array([[2., 0.]])
    """

    def __init__(self, l1_ratio=0.5, positive=False):
        self.l1_ratio = l1_ratio
        self.positive = positive

    @property
    def _l1(self):
        if not (isinstance(self.l1_ratio, Real) and 0 < self.l1_ratio < 1):
            raise ValueError(f"l1_ratio must lie in (0, 1), got {self.l1_ratio!r}; for 1 use L1().")
        return L1(positive=self.positive)

    def value(self, codes):
        """Sum of both terms."""
        return self.l1_ratio * self._l1.value(codes) + (1 - self.l1_ratio) / 2 * sample_sums(codes * codes)

    def prox(self, values, step):
        """Soft thresholding, then scaling."""
        return self._l1.prox(values, step * self.l1_ratio) / (1 + step * (1 - self.l1_ratio))

    def conjugate(self, correlations, alpha):
        """``||S(c, alpha l1_ratio)||^2 / (2 alpha (1 - l1_ratio))`` with soft thresholding S."""
        shrunk = shrink(correlations, by_sample(alpha, correlations) * self.l1_ratio, self.positive)
        squares = sample_sums(shrunk * shrunk)
        return squares / (2 * (1 - self.l1_ratio) * by_sample(alpha, squares))

    def alpha_max(self, correlations):
        """The `alpha_max` of the l1 term."""
        return self._l1.dual_norm(correlations) / self.l1_ratio

    def gradient(self, codes):
        """``l1_ratio sign(z) + (1 - l1_ratio) z``."""
        return self.l1_ratio * self._l1.gradient(codes) + (1 - self.l1_ratio) * codes

    def hessian_product(self, codes, direction):
        """``(1 - l1_ratio)`` times the direction on the support."""
        return (1 - self.l1_ratio) * direction * (codes != 0)

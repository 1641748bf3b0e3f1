"""A penalty of one's own: l1 with a smooth corner at 0 (Huber), in any convolutional pursuit."""

import numpy as np

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import Penalty, convolutional_basis_pursuit


class Huber(Penalty):
    """Quadratic up to `width`, linear beyond."""

    def __init__(self, width=0.1):
        self.width = width

    def value(self, codes):
        size = abs(codes)
        small = size <= self.width
        values = small * codes * codes / (2 * self.width) + ~small * (size - self.width / 2)
        return values.reshape(len(codes), -1).sum(1)

    def prox(self, values, step):
        inner = values / (1 + step / self.width)
        outer = values - values.clip(-step, step)
        return np.where(abs(inner) <= self.width, inner, outer)


rng = np.random.default_rng(0)
operator = ConvolutionalOperator(rng.normal(size=(4, 3, 3, 1)), (8, 8, 1))
X = rng.normal(size=(2, 8, 8, 1))
result = convolutional_basis_pursuit(X, operator, 0.5, penalty=Huber(), tol=1e-8, max_iter=5000)
slopes = operator.analyze(X - operator.synthesize(result.codes))
assert result.converged.all()  # no dual is known, so the solver stops by the size of its steps
assert abs(Huber().prox(result.codes + slopes, 0.5) - result.codes).max() < 1e-4

"""An operator of one's own: a dictionary of cumulative sums, solved by the library's FISTA."""

import numpy as np

from skrobust.operators import Operator
from skrobust.pursuits import L1, Problem, fista


class CumulativeSum(Operator):
    """Signals as cumulative sums of their code: sparse codes make piecewise constant signals."""

    def __init__(self, length):
        self.length = length

    @property
    def signal_shape(self):
        return (self.length,)

    code_shape = signal_shape

    @property
    def lipschitz(self):
        return self.length * (self.length + 1) / 2  # squared Frobenius norm, an upper bound

    def synthesize(self, codes, *, n_jobs=None):
        return codes.cumsum(1)

    def analyze(self, X, *, n_jobs=None):
        return X[:, ::-1].cumsum(1)[:, ::-1]


operator = CumulativeSum(40)
jumps = np.zeros((1, 40))
jumps[0, [5, 20, 30]] = [2.0, -3.0, 1.5]
X = operator.synthesize(jumps) + 0.05 * np.random.default_rng(0).normal(size=(1, 40))
result = fista(Problem(X, operator, 0.5, L1()), np.zeros((1, 40)), tol=1e-4, max_iter=20_000)
assert result.converged.all()
assert {5, 20, 30} <= set(np.flatnonzero(abs(result.codes[0]) > 0.5))

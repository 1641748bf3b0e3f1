"""The product of two operators."""

from .base import Operator


class ComposedOperator(Operator):
    """``outer @ inner``: the codes of `outer` are the signals of `inner`.

    Parameters
    ----------
    outer, inner : Operator

    Raises
    ------
    ValueError
        If their shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import DenseOperator
    >>> outer, inner = DenseOperator(np.eye(3)[:2]), DenseOperator([[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]])
    >>> (outer @ inner).synthesize(np.array([[0.0, 1.0, 1.0]]))
    array([[2., 1., 0.]])
    """

    def __init__(self, outer, inner):
        if tuple(outer.code_shape) != tuple(inner.signal_shape):
            raise ValueError(
                f"The outer operator has codes of shape {tuple(outer.code_shape)}, but the inner one makes signals of "
                f"shape {tuple(inner.signal_shape)}."
            )
        self.outer, self.inner = outer, inner

    @property
    def signal_shape(self):
        """Shape of one signal of the outer operator."""
        return tuple(self.outer.signal_shape)

    @property
    def code_shape(self):
        """Shape of one code of the inner operator."""
        return tuple(self.inner.code_shape)

    @property
    def lipschitz(self):
        """Product of both bounds."""
        return self.outer.lipschitz * self.inner.lipschitz

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of codes."""
        return self.outer.synthesize(self.inner.synthesize(codes, n_jobs=n_jobs), n_jobs=n_jobs)

    def analyze(self, X, *, n_jobs=None):
        """The adjoint of `synthesize`."""
        return self.inner.analyze(self.outer.analyze(X, n_jobs=n_jobs), n_jobs=n_jobs)

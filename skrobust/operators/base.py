"""Base class of the operators, and their composition."""

import abc
import math

import numpy as np


class Operator(abc.ABC):
    """A linear map from codes to signals, and its adjoint: the interface that solvers use.

    A subclass defines the abstract members; `tests/test_operators.py` then checks adjoint, norm and shapes. Arrays
    and tensors both work, and the result is of the kind and dtype of the input.

    Attributes
    ----------
    components : ndarray or Tensor
        The dictionary.
    signal_shape, code_shape : tuple of int
        Shapes of one signal and of one code.
    lipschitz : float
        Squared norm of `synthesize`, or an upper bound on it: the inverse is a safe step of proximal gradient.
    """

    components = None

    @property
    @abc.abstractmethod
    def signal_shape(self):
        """Shape of one signal."""

    @property
    @abc.abstractmethod
    def code_shape(self):
        """Shape of one code."""

    @property
    @abc.abstractmethod
    def lipschitz(self):
        """Squared norm of `synthesize`, or an upper bound on it."""

    @property
    def step(self):
        """``1 / lipschitz``, the longest safe step of proximal gradient; 1 for a dictionary of zeros."""
        return safe_step(self.lipschitz)

    @abc.abstractmethod
    def synthesize(self, codes, *, n_jobs=None):
        """Signals of codes, ``(n_samples, *code_shape)`` to ``(n_samples, *signal_shape)``."""

    @abc.abstractmethod
    def analyze(self, X, *, n_jobs=None):
        """The adjoint of `synthesize`, ``(n_samples, *signal_shape)`` to ``(n_samples, *code_shape)``."""

    def with_components(self, components):
        """The same operator with another dictionary of the same shape.

        Parameters
        ----------
        components : array-like or Tensor
            A tensor may require a gradient.

        Returns
        -------
        Operator
        """
        raise TypeError(f"{type(self).__name__} has no components that could be replaced.")

    def to_dense(self):
        """The matrix of `synthesize`.

        Returns
        -------
        ndarray of shape (signal size, code size)
        """
        identity = np.eye(math.prod(self.code_shape)).reshape(-1, *self.code_shape)
        return self.synthesize(identity).reshape(len(identity), -1).T

    def __matmul__(self, inner):
        """``outer @ inner``: synthesize by `inner` first, then by `outer`."""
        return ComposedOperator(self, inner)

    def _check_shape(self, values, shape, name):
        if tuple(values.shape[1:]) != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"{name} must have shape (n_samples, {expected}), got {tuple(values.shape)}.")


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
                f"The outer operator has codes of shape {tuple(outer.code_shape)}, but the inner one has signals of "
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


def safe_step(lipschitz):
    """``1 / lipschitz``, or 1 where that is infinite: codes of a dictionary of zeros stay 0 at any step."""
    return float(1 / lipschitz) if lipschitz > 1 / np.finfo(np.float64).max else 1.0

"""What every operator offers, whatever its dictionary."""

import abc
import math

import numpy as np


class Operator(abc.ABC):
    """A linear map from codes to signals, and its adjoint: the protocol that solvers are written against.

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
        from .composed import ComposedOperator

        return ComposedOperator(self, inner)

    def _check_shape(self, values, shape, name):
        if tuple(values.shape[1:]) != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"{name} must have shape (n_samples, {expected}), got {tuple(values.shape)}.")


def safe_step(lipschitz):
    """``1 / lipschitz``, or 1 where that is infinite: codes of a dictionary of zeros stay 0 at any step."""
    return float(1 / lipschitz) if lipschitz > 1 / np.finfo(np.float64).max else 1.0

"""A dictionary given as a matrix."""

import math

import numpy as np
from sklearn.utils import check_array

from skrobust.signals import is_tensor

from .base import Operator
from .conv.largest_eigenvalue import of_matrix, of_products
from .conv.norm import MOST_ROWS, TOL

N_STEPS = 50
"""Maximum number of Lanczos steps for the norm of a large matrix."""


class DenseOperator(Operator):
    """Signals as combinations of the rows of a matrix, ``x = sum_k z_k d_k``.

    Parameters
    ----------
    components : array-like or Tensor of shape (n_components, n_features)
        Atoms, of any norm.

    Raises
    ------
    ValueError
        If components are not a finite matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import DenseOperator
    >>> operator = DenseOperator([[1.0, 0.0], [0.6, 0.8]])
    >>> operator.synthesize(np.array([[1.0, 5.0]]))
    array([[4., 4.]])
    >>> operator.analyze(np.array([[4.0, 4.0]]))
    array([[4. , 5.6]])
    """

    def __init__(self, components):
        if not is_tensor(components):
            components = check_array(components, dtype=[np.float64, np.float32], input_name="components")
        elif components.ndim != 2:
            raise ValueError(f"components must have two dimensions, got shape {tuple(components.shape)}.")
        self.components = components
        self._lipschitz = None

    @property
    def signal_shape(self):
        """``(n_features,)``."""
        return (int(self.components.shape[1]),)

    @property
    def code_shape(self):
        """``(n_components,)``."""
        return (int(self.components.shape[0]),)

    @property
    def lipschitz(self):
        """Largest squared singular value of the components, at most 0.1 % too large.

        Above 1200 atoms and features it is a bound by Lanczos steps, about 1 % too large, which fails with probability
        at most 1e-12.
        """
        if self._lipschitz is None:
            matrix = self.components.detach().cpu().numpy() if is_tensor(self.components) else self.components
            self._lipschitz = _squared_norm(matrix.astype(np.float64))
        return self._lipschitz

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of codes of shape (n_samples, n_components); BLAS sets the threads."""
        self._check_shape(codes, self.code_shape, "codes")
        return codes @ self._like(codes)

    def analyze(self, X, *, n_jobs=None):
        """Inner products of signals of shape (n_samples, n_features) with all atoms."""
        self._check_shape(X, self.signal_shape, "X")
        return X @ self._like(X).T

    def with_components(self, components):
        """The operator of another matrix."""
        return DenseOperator(components)

    def _like(self, values):
        if is_tensor(values):
            import torch

            return torch.as_tensor(self.components).to(values)
        matrix = self.components.detach().cpu().numpy() if is_tensor(self.components) else self.components
        return matrix.astype(np.result_type(values.dtype, np.float32), copy=False)


def _squared_norm(matrix):
    largest = float(np.abs(matrix).max())
    if largest == 0:
        return 0.0
    scale = 2.0 ** math.frexp(largest)[1]  # squares of squares do not overflow
    scaled = matrix / scale if matrix.shape[0] <= matrix.shape[1] else matrix.T / scale
    if len(scaled) <= MOST_ROWS:
        squared_norm = of_matrix(scaled @ scaled.T) * (1 + 1e-12)
    else:
        squared_norm = of_products(lambda v: (v @ scaled) @ scaled.T, (len(scaled),), n_steps=N_STEPS, tol=TOL)
    return squared_norm * scale * scale

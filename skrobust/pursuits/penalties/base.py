"""Base class of the penalties: the methods that solvers need."""

import abc

from sklearn.base import BaseEstimator


class Penalty(BaseEstimator, metaclass=abc.ABCMeta):
    """A convex function g of codes; solvers minimise ``1/2 ||x - D z||^2 + alpha g(z)``.

    A subclass defines `value` and `prox`. With `dual_norm` (a norm, its dual) or `conjugate` (any other function)
    solvers stop at a duality gap; without either they stop when a proximal step hardly changes the codes, and the
    gap of the result is NaN. Codes are arrays or tensors of shape ``(n_samples, ..., n_components)``; the operations
    that both have in common (``abs``, ``clip``, ``reshape``, ``sum``) are enough for most penalties. The
    parameters of a penalty are those of its constructor, as in every scikit-learn estimator, so that a grid search
    can set ``penalty__l1_ratio``.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import L1
    >>> L1().prox(np.array([[3.0, -0.5]]), 1.0)
    array([[2., 0.]])
    """

    is_norm = False
    """Whether ``g(t z) = t g(z)`` for t >= 0: then codes of ``t x`` at ``t alpha`` are t times those of x at alpha, and
    solvers compute in units of the data."""

    @abc.abstractmethod
    def value(self, codes):
        """Value of g for each sample.

        Returns
        -------
        ndarray or Tensor of shape (n_samples,)
            In double precision.
        """

    @abc.abstractmethod
    def prox(self, values, step):
        """``argmin_u 1/2 ||u - values||^2 + step g(u)``.

        Parameters
        ----------
        values : ndarray or Tensor
        step : float, ndarray or Tensor that broadcasts over values
        """

    def dual_norm(self, correlations):
        """For a norm g: the smallest t of each sample for which ``<c, z> <= t g(z)`` for all z.

        Returns
        -------
        ndarray or Tensor of shape (n_samples,), or None
            None if not known.
        """
        return None

    def conjugate(self, correlations, alpha):
        """For a g that is not a norm: the conjugate of ``alpha g`` at correlations, in double precision; or None."""
        return None

    def local_dual_norm(self, correlations):
        """As `dual_norm`, at each position, or None: makes the gap of convolutional problems smaller.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *positions)`` or None
        """
        return None

    def alpha_max(self, correlations):
        """Smallest alpha at which the code is zero, given the correlations of the signals with the atoms."""
        top = self.dual_norm(correlations)
        if top is None:
            raise NotImplementedError(f"{type(self).__name__} defines neither dual_norm nor alpha_max.")
        return top

    def support(self, codes):
        """Boolean mask of the nonzero coefficients."""
        return codes != 0

    def gradient(self, codes):
        """Gradient of g on the support, 0 elsewhere: needed for implicit derivatives."""
        raise NotImplementedError(f"{type(self).__name__} defines no gradient: use unrolled iterations.")

    def hessian_product(self, codes, direction):
        """Product of the Hessian of g on the support with a direction; 0 for penalties that are linear there."""
        return 0 * direction

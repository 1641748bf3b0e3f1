"""The group l1 norm: the coefficients of a group of atoms are nonzero together, or all zero."""

import numpy as np

from skrobust.signals import is_tensor
from skrobust.signals.arrays import last_axis_largest, like, sample_largest, sample_sums

from .base import Penalty


class GroupL1(Penalty):
    """``sum_p sum_g w_g ||z_{p, g}||_2`` over positions p and groups g of atoms.

    Parameters
    ----------
    groups : array-like of int of shape (n_components,) or None, default=None
        Group of each atom; None: all atoms at a position are one group. For channels with a shared
        support, give each channel its own copy of each atom, and all copies of an atom the same group. With
        ``over="layers"``: the groups of the atoms of all layers, one layer after the other.
    weights : array-like of shape (n_groups,) or None, default=None
        Weights > 0 of the groups, in the order of their numbers; None: the square root of the size of each group, so
        that large groups are not favoured.
    positive : bool, default=False
        Whether codes are >= 0.
    over : {"atoms", "layers"}, default="atoms"
        "layers": groups contain atoms of all layers at a position, so that layers share supports. For `deep_pursuit`,
        which codes all layers together, and for layers with the same grid of positions.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import GroupL1
    >>> penalty = GroupL1([0, 0, 1], weights=[1.0, 1.0])
    >>> penalty.prox(np.array([[3.0, 4.0, 0.5]]), 1.0)
    array([[2.4, 3.2, 0. ]])
    """

    is_norm = True

    def __init__(self, groups=None, weights=None, positive=False, over="atoms"):
        self.groups = groups
        self.weights = weights
        self.positive = positive
        self.over = over

    def value(self, codes):
        """Weighted sum of the groups' norms."""
        return sample_sums(self._norms(codes) * self._weights(codes))

    def prox(self, values, step):
        """Shrinks the norm of each group and keeps its direction; with `positive`, after taking the positive part."""
        values = self._positive_part(values)
        norms = self._norms(values)
        tiny = np.finfo(np.float32).tiny
        return values * self._spread((1 - step * self._weights(values) / norms.clip(tiny)).clip(0), values)

    def dual_norm(self, correlations):
        """Largest norm of a group relative to its weight."""
        return sample_largest(self.local_dual_norm(correlations))

    def local_dual_norm(self, correlations):
        """Largest over the groups at each position."""
        return last_axis_largest(self._norms(self._positive_part(correlations)) / self._weights(correlations))

    def gradient(self, codes):
        """``w_g z / ||z_g||``."""
        return codes * self._spread(self._inverse_norms(codes) * self._weights(codes), codes)

    def hessian_product(self, codes, direction):
        """``w_g (v - z <z, v> / ||z_g||^2) / ||z_g||`` on the nonzero groups."""
        inverse = self._inverse_norms(codes)
        projection = self._spread(self._sums(codes * direction) * inverse * inverse, codes)
        return (direction - codes * projection) * self._spread(inverse * self._weights(codes), codes)

    def _positive_part(self, values):
        return values.clip(0) if self.positive else values

    def _members(self, codes):
        """1 where an atom (row) belongs to a group (column), and the column of each atom."""
        n_components = codes.shape[-1]
        groups = np.zeros(n_components, dtype=int) if self.groups is None else np.asarray(self.groups)
        if groups.shape != (n_components,) or not np.issubdtype(groups.dtype, np.integer):
            raise ValueError(f"groups must be {n_components} integers, one for each atom, got {self.groups!r}.")
        names, columns = np.unique(groups, return_inverse=True)
        return like(groups[:, None] == names, codes), columns

    def _weights(self, codes):
        members, _ = self._members(codes)
        if self.weights is None:
            return members.sum(0) ** 0.5
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.shape != (members.shape[1],) or not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError(
                f"weights must be {members.shape[1]} numbers > 0, one for each group, got {self.weights!r}."
            )
        return like(weights, codes)

    def _sums(self, values):
        return values @ self._members(values)[0]

    def _norms(self, values):
        squares = self._sums(values * values)
        if is_tensor(values):  # the square root has no derivative at 0
            return squares.where(squares > 0, squares.new_ones(())) ** 0.5 * (squares > 0)
        return squares**0.5

    def _inverse_norms(self, codes):
        norms = self._norms(codes)
        return (norms > 0) / (norms + (norms == 0))

    def _spread(self, group_values, codes):
        """The value of its group for each atom."""
        return group_values[..., self._members(codes)[1]]

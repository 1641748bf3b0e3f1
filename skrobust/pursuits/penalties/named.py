"""Penalties by name."""

from .base import Penalty
from .elastic_net import ElasticNet
from .group import GroupL1
from .l1 import L1

PENALTIES = {"l1": L1, "elastic_net": ElasticNet, "group_l1": GroupL1}
"""Class of each name."""


def resolve_penalty(penalty="l1", *, positive=False, weights=None):
    """The penalty for a name, with shorthands for l1, or for an object.

    Parameters
    ----------
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
    positive : bool, default=False
        Codes >= 0.
    weights : array-like or None, default=None
        Relative penalties of the atoms, for "l1".

    Returns
    -------
    Penalty

    Raises
    ------
    ValueError
        If the name is unknown, or a shorthand does not belong to the penalty.

    Examples
    --------
    >>> from skrobust.pursuits.penalties import resolve_penalty
    >>> resolve_penalty("elastic_net", positive=True).positive
    True
    """
    if isinstance(penalty, Penalty):
        if weights is not None:
            raise ValueError("weights belong to penalty='l1'; give them to the penalty object instead.")
        if positive and not getattr(penalty, "positive", False):
            raise ValueError(
                f"positive=True does not go with {penalty!r}: give the penalty object positive=True, if it has it."
            )
        return penalty
    if penalty == "l1":
        return L1(weights, positive)
    if penalty not in PENALTIES:
        raise ValueError(f"penalty must be one of {sorted(PENALTIES)} or a Penalty, got {penalty!r}.")
    if weights is not None:
        raise ValueError(f"weights belong to penalty='l1', not to {penalty!r}.")
    return PENALTIES[penalty](positive=positive)

"""Penalties of pursuits, one per file, with the methods that solvers need."""

from .base import Penalty
from .elastic_net import ElasticNet
from .group import GroupL1
from .l1 import L1
from .named import PENALTIES, resolve_penalty

__all__ = ["L1", "PENALTIES", "ElasticNet", "GroupL1", "Penalty", "resolve_penalty"]

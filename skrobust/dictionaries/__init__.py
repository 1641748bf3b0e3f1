"""Dictionaries learned from data."""

from ._ksvd import KSVD

__all__ = ["KSVD"]

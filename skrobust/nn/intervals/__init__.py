"""Interval bounds through torch networks: propagation, one rule a kind of layer, and margins of the scores."""

from . import layers  # noqa: F401 (importing it registers its rules)
from .margins import certified_margins, margin_bounds
from .propagation import NoBoundsError, Spread, propagate, register_interval

__all__ = ["NoBoundsError", "Spread", "certified_margins", "margin_bounds", "propagate", "register_interval"]

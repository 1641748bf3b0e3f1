"""Robust accuracy, told honestly: scorers, reports, displays, corruptions."""

from ._corruptions import CORRUPTIONS, Corruption, corrupt
from ._intervals import paired_difference_interval, wilson_interval
from ._scoring import RobustScorer, TradeOff, make_robust_scorer, robust_accuracy

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "RobustScorer",
    "TradeOff",
    "corrupt",
    "make_robust_scorer",
    "paired_difference_interval",
    "robust_accuracy",
    "wilson_interval",
]

"""Robust accuracy, told honestly: scorers, reports, displays, corruptions."""

from ._ambiguity_display import AmbiguityDisplay
from ._certified import make_certified_scorer
from ._confusion_display import ConfusionUnderAttackDisplay
from ._corruptions import CORRUPTIONS, Corruption, corrupt, corruptions_for
from ._curve_display import RobustnessCurveDisplay
from ._gallery_display import PerturbationGalleryDisplay
from ._intervals import paired_difference_interval, wilson_interval
from ._layered_displays import CoherenceDisplay, PursuitTraceDisplay
from ._report import RobustnessReport
from ._reporting import robustness_report
from ._scoring import RobustScorer, TradeOff, make_robust_scorer, robust_accuracy
from .masking import Verdict, masking_checks

__all__ = [
    "AmbiguityDisplay",
    "CORRUPTIONS",
    "CoherenceDisplay",
    "ConfusionUnderAttackDisplay",
    "Corruption",
    "PerturbationGalleryDisplay",
    "PursuitTraceDisplay",
    "RobustScorer",
    "RobustnessCurveDisplay",
    "RobustnessReport",
    "TradeOff",
    "Verdict",
    "corrupt",
    "corruptions_for",
    "make_certified_scorer",
    "make_robust_scorer",
    "masking_checks",
    "paired_difference_interval",
    "robust_accuracy",
    "robustness_report",
    "wilson_interval",
]

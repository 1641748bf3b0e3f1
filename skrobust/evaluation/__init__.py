"""Evaluation of robust accuracy: scorers, reports, masking checks, corruptions."""

from skrobust.evaluation.corruptions.apply import CORRUPTIONS, Corruption, corrupt, corruption_levels, corruptions_for
from skrobust.evaluation.report.report import RobustnessReport
from skrobust.evaluation.report.run import robustness_report
from skrobust.evaluation.scoring.certified import make_certified_scorer
from skrobust.evaluation.scoring.intervals import paired_difference_interval, wilson_interval
from skrobust.evaluation.scoring.robust import RobustScorer, TradeOff, make_robust_scorer, robust_accuracy

from .masking import Verdict, masking_checks

__all__ = [
    "CORRUPTIONS",
    "Corruption",
    "RobustScorer",
    "RobustnessReport",
    "TradeOff",
    "Verdict",
    "corrupt",
    "corruption_levels",
    "corruptions_for",
    "make_certified_scorer",
    "make_robust_scorer",
    "masking_checks",
    "paired_difference_interval",
    "robust_accuracy",
    "robustness_report",
    "wilson_interval",
]

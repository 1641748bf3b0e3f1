"""Checks for gradient masking and for attacks that are too weak."""

from .attack_checks import (
    check_black_box,
    check_identity,
    check_one_step,
    check_restarts,
    check_transfer,
    check_unbounded,
)
from .gradient_checks import check_gradients, check_loss, check_randomness
from .probe import Probe
from .run import CHECKS, masking_checks
from .verdict import Verdict

__all__ = [
    "CHECKS",
    "Probe",
    "Verdict",
    "check_black_box",
    "check_gradients",
    "check_identity",
    "check_loss",
    "check_one_step",
    "check_randomness",
    "check_restarts",
    "check_transfer",
    "check_unbounded",
    "masking_checks",
]

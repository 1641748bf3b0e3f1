"""Attacks on any fitted classifier or Pipeline, one a file; they know models only through the bridge."""

from ._apgd import APGD
from ._base import Attack, GradientAttack
from ._black_box import BlackBoxAttack
from ._cascade import Cascade
from ._fab import FAB
from ._fgsm import FGSM
from ._front_end_attacks import SemiWhiteBox, WhiteBox
from ._locally_linear import IterativeLocallyLinear, LocallyLinear
from ._pgd import PGD, IterativeFGSM, MomentumIterativeFGSM
from ._random_noise import RandomNoise
from ._square import Square

__all__ = [
    "APGD",
    "FAB",
    "BlackBoxAttack",
    "Cascade",
    "FGSM",
    "PGD",
    "Attack",
    "GradientAttack",
    "IterativeFGSM",
    "IterativeLocallyLinear",
    "LocallyLinear",
    "MomentumIterativeFGSM",
    "RandomNoise",
    "SemiWhiteBox",
    "Square",
    "WhiteBox",
]

"""Attacks on any fitted classifier or Pipeline, one a file; they know models only through the bridge."""

from ._adapters import FromART, FromFoolbox, FromTorchattacks
from ._apgd import APGD
from ._base import Attack, GradientAttack
from ._black_box import BlackBoxAttack
from ._carlini_wagner import CarliniWagner
from ._cascade import Cascade
from ._corner_search import CornerSearch
from ._fab import FAB
from ._fgsm import FGSM
from ._front_end_attacks import SemiWhiteBox, WhiteBox
from ._hop_skip_jump import HopSkipJump
from ._jsma import JSMA
from ._locally_linear import IterativeLocallyLinear, LocallyLinear
from ._pgd import PGD, IterativeFGSM, MomentumIterativeFGSM
from ._random_noise import RandomNoise
from ._square import Square
from ._transfer import Transfer

__all__ = [
    "APGD",
    "FAB",
    "BlackBoxAttack",
    "CarliniWagner",
    "Cascade",
    "CornerSearch",
    "HopSkipJump",
    "FGSM",
    "JSMA",
    "PGD",
    "Attack",
    "FromART",
    "FromFoolbox",
    "FromTorchattacks",
    "GradientAttack",
    "IterativeFGSM",
    "IterativeLocallyLinear",
    "LocallyLinear",
    "MomentumIterativeFGSM",
    "RandomNoise",
    "SemiWhiteBox",
    "Square",
    "Transfer",
    "WhiteBox",
]

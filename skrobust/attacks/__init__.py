"""Attacks on any fitted classifier or Pipeline, one per file. They access models through the bridge only."""

from skrobust.attacks.black_box.corner_search import CornerSearch
from skrobust.attacks.black_box.hop_skip_jump import HopSkipJump
from skrobust.attacks.black_box.random_noise import RandomNoise
from skrobust.attacks.black_box.square import Square
from skrobust.attacks.black_box.transfer import Transfer
from skrobust.attacks.composite.adapters import FromART, FromFoolbox, FromTorchattacks
from skrobust.attacks.composite.cascade import Cascade
from skrobust.attacks.core.ball import Ball
from skrobust.attacks.core.base import Attack, BlackBoxAttack, GradientAttack
from skrobust.attacks.core.losses import Goal
from skrobust.attacks.core.models import GradientModel, ScoreModel
from skrobust.attacks.core.search import Search
from skrobust.attacks.gradient.apgd import APGD
from skrobust.attacks.gradient.carlini_wagner import CarliniWagner
from skrobust.attacks.gradient.ddn import DDN
from skrobust.attacks.gradient.fab import FAB
from skrobust.attacks.gradient.fgsm import FGSM
from skrobust.attacks.gradient.fmn import FMN
from skrobust.attacks.gradient.front_end import SemiWhiteBox, WhiteBox
from skrobust.attacks.gradient.jsma import JSMA
from skrobust.attacks.gradient.locally_linear import IterativeLocallyLinear, LocallyLinear
from skrobust.attacks.gradient.pdpgd import PDPGD
from skrobust.attacks.gradient.pgd import PGD, IterativeFGSM, MomentumIterativeFGSM
from skrobust.attacks.gradient.sigma_zero import SigmaZero

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FMN",
    "BlackBoxAttack",
    "CarliniWagner",
    "Cascade",
    "CornerSearch",
    "HopSkipJump",
    "FGSM",
    "JSMA",
    "PDPGD",
    "PGD",
    "Attack",
    "Ball",
    "FromART",
    "FromFoolbox",
    "FromTorchattacks",
    "Goal",
    "GradientAttack",
    "GradientModel",
    "IterativeFGSM",
    "IterativeLocallyLinear",
    "LocallyLinear",
    "MomentumIterativeFGSM",
    "RandomNoise",
    "ScoreModel",
    "Search",
    "SemiWhiteBox",
    "SigmaZero",
    "Square",
    "Transfer",
    "WhiteBox",
]

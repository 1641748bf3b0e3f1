"""Dictionaries learned from data."""

from ._conv_learning import ConvolutionalLearner, initial_convolutional_atoms
from ._conv_statistics import ConvolutionalStatistics
from ._display import DictionaryDisplay
from ._ksvd import KSVD
from ._measures import (
    babel_function,
    largest_patch_norm,
    mutual_coherence,
    restricted_isometry_bound,
    stripe_sparsity,
    welch_bound,
)
from ._mod import MOD
from ._online import OnlineDictionaryLearning

__all__ = [
    "KSVD",
    "MOD",
    "ConvolutionalLearner",
    "ConvolutionalStatistics",
    "DictionaryDisplay",
    "OnlineDictionaryLearning",
    "babel_function",
    "initial_convolutional_atoms",
    "largest_patch_norm",
    "mutual_coherence",
    "restricted_isometry_bound",
    "stripe_sparsity",
    "welch_bound",
]

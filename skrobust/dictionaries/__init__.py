"""Dictionaries learned from data."""

from ._code_display import CodeDisplay
from ._conv_learning import ConvolutionalLearner, initial_convolutional_atoms
from ._conv_statistics import ConvolutionalStatistics
from ._display import DictionaryDisplay
from ._ksvd import KSVD
from ._layered_measures import (
    FramePotentialEstimate,
    LayeredCoherence,
    estimate_frame_potential,
    layered_coherence,
)
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
from ._pursuit_trace import PursuitTrace, pursuit_trace, reconstruction_errors

__all__ = [
    "KSVD",
    "MOD",
    "CodeDisplay",
    "ConvolutionalLearner",
    "ConvolutionalStatistics",
    "DictionaryDisplay",
    "FramePotentialEstimate",
    "LayeredCoherence",
    "OnlineDictionaryLearning",
    "PursuitTrace",
    "babel_function",
    "estimate_frame_potential",
    "initial_convolutional_atoms",
    "largest_patch_norm",
    "layered_coherence",
    "mutual_coherence",
    "pursuit_trace",
    "reconstruction_errors",
    "restricted_isometry_bound",
    "stripe_sparsity",
    "welch_bound",
]

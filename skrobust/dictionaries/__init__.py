"""Dictionaries learned from data."""

from skrobust.dictionaries.conv.learner import ConvolutionalLearner, initial_convolutional_atoms
from skrobust.dictionaries.conv.statistics import ConvolutionalStatistics
from skrobust.dictionaries.measures.atoms import (
    babel_function,
    largest_patch_norm,
    mutual_coherence,
    restricted_isometry_bound,
    stripe_sparsity,
    welch_bound,
)
from skrobust.dictionaries.measures.layered import (
    FramePotentialEstimate,
    LayeredCoherence,
    estimate_frame_potential,
    layered_coherence,
)
from skrobust.dictionaries.measures.networks import NetworkCoherence, network_coherence
from skrobust.dictionaries.measures.trace import PursuitTrace, pursuit_trace, reconstruction_errors
from skrobust.dictionaries.patch.ksvd import KSVD
from skrobust.dictionaries.patch.mod import MOD
from skrobust.dictionaries.patch.online import OnlineDictionaryLearning

__all__ = [
    "KSVD",
    "MOD",
    "ConvolutionalLearner",
    "ConvolutionalStatistics",
    "FramePotentialEstimate",
    "LayeredCoherence",
    "NetworkCoherence",
    "OnlineDictionaryLearning",
    "PursuitTrace",
    "babel_function",
    "estimate_frame_potential",
    "initial_convolutional_atoms",
    "largest_patch_norm",
    "layered_coherence",
    "mutual_coherence",
    "network_coherence",
    "pursuit_trace",
    "reconstruction_errors",
    "restricted_isometry_bound",
    "stripe_sparsity",
    "welch_bound",
]

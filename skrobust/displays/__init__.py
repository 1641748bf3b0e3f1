"""Every Display, in one style."""

from .adaptive_sparsity import AdaptiveSparsityDisplay, SparsitySweepDisplay
from .ambiguity import AmbiguityDisplay
from .codes import CodeDisplay
from .confusion import ConfusionUnderAttackDisplay
from .curve import RobustnessCurveDisplay
from .dictionary import DictionaryDisplay
from .gallery import PerturbationGalleryDisplay
from .layered import CoherenceDisplay, PursuitTraceDisplay

__all__ = [
    "AdaptiveSparsityDisplay",
    "AmbiguityDisplay",
    "CodeDisplay",
    "CoherenceDisplay",
    "ConfusionUnderAttackDisplay",
    "DictionaryDisplay",
    "PerturbationGalleryDisplay",
    "PursuitTraceDisplay",
    "RobustnessCurveDisplay",
    "SparsitySweepDisplay",
]

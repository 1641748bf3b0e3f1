"""Every Display, in one style."""

from .activation import ActivationMapDisplay
from .adaptive_sparsity import AdaptiveSparsityDisplay, SparsitySweepDisplay
from .ambiguity import AmbiguityDisplay
from .certified import CertifiedAccuracyDisplay
from .codes import CodeDisplay
from .confusion import ConfusionUnderAttackDisplay
from .curve import RobustnessCurveDisplay
from .dictionary import DictionaryDisplay
from .gallery import PerturbationGalleryDisplay
from .layered import CoherenceDisplay, PursuitTraceDisplay

__all__ = [
    "ActivationMapDisplay",
    "AdaptiveSparsityDisplay",
    "AmbiguityDisplay",
    "CertifiedAccuracyDisplay",
    "CodeDisplay",
    "CoherenceDisplay",
    "ConfusionUnderAttackDisplay",
    "DictionaryDisplay",
    "PerturbationGalleryDisplay",
    "PursuitTraceDisplay",
    "RobustnessCurveDisplay",
    "SparsitySweepDisplay",
]

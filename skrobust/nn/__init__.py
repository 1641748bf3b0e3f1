"""Torch modules: layered pursuits with learnable atoms, thresholds and steps, and their training."""

from ._layered import LayeredPursuit
from ._regularizers import incoherence_penalty, parseval_penalty
from ._training import LayeredClassifier, train_layered

__all__ = ["LayeredClassifier", "LayeredPursuit", "incoherence_penalty", "parseval_penalty", "train_layered"]

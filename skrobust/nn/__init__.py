"""Torch modules: layered pursuits with learnable atoms, thresholds and steps, and their training."""

from .layered import LayeredPursuit
from .regularizers import incoherence_penalty, parseval_penalty
from .training import LayeredClassifier, train_layered

__all__ = ["LayeredClassifier", "LayeredPursuit", "incoherence_penalty", "parseval_penalty", "train_layered"]

"""Torch modules: layers and pursuits that learn, and their training."""

from .csc_layer import CSCLayer
from .layered import LayeredPursuit
from .regularizers import incoherence_penalty, parseval_penalty
from .training import LayeredClassifier, train_layered

__all__ = [
    "CSCLayer",
    "LayeredClassifier",
    "LayeredPursuit",
    "incoherence_penalty",
    "parseval_penalty",
    "train_layered",
]

"""Torch modules: layers and pursuits that learn, and their training."""

from .csc_layer import CSCLayer
from .layered import LayeredPursuit
from .layered_classifier import LayeredClassifier, train_layered
from .regularizers import incoherence_penalty, parseval_penalty

__all__ = [
    "CSCLayer",
    "LayeredClassifier",
    "LayeredPursuit",
    "incoherence_penalty",
    "parseval_penalty",
    "train_layered",
]

"""Torch modules: layers and pursuits that learn, named networks, and their training."""

from .csc_layer import CSCLayer
from .image_network import ImageNetwork
from .layered import LayeredPursuit
from .networks import make_network, network_names
from .regularizers import incoherence_penalty, parseval_penalty
from .training import LayeredClassifier, train_layered

__all__ = [
    "CSCLayer",
    "ImageNetwork",
    "LayeredClassifier",
    "LayeredPursuit",
    "incoherence_penalty",
    "make_network",
    "network_names",
    "parseval_penalty",
    "train_layered",
]

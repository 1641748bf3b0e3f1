"""Torch modules: layers and pursuits that learn, named networks, and their training."""

from .csc_layer import CSCLayer
from .image_network import ImageNetwork, RowNetwork
from .interval_bound import IntervalBound
from .layered import LayeredPursuit
from .layered_classifier import LayeredClassifier, train_layered
from .networks import make_network, network_names
from .regularizers import incoherence_penalty, parseval_penalty

__all__ = [
    "CSCLayer",
    "ImageNetwork",
    "IntervalBound",
    "LayeredClassifier",
    "LayeredPursuit",
    "RowNetwork",
    "incoherence_penalty",
    "make_network",
    "network_names",
    "parseval_penalty",
    "train_layered",
]

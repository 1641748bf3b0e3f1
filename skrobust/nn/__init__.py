"""Torch modules: layered pursuits with learnable atoms, thresholds and steps."""

from ._layered import LayeredPursuit
from ._regularizers import incoherence_penalty, parseval_penalty

__all__ = ["LayeredPursuit", "incoherence_penalty", "parseval_penalty"]

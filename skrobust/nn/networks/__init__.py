"""Named networks of the papers, plain torch, images with channels first."""

from .registry import make_network, network_names

__all__ = ["make_network", "network_names"]

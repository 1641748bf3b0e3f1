"""Networks that begin with a layered pursuit."""

import math

import torch
from torch import nn

from skrobust.nn.layered import LayeredPursuit


class PursuitNetwork(nn.Module):
    """Class scores of images: a layered pursuit, and a head on the codes of its last layer.

    Parameters
    ----------
    pursuit : LayeredPursuit
    head : nn.Module
        Takes codes with channels first.
    """

    def __init__(self, pursuit, head):
        super().__init__()
        self.pursuit, self.head = pursuit, head

    def forward(self, x):
        """Scores of shape (n_samples, n_classes) of images (n_samples, n_channels, height, width)."""
        return self.head(self.pursuit(x.movedim(1, -1))[-1].movedim(-1, 1))


def random_pursuit(image_shape, plan, **settings):
    """A `LayeredPursuit` with atoms of torch's initial size of convolutions and thresholds 0.

    Parameters
    ----------
    image_shape : tuple of int
    plan : list of tuple
        Number of atoms and kernel size of each layer.
    **settings
        Parameters of `LayeredPursuit`.
    """
    channels, components = image_shape[-1], []
    for n_atoms, kernel in plan:
        bound = 1 / math.sqrt(kernel * kernel * channels)
        components.append(torch.empty(n_atoms, kernel, kernel, channels).uniform_(-bound, bound))
        channels = n_atoms
    return LayeredPursuit(components, tuple(image_shape), alpha=0.0, **settings)

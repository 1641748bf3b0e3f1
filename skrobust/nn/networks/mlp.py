"""Fully connected networks."""

import itertools
import math

from torch import nn

from .registry import register_network


@register_network
def mlp(n_classes, image_shape, *, hidden=(256,), dropout=0.0):
    """Hidden layers of these numbers of units, each with a ReLU and dropout."""
    layers = [nn.Flatten()]
    sizes = [math.prod(image_shape), *hidden]
    for n_inputs, n_units in itertools.pairwise(sizes):
        layers += [nn.Linear(n_inputs, n_units), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_classes))

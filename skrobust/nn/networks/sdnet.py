"""SDNets [1]_: residual networks whose first convolution, or all of them, are layers of convolutional sparse coding.

References
----------
.. [1] X. Dai et al., "Revisiting sparse convolutional model for visual recognition", NeurIPS 2022.
"""

import functools

from skrobust.nn.csc_layer import CSCLayer

from .blocks import ResidualNetwork, plain_convolution, stem_for
from .registry import register_network
from .resnet import DEPTHS, WIDTHS


def _sdnet(depth, n_classes, image_shape, all_layers, width, stem, csc):
    sparse = functools.partial(CSCLayer, **csc)
    widths = tuple(width * n for n in WIDTHS)
    stem, rest = stem_for(stem, image_shape), sparse if all_layers else plain_convolution
    return ResidualNetwork(n_classes, image_shape[-1], DEPTHS[depth], widths, stem, sparse, rest)


@register_network
def sdnet18(n_classes, image_shape, *, width=64, stem=None, **csc):
    """ResNet-18 with a `CSCLayer` in place of its first convolution; `csc` are parameters of the layer."""
    return _sdnet(18, n_classes, image_shape, False, width, stem, csc)


@register_network
def sdnet34(n_classes, image_shape, *, width=64, stem=None, **csc):
    """ResNet-34 with a `CSCLayer` in place of its first convolution; `csc` are parameters of the layer."""
    return _sdnet(34, n_classes, image_shape, False, width, stem, csc)


@register_network
def sdnet18_all(n_classes, image_shape, *, width=64, stem=None, **csc):
    """ResNet-18 with a `CSCLayer` in place of every convolution; `csc` are parameters of the layers."""
    return _sdnet(18, n_classes, image_shape, True, width, stem, csc)


@register_network
def sdnet34_all(n_classes, image_shape, *, width=64, stem=None, **csc):
    """ResNet-34 with a `CSCLayer` in place of every convolution; `csc` are parameters of the layers."""
    return _sdnet(34, n_classes, image_shape, True, width, stem, csc)

"""Residual networks [1]_: ResNet-18 and -34 with the stem of CIFAR or of ImageNet, and the ResNet-32 of CIFAR.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
"""

from .blocks import ResidualNetwork, plain_convolution, stem_for
from .registry import register_network

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks of each stage."""
WIDTHS = 1, 2, 4, 8
"""Channels of each stage, relative to the first."""


def _resnet(depth, n_classes, image_shape, width, stem):
    widths = tuple(width * n for n in WIDTHS)
    stem = stem_for(stem, image_shape)
    return ResidualNetwork(
        n_classes, image_shape[-1], DEPTHS[depth], widths, stem, plain_convolution, plain_convolution
    )


@register_network
def resnet18(n_classes, image_shape, *, width=64, stem=None):
    """ResNet-18."""
    return _resnet(18, n_classes, image_shape, width, stem)


@register_network
def resnet34(n_classes, image_shape, *, width=64, stem=None):
    """ResNet-34."""
    return _resnet(34, n_classes, image_shape, width, stem)


@register_network
def resnet32(n_classes, image_shape, *, width=16):
    """The ResNet-32 of CIFAR: three stages of five blocks, shortcuts without parameters."""
    widths = width, 2 * width, 4 * width
    plain = plain_convolution
    return ResidualNetwork(n_classes, image_shape[-1], (5, 5, 5), widths, "cifar", plain, plain, "zeros")

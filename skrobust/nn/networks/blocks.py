"""Residual networks of any kind of convolution: stems, basic blocks, and their stack."""

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two convolutions with batch norm, and a shortcut around both.

    Parameters
    ----------
    in_channels, out_channels, stride : int
        Of the first convolution.
    convolution : callable
        ``convolution(in_channels, out_channels, kernel_size, stride, padding)`` makes a layer.
    shortcut : {"projection", "zeros"}, default="projection"
        Where the shape changes: a 1x1 convolution with batch norm, or the subsampled input, with channels of zeros.
    """

    def __init__(self, in_channels, out_channels, stride, convolution, shortcut="projection"):
        super().__init__()
        self.conv1 = convolution(in_channels, out_channels, 3, stride, 1)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = convolution(out_channels, out_channels, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            if shortcut == "zeros":
                self.shortcut = SubsampledShortcut(stride, out_channels - in_channels)
            else:
                projection = convolution(in_channels, out_channels, 1, stride, 0)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x):
        """Feature maps of feature maps."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class SubsampledShortcut(nn.Module):
    """Every `stride`-th pixel, with `n_more` channels of zeros: He et al.'s option A, without parameters."""

    def __init__(self, stride, n_more):
        super().__init__()
        self.stride, self.n_more = stride, n_more

    def forward(self, x):
        """Feature maps of feature maps."""
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.n_more))


class ResidualNetwork(nn.Sequential):
    """A stem, stages of basic blocks, the mean over all pixels, and a linear layer.

    Parameters
    ----------
    n_classes, in_channels : int
    depths, widths : tuple of int
        Blocks and channels of each stage; each stage but the first begins with stride 2.
    stem : {"cifar", "imagenet"}
        A 3x3 convolution; or a 7x7 convolution of stride 2, followed by max pooling of stride 2.
    first, convolution : callable
        Make the stem's convolution, and all others, as in `BasicBlock`.
    shortcut : {"projection", "zeros"}, default="projection"
    """

    def __init__(self, n_classes, in_channels, depths, widths, stem, first, convolution, shortcut="projection"):
        if stem not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' or 'imagenet', got {stem!r}.")
        kernel, stride = (3, 1) if stem == "cifar" else (7, 2)
        pool = [] if stem == "cifar" else [nn.MaxPool2d(3, 2, padding=1)]
        layers = [first(in_channels, widths[0], kernel, stride, kernel // 2), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        stages, channels = [], widths[0]
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i and not j else 1
                blocks.append(BasicBlock(channels, width, stride, convolution, shortcut))
                channels = width
            stages.append(nn.Sequential(*blocks))
        super().__init__(*layers, *pool, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))


def plain_convolution(in_channels, out_channels, kernel_size, stride, padding):
    """A convolution without bias, with He's initialisation."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution


def stem_for(stem, image_shape):
    """A stem by name; None: that of ImageNet for images of 64 pixels or more."""
    if stem is not None:
        return stem
    return "imagenet" if min(image_shape[:2]) >= 64 else "cifar"

"""The five networks of the paper on denoising by dictionary learning [1]_, its table 3.

The table states neither padding, activations nor the widths of its ResNet: here "same", ReLU and 32.

References
----------
.. [1] J. Mitro, D. Bridge, S. Prestwich, "Denoising dictionary learning against adversarial perturbations",
   arXiv 1801.02257, 2018.
"""

import math

from torch import nn

from .blocks import BasicBlock, plain_convolution
from .registry import register_network


@register_network
def dictionary_mlp(n_classes, image_shape):
    """Two hidden layers, of as many units as values and of 256, with dropout and batch norm."""
    n_values = math.prod(image_shape)
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.BatchNorm1d(n_values),
        nn.Linear(n_values, n_values),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.BatchNorm1d(n_values),
        nn.Linear(n_values, 256),
        nn.ReLU(),
        nn.Linear(256, n_classes),
    )


@register_network
def dictionary_convnet(n_classes, image_shape):
    """Six 3x3 convolutions of 32 to 256 maps with dropout, and a hidden layer of 512 units."""
    height, width, channels = image_shape
    if min(height, width) < 4:
        raise ValueError(f"dictionary_convnet needs images of at least 4 x 4 pixels, got image_shape={image_shape}.")
    return nn.Sequential(
        nn.Dropout(0.5),
        *_convolution(channels, 32),
        *_convolution(32, 32),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        *_convolution(32, 64),
        *_convolution(64, 64),
        nn.MaxPool2d(2),
        *_convolution(64, 128),
        *_convolution(128, 256),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(256 * (height // 4) * (width // 4), 512),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(512, n_classes),
    )


@register_network
def dictionary_autoencoder(n_classes, image_shape):
    """Convolutions that shrink the image by 8 and enlarge it by 4 to one map, and a linear layer."""
    height, width, channels = image_shape
    pool, enlarge = nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2)
    return nn.Sequential(
        *_convolution(channels, 16),
        pool,
        *_convolution(16, 32),
        pool,
        *_convolution(32, 32),
        pool,
        *_convolution(32, 64),
        *_convolution(64, 128),
        enlarge,
        *_convolution(128, 32),
        enlarge,
        *_convolution(32, 3),
        nn.Conv2d(3, 1, 5, padding=2),
        nn.Flatten(),
        nn.Linear(16 * math.ceil(height / 8) * math.ceil(width / 8), n_classes),
    )


@register_network
def dictionary_resnet(n_classes, image_shape, *, width=32):
    """A convolution, four residual blocks with dropout behind, and the mean over all pixels."""
    return nn.Sequential(
        plain_convolution(image_shape[-1], width, 3, 1, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *[BasicBlock(width, width, 1, plain_convolution) for _ in range(4)],
        nn.Dropout(0.25),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, n_classes),
    )


@register_network
def dictionary_hrnn(n_classes, image_shape):
    """LSTMs of 256 units: over the pixels of each row, over the rows, and over 16 parts of the result."""
    return HierarchicalRNN(n_classes, image_shape[-1])


class HierarchicalRNN(nn.Module):
    """Recurrent network over rows of pixels.

    Parameters
    ----------
    n_classes, in_channels : int
    """

    def __init__(self, n_classes, in_channels):
        super().__init__()
        self.pixels = nn.LSTM(in_channels, 256, batch_first=True)
        self.rows = nn.LSTM(256, 256, batch_first=True)
        self.parts = nn.LSTM(16, 256, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(256, n_classes))

    def forward(self, x):
        """Scores of shape (n_samples, n_classes) of images (n_samples, n_channels, height, width)."""
        n_samples, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n_samples * height, width, channels)
        of_rows = self.pixels(rows)[0][:, -1].reshape(n_samples, height, -1)
        of_images = self.rows(of_rows)[0][:, -1].reshape(n_samples, 16, 16)
        return self.head(self.parts(of_images)[0][:, -1])


def _convolution(n_in, n_out):
    return nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()

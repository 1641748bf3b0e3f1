"""Networks of torch behind the layout and the scaling of images that estimators use."""

import torch
from torch import nn


class ImageNetwork(nn.Module):
    """A channels-first network for images with their channels last, normalised inside.

    Parameters
    ----------
    network : torch.nn.Module
        Takes batches of shape (n_samples, n_channels, height, width).
    mean, std : float or array-like of shape (n_channels,), default=0.0 and 1.0
        Subtracted from the images, and by which they are then divided.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import ImageNetwork
    >>> convolution = torch.nn.Conv2d(3, 2, 3)
    >>> ImageNetwork(convolution, mean=0.5, std=0.25)(torch.rand(4, 8, 8, 3)).shape
    torch.Size([4, 2, 6, 6])
    """

    def __init__(self, network, mean=0.0, std=1.0):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))

    def forward(self, X):
        """The network's output for images.

        Parameters
        ----------
        X : Tensor of shape (n_samples, height, width, n_channels)

        Returns
        -------
        Tensor
        """
        return self.network(((X - self.mean) / self.std).movedim(-1, 1))

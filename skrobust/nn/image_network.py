"""`ImageNetwork`: a network with channels first on images in [0, 1] with channels last."""

import numpy as np
import torch
from torch import nn


class ImageNetwork(nn.Module):
    """Class scores of images in [0, 1], channels last, by a network that takes normalised images, channels first.

    Normalisation is part of the module, so that attacks see images in [0, 1].

    Parameters
    ----------
    network : nn.Module
    mean, std : float or array-like of shape (n_channels,), default=0.0 and 1.0
        Subtracted from each channel, and divided by.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import ImageNetwork, make_network
    >>> network = make_network("mlp", n_classes=3, image_shape=(8, 8))
    >>> ImageNetwork(network, mean=0.5, std=0.25)(torch.rand(2, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(self, network, mean=0.0, std=1.0):
        super().__init__()
        self.network = network
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(np.asarray(value), dtype=torch.float32)
            if value.ndim > 1 or not torch.isfinite(value).all():
                raise ValueError(f"{name} must be a finite number, or one per channel, got {value.tolist()}.")
            self.register_buffer(name, value)
        if not (self.std > 0).all():
            raise ValueError(f"std must be > 0, got {self.std.tolist()}.")

    def forward(self, X):
        """Class scores.

        Parameters
        ----------
        X : Tensor of shape (n_samples, height, width) or (n_samples, height, width, n_channels)

        Returns
        -------
        Tensor of shape (n_samples, n_classes)
        """
        if X.ndim not in (3, 4):
            raise ValueError(f"X must have shape (n_samples, height, width[, n_channels]), got {tuple(X.shape)}.")
        X = X.unsqueeze(-1) if X.ndim == 3 else X
        return self.network(self.normalized(X))

    def normalized(self, X):
        """The network's input for images of shape (n_samples, height, width, n_channels)."""
        # A copy: torch 2.13's backward pass of narrow networks crashes on the CPU for strided images of 224 x 224.
        return ((X - self.mean) / self.std).movedim(-1, 1).contiguous()


class RowNetwork(ImageNetwork):
    """The same for rows of features, without a change of layout.

    Parameters
    ----------
    network : nn.Module
    mean, std : float or array-like of shape (n_features,), default=0.0 and 1.0

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import RowNetwork
    >>> RowNetwork(torch.nn.Linear(5, 3), mean=0.5, std=0.25)(torch.rand(2, 5)).shape
    torch.Size([2, 3])
    """

    def forward(self, X):
        """Class scores.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)

        Returns
        -------
        Tensor of shape (n_samples, n_classes)
        """
        return self.network(self.normalized(X))

    def normalized(self, X):
        """The network's input for rows."""
        return (X - self.mean) / self.std

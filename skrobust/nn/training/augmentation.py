"""Random changes of training images."""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class RandomShift:
    """Images moved by a few pixels, over a border of zeros, and optionally mirrored.

    Parameters
    ----------
    max_shift : int, default=4
        Largest shift along each axis.
    mirror : bool, default=False
        Mirror half of the images from left to right.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn.training import RandomShift
    >>> images = torch.eye(3).reshape(1, 3, 3, 1)
    >>> shifted = RandomShift(max_shift=1)(images, torch.Generator().manual_seed(0))
    >>> shifted.shape
    torch.Size([1, 3, 3, 1])
    """

    max_shift: int = 4
    mirror: bool = False

    def __call__(self, X, generator):
        """Changed copies of images.

        Parameters
        ----------
        X : Tensor of shape (n_samples, height, width, n_channels)
        generator : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of the shape of `X`
        """
        n, height, width, _ = X.shape
        border = self.max_shift
        padded = functional.pad(X, (0, 0, border, border, border, border))
        shifts = torch.randint(2 * border + 1, (2, n, 1), generator=generator).to(X.device)
        rows = shifts[0] + torch.arange(height, device=X.device)
        columns = shifts[1] + torch.arange(width, device=X.device)
        if self.mirror:
            mirrored = (torch.rand(n, 1, generator=generator) < 0.5).to(X.device)
            columns = torch.where(mirrored, columns.flip(1), columns)
        return padded[torch.arange(n, device=X.device)[:, None, None], rows[:, :, None], columns[:, None, :]]

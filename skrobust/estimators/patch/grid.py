"""Positions of the overlapping patches of an image, and the number of patches over each pixel."""

import math

import numpy as np

from skrobust.signals import per_axis


class PatchGrid:
    """Patches of one size at regular positions; the last ones are shifted inward, so that every pixel is covered.

    Parameters
    ----------
    grid : tuple of int
        ``(height, width)`` of an image or ``(length,)`` of a signal.
    n_channels : int
        A patch has all channels.
    patch_size, stride : int or tuple of int
        One number for all axes, or one per axis. Patches larger than the grid are reduced to it.

    Attributes
    ----------
    size : tuple of (int, int)
        Height and width of a patch; height 1 for signals.
    tops, lefts : ndarray of int64
        Rows and columns where patches start: one patch at each pair.
    coverage : ndarray of shape (height, width)
        Number of patches over each pixel.

    Raises
    ------
    ValueError
        If `patch_size` or `stride` does not fit the grid, or leaves pixels between the patches.

    Examples
    --------
    >>> patches = PatchGrid((6, 5), 1, (3, 3), 2)
    >>> patches.tops, patches.lefts
    (array([0, 2, 3]), array([0, 2]))
    >>> patches.coverage[0]
    array([1, 1, 2, 1, 1])
    """

    def __init__(self, grid, n_channels, patch_size, stride):
        sizes = per_axis("patch_size", patch_size, len(grid))
        steps = per_axis("stride", stride, len(grid))
        for size, step in zip(sizes, steps, strict=True):
            if step > size:
                raise ValueError(
                    f"stride={stride!r} leaves pixels between patches of patch_size={patch_size!r} uncovered: a stride "
                    "is at most the size of the patch along its axis."
                )
        self.sample_size = tuple(min(size, length) for size, length in zip(sizes, grid, strict=True))
        self.n_channels = n_channels
        self.image_size = (1, *grid)[-2:]
        self.size = (1, *self.sample_size)[-2:]
        self.tops, self.lefts = (
            _starts(length, size, step)
            for length, size, step in zip(self.image_size, self.size, (1, *steps)[-2:], strict=True)
        )
        self.coverage = np.outer(
            *(
                _coverage(length, size, starts)
                for length, size, starts in zip(self.image_size, self.size, (self.tops, self.lefts), strict=True)
            )
        )

    @property
    def n_patches(self):
        """Number of patches of an image."""
        return len(self.tops) * len(self.lefts)

    @property
    def n_features(self):
        """Number of values of a patch."""
        return math.prod(self.size) * self.n_channels

    def planes(self, values):
        """Images ``(n_samples, *grid, n_channels)`` with the channels first, as the kernels read them."""
        images = values.reshape(len(values), *self.image_size, self.n_channels)
        if self.n_channels == 1:
            # Numba would compile the kernels again for read-only arrays.
            return np.require(images.reshape(len(images), 1, *self.image_size), requirements="CW")
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))

    def values(self, planes, like):
        """Undo `planes`, in the shape of `like`."""
        return np.ascontiguousarray(np.moveaxis(planes, 1, -1)).reshape(like.shape)

    def to_planes(self, atoms):
        """Rows of patch values, channels last, with the channels first."""
        if self.n_channels == 1:
            return atoms
        return np.moveaxis(atoms.reshape(len(atoms), -1, self.n_channels), -1, 1).reshape(atoms.shape)

    def extract(self, values, patch_indices):
        """Patches as rows, values in the order of the axes of an image, channels last.

        `patch_indices` number the patches sample by sample, and row by row within a sample.
        """
        images = values.reshape(len(values), *self.image_size, self.n_channels)
        windows = np.lib.stride_tricks.sliding_window_view(images, self.size, axis=(1, 2))
        image, patch = np.divmod(patch_indices, self.n_patches)
        row, column = np.divmod(patch, len(self.lefts))
        patches = windows[image, self.tops[row], self.lefts[column]]
        return np.moveaxis(patches, 1, -1).reshape(len(patch_indices), self.n_features)

    def remove_means(self, patches):
        """`patches` minus the mean of each of their channels."""
        by_channel = patches.reshape(len(patches), -1, self.n_channels)
        return (by_channel - by_channel.mean(axis=1, keepdims=True)).reshape(patches.shape)


def _starts(length, size, step):
    last = length - size
    starts = np.arange(0, last + 1, step)
    return starts if starts[-1] == last else np.append(starts, last)


def _coverage(length, size, starts):
    changes = np.zeros(length + 1, dtype=np.int64)
    np.add.at(changes, starts, 1)
    np.add.at(changes, starts + size, -1)
    return np.cumsum(changes)[:-1]

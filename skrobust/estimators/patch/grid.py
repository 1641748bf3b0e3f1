"""Where the overlapping patches of an image lie, and how often each pixel is covered."""

import math
from numbers import Integral

import numpy as np


class PatchGrid:
    """Patches of one size at regular places; the last ones are moved in, so that every pixel is covered.

    Parameters
    ----------
    grid : tuple of int
        ``(height, width)`` of an image or ``(length,)`` of a signal.
    n_channels : int
        A patch has all channels.
    patch_size, stride : int or tuple of int
        Along each axis; an int stands for all axes. Patches larger than the grid are reduced to it.

    Attributes
    ----------
    size : tuple of (int, int)
        Height and width of a patch; height 1 for signals.
    tops, lefts : ndarray of int64
        Rows and columns at which patches begin: a patch at each pair.
    coverage : ndarray of shape (height, width)
        Patches over each pixel.

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
        sizes = _per_axis(patch_size, len(grid), "patch_size")
        steps = _per_axis(stride, len(grid), "stride")
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
            _places(length, size, step)
            for length, size, step in zip(self.image_size, self.size, (1, *steps)[-2:], strict=True)
        )
        self.coverage = np.outer(
            *(
                _covered(length, size, places)
                for length, size, places in zip(self.image_size, self.size, (self.tops, self.lefts), strict=True)
            )
        )

    @property
    def n_patches(self):
        """Patches an image."""
        return len(self.tops) * len(self.lefts)

    @property
    def n_features(self):
        """Values a patch."""
        return math.prod(self.size) * self.n_channels

    def planes(self, values):
        """Images ``(n_samples, *grid, n_channels)`` with the channels first, as the kernels read them."""
        images = values.reshape(len(values), *self.image_size, self.n_channels)
        if self.n_channels == 1:
            # Read-only memory would be another type to the kernels, and compile them anew.
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

    def extract(self, values, chosen):
        """Patches as rows, values in the order of the axes of an image, channels last.

        `chosen` are their numbers: first the patches of the first sample, row by row, then those of the next.
        """
        images = values.reshape(len(values), *self.image_size, self.n_channels)
        windows = np.lib.stride_tricks.sliding_window_view(images, self.size, axis=(1, 2))
        image, place = np.divmod(chosen, self.n_patches)
        row, column = np.divmod(place, len(self.lefts))
        patches = windows[image, self.tops[row], self.lefts[column]]
        return np.moveaxis(patches, 1, -1).reshape(len(chosen), self.n_features)

    def remove_means(self, patches):
        """`patches` less the mean of each of their channels."""
        by_channel = patches.reshape(len(patches), -1, self.n_channels)
        return (by_channel - by_channel.mean(axis=1, keepdims=True)).reshape(patches.shape)


def _per_axis(given, n_axes, name):
    sizes = (given,) * n_axes if isinstance(given, Integral) else tuple(given)
    if len(sizes) != n_axes or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise ValueError(
            f"{name} must be an integer >= 1, or one for each of the {n_axes} axes of the samples, got {given!r}."
        )
    return tuple(int(size) for size in sizes)


def _places(length, size, step):
    last = length - size
    places = np.arange(0, last + 1, step)
    return places if places[-1] == last else np.append(places, last)


def _covered(length, size, places):
    changes = np.zeros(length + 1, dtype=np.int64)
    np.add.at(changes, places, 1)
    np.add.at(changes, places + size, -1)
    return np.cumsum(changes)[:-1]

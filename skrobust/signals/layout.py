"""Layouts of X: samples, pixels and channels, and the inverse mapping."""

import math
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class SignalLayout:
    """The grid of one sample and its channels.

    Parameters
    ----------
    grid : tuple of int
        ``(length,)`` for 1-D signals, ``(height, width)`` for images.
    n_channels : int, default=1
        Values at each position of the grid, stored last.

    Examples
    --------
    >>> from skrobust.signals import SignalLayout
    >>> SignalLayout.infer((784,), image_shape=(28, 28))
    SignalLayout(grid=(28, 28), n_channels=1)
    >>> SignalLayout.infer((32, 32, 3)).n_features
    3072
    """

    grid: tuple
    n_channels: int = 1

    @classmethod
    def infer(cls, sample_shape, image_shape=None):
        """Layout of samples of shape `sample_shape`; `image_shape` turns flat samples into images.

        Raises
        ------
        ValueError
            If the two disagree, or if samples look channels-first and `image_shape` does not confirm their shape.
        """
        sample_shape = tuple(sample_shape)
        if image_shape is not None:
            image_shape = _checked_image_shape(image_shape)
            if len(sample_shape) == 1 and sample_shape[0] != math.prod(image_shape):
                raise ValueError(
                    f"image_shape={image_shape} holds {math.prod(image_shape)} values, but X has "
                    f"{sample_shape[0]} features per sample. Set image_shape to the images' height, width and channels."
                )
            if len(sample_shape) > 1 and sample_shape != image_shape:
                raise ValueError(
                    f"image_shape={image_shape} disagrees with X, whose samples have shape {sample_shape}. "
                    "Leave image_shape=None for X of shape (n_samples, height, width[, n_channels])."
                    + channels_first_hint(sample_shape)
                )
            sample_shape = image_shape
        elif hint := channels_first_hint(sample_shape):
            raise ValueError(
                f"X has samples of shape {sample_shape}.{hint} If {sample_shape} really is (height, width, channels), "
                f"set image_shape={sample_shape}."
            )
        if not 1 <= len(sample_shape) <= 3:
            raise ValueError(
                f"Found array with dim {len(sample_shape) + 1}, but signals have dim 2, (n_samples, n_features), or "
                f"images dim 3 or 4, (n_samples, height, width[, n_channels]). Samples here have shape {sample_shape}."
            )
        if len(sample_shape) == 3:
            return cls(sample_shape[:2], sample_shape[2])
        return cls(sample_shape)

    @property
    def n_features(self):
        """Number of values per sample."""
        return math.prod(self.grid) * self.n_channels

    @property
    def canonical_shape(self):
        """``(*grid, n_channels)``."""
        return (*self.grid, self.n_channels)

    @property
    def image_shape(self):
        """`grid`, with the number of channels if there are several."""
        return self.grid if self.n_channels == 1 else self.canonical_shape

    def admits(self, sample_shape):
        """Whether samples of this shape, flat or as images, match this layout."""
        sample_shape = tuple(sample_shape)
        shapes = [(self.n_features,), self.canonical_shape]
        if self.n_channels == 1:
            shapes.append(tuple(self.grid))
        return sample_shape in shapes

    def place(self, X):
        """`X` (ndarray or tensor in any matching layout) as `Signals` of shape ``(n_samples, *grid, n_channels)``.

        Raises
        ------
        ValueError
            If the shape of the samples does not match this layout.
        """
        if not self.admits(X.shape[1:]):
            raise ValueError(
                f"X has samples of shape {tuple(X.shape[1:])}, but samples of shape {self.canonical_shape} or "
                f"({self.n_features},) are expected.{channels_first_hint(tuple(X.shape[1:]))}"
            )
        return Signals(X.reshape((X.shape[0], *self.canonical_shape)), tuple(X.shape[1:]))


@dataclass(frozen=True)
class Signals:
    """Samples on their grid, and their original shape.

    Attributes
    ----------
    values : ndarray or Tensor of shape ``(n_samples, *grid, n_channels)``
    sample_shape : tuple of int
        Shape of one sample in the user's layout.
    """

    values: object
    sample_shape: tuple

    def restore(self, values):
        """`values` of shape ``(n_samples, *grid, n_channels)`` in the user's layout."""
        return values.reshape((values.shape[0], *self.sample_shape))


def channels_first_hint(sample_shape):
    """Hint about samples of shape (channels, height, width); empty for valid shapes.

    A shape looks channels-first if it starts with 1, 3 or 4 and ends with more than 4. An exception are shapes like
    (4, 4, 16), a square with 16 channels.
    """
    if len(sample_shape) != 3:
        return ""
    first, second, last = sample_shape
    if first not in (1, 3, 4) or last <= 4 or second == 1 or (first == second != last):
        return ""
    return (
        " That looks like torch's channels-first layout; skrobust needs channels last: pass "
        "X.transpose(0, 2, 3, 1), or X.permute(0, 2, 3, 1) of a tensor."
    )


def _checked_image_shape(image_shape):
    try:
        sizes = tuple(image_shape)
    except TypeError:
        sizes = ()
    if len(sizes) not in (2, 3) or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise ValueError(
            f"image_shape must be None, (height, width) or (height, width, n_channels) of integers >= 1, "
            f"got {image_shape!r}."
        )
    return tuple(int(size) for size in sizes)


def per_axis(name, value, n_axes):
    """One integer >= 1 per axis of the grid, as a tuple; a single integer is repeated.

    Parameters
    ----------
    name : str
        Name of the parameter, for the error message.
    value : int or sequence of int
    n_axes : int

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If `value` is anything else.
    """
    sizes = (value,) * n_axes if isinstance(value, Integral) else value
    if not isinstance(sizes, (tuple, list)) or len(sizes) != n_axes:
        sizes = ()
    if not sizes or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise ValueError(
            f"{name} must be an integer >= 1, or one for each of the {n_axes} axes of the samples, got {value!r}."
        )
    return tuple(int(size) for size in sizes)

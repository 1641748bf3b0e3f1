"""`CodeDisplay`: positions of atoms in an image."""

import copy
import math
from numbers import Integral

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.utils.validation import check_is_fitted

from skrobust.displays.drawing.style import INK, drawing

from .base import Display
from .dictionary import mosaic

SPOTS = 48
"""Maximum number of spots along the longer side of a map; on finer grids positions are drawn larger to be visible."""

FULL_COLOUR = 0.95
"""Quantile of the coefficients that gets the darkest colour, so that one outlier does not make all others pale."""


class CodeDisplay(Display):
    """Activation maps of the strongest atoms, beside the image and its reconstruction.

    On large grids a coefficient is drawn as a spot of several positions; the strongest one is on top.
    Create it with `from_estimator`.

    Parameters
    ----------
    image, reconstruction : ndarray of shape (height, width) or (height, width, 3)
    codes : ndarray of shape (rows, columns, n_atoms)
        Coefficient of each atom at each position.
    atoms : ndarray of shape (n_atoms, kernel_height, kernel_width, n_channels)

    Attributes
    ----------
    order_ : ndarray of int
        The atoms drawn, the one with the largest sum of magnitudes first.
    axes_ : ndarray of matplotlib.axes.Axes
        Of the image, the reconstruction and the maps.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import ConvSparseCoder
    >>> from skrobust.displays import CodeDisplay
    >>> X = load_digits().images / 16
    >>> coder = ConvSparseCoder(6, kernel_size=4, n_epochs=2, random_state=0).fit(X[:100])
    >>> display = CodeDisplay.from_estimator(coder, X[0])  # doctest: +SKIP
    """

    def __init__(self, image, reconstruction, codes, atoms):
        self.image = image
        self.reconstruction = reconstruction
        self.codes = codes
        self.atoms = atoms

    @classmethod
    def from_estimator(cls, estimator, image, *, n_atoms=6, axes=None):
        """Code one image and draw it.

        Parameters
        ----------
        estimator : fitted ConvSparseCoder
            With any `output` and `pool`.
        image : array-like
            One sample in the layout on which the estimator was fitted: a row or an image.
        n_atoms : int, default=6
            Maximum number of maps.
        axes : array of matplotlib.axes.Axes, default=None
            Two, and one for each map. None: a new figure.

        Raises
        ------
        ValueError
            If the estimator codes 1-D signals or images with other than 1 or 3 channels, or `image` has another shape.
        """
        check_is_fitted(estimator, "components_")
        if len(estimator.code_shape_) != 3:
            raise ValueError(
                f"CodeDisplay draws images, but {type(estimator).__name__} was fitted on signals of one axis (codes of "
                f"shape {estimator.code_shape_}). Set image_shape if rows are images."
            )
        if estimator.components_.shape[-1] not in (1, 3):
            raise ValueError(
                f"CodeDisplay draws images of 1 or 3 channels, but {type(estimator).__name__} was fitted on "
                f"{estimator.components_.shape[-1]}."
            )
        X = np.asarray(image)[None]
        if X.ndim > 4:
            raise ValueError(f"image must be one sample, got an array of shape {X.shape[1:]}; pass X[0].")
        # The copy shares fitted attributes but has its own parameters.
        coder = copy.copy(estimator).set_params(output="code", pool=None, sparse_output=False)
        codes = coder.transform(X).reshape(estimator.code_shape_)
        reconstruction = coder.set_params(output="reconstruction").transform(X)
        shape = _picture_shape(estimator, X.shape[1:])
        display = cls(X.reshape(shape), reconstruction.reshape(shape), codes, estimator.components_)
        return display.plot(n_atoms=n_atoms, axes=axes)

    def plot(self, *, n_atoms=6, axes=None):
        """Draw.

        Parameters
        ----------
        n_atoms : int, default=6
        """
        if not (isinstance(n_atoms, Integral) and n_atoms >= 0):
            raise ValueError(f"n_atoms must be an integer >= 0, got {n_atoms!r}.")
        strengths = np.abs(self.codes).sum(axis=(0, 1))
        order = np.argsort(-strengths, kind="stable")[:n_atoms]
        self.order_ = order[strengths[order] > 0]
        if axes is None:
            n_columns = math.ceil((2 + len(self.order_)) / 2)
            with drawing() as plt:
                _, axes = plt.subplots(2, n_columns, figsize=(2.3 * n_columns, 5.0), layout="constrained")
        axes = np.ravel(axes)
        if len(axes) < 2 + len(self.order_):
            raise ValueError(f"axes has {len(axes)} panels, but {2 + len(self.order_)} are needed; draw fewer n_atoms.")
        for ax in axes:
            ax.set_axis_off()
        n_used = np.count_nonzero(self.codes)
        low, high = min(0.0, float(self.image.min())), max(float(self.image.max()), np.finfo(float).tiny)
        for ax, picture, title in (
            (axes[0], self.image, "image"),
            (axes[1], self.reconstruction, f"{n_used} coefficients"),
        ):
            scaled = np.clip((picture - low) / (high - low), 0, 1)
            ax.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(title, fontsize=9, loc="left", color=INK)
        magnitudes = np.abs(self.codes[self.codes != 0])
        largest = float(np.quantile(magnitudes, FULL_COLOUR)) if len(magnitudes) else 1.0
        signed = bool((self.codes < 0).any())
        colors = {"cmap": "RdBu_r", "vmin": -largest} if signed else {"cmap": "Greys", "vmin": 0}
        for ax, k in zip(axes[2:], self.order_, strict=False):
            self._draw_map(ax, k, vmax=largest, **colors)
        self.figure_, self.axes_ = axes[0].figure, axes[: 2 + len(self.order_)]
        return self

    def _draw_map(self, ax, k, **colors):
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[])
        values = self.codes[..., k]
        ax.imshow(_spots(values), interpolation="nearest", **colors)
        ax.set_title(f"atom {k}: {np.count_nonzero(values)}", fontsize=9, loc="left", color=INK)
        inset = ax.inset_axes([0.72, 1.02, 0.28, 0.28])
        atom = self.atoms[k : k + 1]
        inset.imshow(mosaic(atom[..., 0] if atom.shape[-1] == 1 else atom), cmap="gray", vmin=0, vmax=1)
        inset.set_axis_off()


def _spots(values):
    """Each value spread over a window; the largest magnitude where windows overlap."""
    size = max(values.shape) // SPOTS
    if size < 2:
        return values
    highest, lowest = maximum_filter(values, size, mode="constant"), minimum_filter(values, size, mode="constant")
    return np.where(highest >= -lowest, highest, lowest)


def _picture_shape(estimator, sample_shape):
    """Height, width and, of colours, channels of one sample."""
    shape = sample_shape if len(sample_shape) > 1 else estimator.image_shape
    return tuple(shape[:2]) if len(shape) == 3 and shape[2] == 1 else tuple(shape)

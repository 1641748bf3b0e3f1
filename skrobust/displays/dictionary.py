"""`DictionaryDisplay`: atoms as tiles, and their usage."""

import math

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skrobust.displays.drawing.style import GRID, INK, drawing

from .base import Display

_GAP = 1
"""Pixels between tiles."""


class DictionaryDisplay(Display):
    """Atoms of a dictionary as tiles, and a histogram of their usage.

    Create it with `from_estimator`.

    Parameters
    ----------
    atoms : ndarray of shape (n_atoms, length) or (n_atoms, height, width[, n_channels])
        1-D atoms are drawn as curves.
    usage : ndarray of shape (n_atoms,), default=None
        Number of signals that use each atom. Atoms are then drawn from the most used one on.

    Attributes
    ----------
    order_ : ndarray of int of shape (n_atoms,)
        The atoms from the first tile on.
    ax_ : matplotlib.axes.Axes
        Of the tiles.
    usage_ax_ : matplotlib.axes.Axes or None
        Of the histogram.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust.dictionaries import KSVD
    >>> from skrobust.displays import DictionaryDisplay
    >>> X = load_digits().images
    >>> learner = KSVD(16, n_nonzero_coefs=3, max_iter=3, random_state=0).fit(X)
    >>> display = DictionaryDisplay.from_estimator(learner, X)  # doctest: +SKIP
    """

    def __init__(self, atoms, *, usage=None):
        self.atoms = atoms
        self.usage = usage

    @classmethod
    def from_estimator(cls, estimator, X=None, *, patch_size=None, max_atoms=None, ax=None, usage_ax=None):
        """Draw the atoms of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            With `components_`: a dictionary learner, `PatchDictionaryDenoiser`, or one with convolutional atoms.
        X : array-like, default=None
            Signals for the usage of the atoms, ``estimator.atom_usage(X)``. None: no histogram.
        patch_size : tuple of int, default=None
            ``(height, width)`` or ``(height, width, n_channels)`` of flat atoms. None: that of the estimator.
        max_atoms : int, default=None
            Draw only the first atoms, or with `usage` the most used.
        ax, usage_ax : matplotlib.axes.Axes, default=None
            Where to draw the tiles and the histogram. None: a new figure.
        """
        check_is_fitted(estimator, "components_")
        atoms = shaped_atoms(estimator, patch_size)
        usage = None if X is None else np.asarray(estimator.atom_usage(X))
        return cls(atoms, usage=usage).plot(max_atoms=max_atoms, ax=ax, usage_ax=usage_ax)

    def plot(self, *, max_atoms=None, ax=None, usage_ax=None):
        """Draw.

        Parameters
        ----------
        max_atoms : int or None, default=None
            Draw only the first atoms, or with `usage` the most used.
        ax, usage_ax : matplotlib.axes.Axes or None, default=None
            Where to draw the tiles and the histogram. None: a new figure.
        """
        n_atoms = len(self.atoms)
        self.order_ = np.arange(n_atoms) if self.usage is None else np.argsort(-self.usage, kind="stable")
        atoms = self.atoms[self.order_[:max_atoms]]
        has_usage = self.usage is not None
        with drawing() as plt:
            if ax is None:
                figure, axes = plt.subplots(
                    1 + has_usage,
                    squeeze=False,
                    figsize=(5.2, 5.2 + 1.7 * has_usage),
                    height_ratios=[5.2, 1.4][: 1 + has_usage],
                    layout="constrained",
                )
                ax = axes[0, 0]
                usage_ax = axes[1, 0] if has_usage and usage_ax is None else usage_ax
            if atoms.ndim == 2:
                _draw_curves(ax, atoms)
            else:
                ax.imshow(mosaic(atoms), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
            if has_usage and usage_ax is not None:
                _draw_usage(usage_ax, self.usage[self.order_])
        self.figure_, self.ax_, self.usage_ax_ = ax.figure, ax, usage_ax
        return self


def shaped_atoms(estimator, patch_size=None):
    """The atoms of an estimator on their grid, (n_atoms, length) or (n_atoms, height, width[, n_channels])."""
    atoms = np.asarray(estimator.components_)
    if hasattr(estimator, "code_shape_"):  # convolutional, channels last in any case
        return atoms[..., 0] if atoms.shape[-1] == 1 else atoms
    if atoms.ndim > 2:
        return atoms
    grid = getattr(estimator, "patch_size_", atoms.shape[1:]) if patch_size is None else patch_size
    size, n_features = math.prod(grid), atoms.shape[1]
    if n_features % size or (n_features != size and len(grid) > 2):
        raise ValueError(f"patch_size={tuple(grid)} holds {size} values, but atoms have {n_features} features.")
    n_channels = n_features // size
    return atoms.reshape(len(atoms), *grid, *([n_channels] if n_channels > 1 else []))


def mosaic(atoms):
    """Tiles of all atoms in one picture, each scaled to its own range with zero as middle grey, on white.

    Atoms are of shape (n_atoms, height, width[, n_channels]); 3 channels are drawn as colours, other numbers side by
    side.
    """
    if atoms.ndim == 4 and atoms.shape[3] != 3:
        atoms = np.concatenate(np.moveaxis(atoms, 3, 0), axis=2)
    scales = np.abs(atoms).reshape(len(atoms), -1).max(axis=1)
    scales = np.where(scales > 0, scales, 1).reshape(-1, *(1,) * (atoms.ndim - 1))
    tiles = 0.5 + 0.5 * atoms / scales
    n_columns = math.ceil(math.sqrt(len(tiles) * tiles.shape[1] / tiles.shape[2]))
    n_rows = math.ceil(len(tiles) / n_columns)
    height, width = tiles.shape[1] + _GAP, tiles.shape[2] + _GAP
    picture = np.ones((n_rows * height - _GAP, n_columns * width - _GAP, *tiles.shape[3:]))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, n_columns)
        picture[row * height : (row + 1) * height - _GAP, column * width : (column + 1) * width - _GAP] = tile
    return picture


def _draw_curves(ax, atoms):
    n_columns = math.ceil(math.sqrt(len(atoms)))
    scale = 0.45 / max(np.abs(atoms).max(), np.finfo(float).tiny)
    x = np.linspace(0.05, 0.95, atoms.shape[1])
    for number, atom in enumerate(atoms):
        row, column = divmod(number, n_columns)
        ax.axhline(-row, color=GRID, linewidth=0.4)
        ax.plot(column + x, scale * atom - row, color=INK, linewidth=0.8)


def _draw_usage(ax, usage):
    ax.bar(np.arange(len(usage)), usage, width=1.0, color=INK)
    ax.set(xlim=(-0.5, len(usage) - 0.5), xlabel="atom, by use", ylabel="signals")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)

"""Initial dictionaries."""

import itertools
import math

import numpy as np
from sklearn.utils import check_array

from skrobust.signals import scale_exponents, times_power


def initial_components(init, n_components, X, layout, positive, random_state):
    """Initial atoms of unit norm in the dtype of X, `init` being as in `KSVD`; `layout` is that of one signal."""
    n_features = X.shape[1]
    if not isinstance(init, str):
        return _given(init, n_components, X, layout, positive)
    n_components = n_features if n_components is None else n_components
    if init == "data":
        atoms = _from_data(n_components, X, random_state)
    elif init == "dct":
        atoms = cosine_atoms(n_components, layout)
    else:
        atoms = random_state.standard_normal((n_components, n_features))
    return unit_rows(np.abs(atoms) if positive else atoms).astype(X.dtype)


def unit_rows(atoms):
    """Rows divided by their norms; zero rows stay zero."""
    atoms = times_power(atoms, -scale_exponents(atoms))
    norms = np.linalg.norm(atoms, axis=1, keepdims=True)
    return np.divide(atoms, norms, out=np.zeros_like(atoms), where=norms > 0)


def _given(init, n_components, X, layout, positive):
    atoms = check_array(init, dtype=X.dtype, allow_nd=True, input_name="init")
    atoms = atoms.reshape(len(atoms), -1)
    if atoms.shape[1] != layout.n_features:
        raise ValueError(f"init has atoms of {atoms.shape[1]} features, but X has {layout.n_features}.")
    if n_components is not None and len(atoms) != n_components:
        raise ValueError(f"init has {len(atoms)} atoms, but n_components={n_components}. Leave n_components=None.")
    if positive and atoms.min() < 0:
        raise ValueError("init has negative values, but positive_dict=True.")
    if not atoms.any(axis=1).all():
        raise ValueError("init has atoms that are zero.")
    return unit_rows(atoms)


def _from_data(n_components, X, random_state):
    """Signals drawn without replacement; random directions if there are too few nonzero signals."""
    nonzero = np.flatnonzero(X.any(axis=1))
    drawn = random_state.permutation(nonzero)[:n_components]
    rest = random_state.standard_normal((n_components - len(drawn), X.shape[1]))
    return np.concatenate([X[drawn].astype(np.float64), rest])


def cosine_atoms(n_components, layout):
    """The `n_components` lowest frequencies of a separable overcomplete discrete cosine transform.

    Each axis of the grid has as many frequencies as needed, channels as many as their number. All atoms except the
    constant one have zero mean along each axis on which they vary, as in [1]_.

    References
    ----------
    .. [1] M. Elad and M. Aharon, "Image denoising via sparse and redundant representations over learned
       dictionaries", IEEE Trans. Image Processing 15(12), 2006.
    """
    n_grid_atoms = -(-n_components // layout.n_channels)
    varied = [size for size in layout.grid if size > 1]
    stretch = max(1.0, n_grid_atoms / math.prod(varied)) ** (1 / max(1, len(varied)))
    n_frequencies = [1 if size == 1 else math.ceil(size * stretch - 1e-9) for size in layout.grid]
    axes = [_cosines(n, size) for n, size in zip(n_frequencies, layout.grid, strict=True)]
    axes.append(_cosines(layout.n_channels, layout.n_channels))
    frequencies = [np.arange(len(axis)) / len(axis) for axis in axes]
    order = sorted(itertools.product(*(range(len(axis)) for axis in axes)), key=lambda at: _height(at, frequencies))
    atoms = np.empty((n_components, layout.n_features))
    for row, at in zip(atoms, itertools.cycle(order), strict=False):  # one sample has only one frequency
        atom = axes[0][at[0]]
        for axis, index in zip(axes[1:], at[1:], strict=True):
            atom = np.multiply.outer(atom, axis[index])
        row[:] = atom.ravel()
    return unit_rows(atoms)


def _height(at, frequencies):
    return sum(axis[index] ** 2 for index, axis in zip(at, frequencies, strict=True)), at


def _cosines(n_frequencies, size):
    atoms = np.cos(np.pi * np.outer(np.arange(n_frequencies), np.arange(size) + 0.5) / n_frequencies)
    atoms[1:] -= atoms[1:].mean(axis=1, keepdims=True)
    return atoms

"""The atoms of a `PolarizingCoder` from its parameter `dictionary`."""

import math

import numpy as np
import pywt

from skrobust.estimators.shared.conv_atoms import fitted_kernel

from .atoms import FilterAtoms, PixelAtoms
from .wavelet_atoms import WaveletAtoms

_NAMES = ("pixel", "average", "learned")
_MAX_PATCHES = 20_000


def make_atoms(dictionary, layout, values, *, kernel_size, stride, n_components, signed, level, random_state):
    """Atoms for signals of this `layout`; `values` are the training signals, for learned ones."""
    if isinstance(dictionary, str) and dictionary == "pixel":
        return PixelAtoms(layout)
    if isinstance(dictionary, pywt.Wavelet) or (isinstance(dictionary, str) and dictionary not in _NAMES):
        if isinstance(dictionary, str) and dictionary not in pywt.wavelist(kind="discrete"):
            raise ValueError(
                f"dictionary={dictionary!r} is neither one of {', '.join(map(repr, _NAMES))} nor an orthogonal wavelet "
                "of PyWavelets such as 'haar', 'db2' or 'sym4', nor an array of atoms."
            )
        return WaveletAtoms(dictionary, layout, level)
    if isinstance(dictionary, str):
        kernel = fitted_kernel(kernel_size, layout.grid)
        if dictionary == "average":
            return FilterAtoms(_per_channel(np.ones((1, *kernel)), layout.n_channels), layout, stride)
        return FilterAtoms(_learn(values, kernel, n_components, signed, random_state), layout, stride)
    return FilterAtoms(_given_filters(dictionary, layout), layout, stride)


def _per_channel(filters, n_channels):
    """Filters of one channel, (n_filters, *kernel_size), for each channel separately."""
    channel_mask = np.eye(n_channels).reshape(n_channels, *[1] * (filters.ndim - 1), n_channels)
    per_channel = filters[:, None, ..., None] * channel_mask[None]
    return per_channel.reshape(-1, *filters.shape[1:], n_channels)


def _given_filters(dictionary, layout):
    """Given atoms as filters of shape (n_filters, *kernel_size, n_channels)."""
    atoms = np.asarray(dictionary, dtype=np.float64)
    n_axes, n_channels = len(layout.grid), layout.n_channels
    if atoms.ndim == 2 and (n_axes == 2 or atoms.shape[1] == layout.n_features):
        if atoms.shape[1] != layout.n_features:
            raise _shape_error(atoms, layout)
        atoms = atoms.reshape(-1, *layout.canonical_shape)
    elif atoms.ndim == n_axes + 1:
        atoms = _per_channel(atoms, n_channels)
    elif atoms.ndim != n_axes + 2 or atoms.shape[-1] != n_channels:
        raise _shape_error(atoms, layout)
    if atoms.size == 0 or any(k > size for k, size in zip(atoms.shape[1:-1], layout.grid, strict=True)):
        raise _shape_error(atoms, layout)
    if not np.isfinite(atoms).all():
        raise ValueError("dictionary contains NaN or infinity.")
    norms = np.abs(atoms).reshape(len(atoms), -1).sum(axis=1)
    if not (norms > 0).all():
        raise ValueError(f"Atom {int(np.argmin(norms))} of dictionary is zero, so it cannot be scaled to l1 norm 1.")
    return atoms


def _shape_error(atoms, layout):
    filters = ", ".join(["n_filters", *(["kernel height", "kernel width"] if len(layout.grid) == 2 else ["length"])])
    return ValueError(
        f"dictionary of shape {atoms.shape} does not fit signals of shape {layout.canonical_shape}. Give atoms of "
        f"shape (n_atoms, {layout.n_features}), or filters of shape ({filters}[, {layout.n_channels}]) that are no "
        "larger than the signal."
    )


def _learn(values, kernel, n_components, signed, random_state):
    """Filters learned from patches of the training signals."""
    from sklearn.decomposition import MiniBatchDictionaryLearning

    patches = _patches(values, kernel, random_state)
    # The learner has absolute tolerances: divide by a power of two, so that values are at most 1.
    patches = np.ldexp(patches, -np.frexp(np.abs(patches).max())[1])
    if signed:
        patches = patches - patches.mean(axis=1, keepdims=True)
    else:
        patches = patches - min(0.0, patches.min())
    energy = np.linalg.norm(patches, axis=1)
    patches = patches[energy > 1e-3 * max(energy.max(), np.finfo(float).tiny)]
    if len(patches) == 0:
        raise ValueError(
            f"dictionary='learned' found no patch with any structure in X (n_features={values[0].size}): all are "
            "constant. Use dictionary='pixel', or signed=False."
        )
    learner = MiniBatchDictionaryLearning(
        n_components,
        alpha=0.5 * np.median(np.linalg.norm(patches, axis=1)),
        batch_size=256,
        max_iter=10,
        fit_algorithm="cd",
        transform_algorithm="lasso_cd",
        positive_code=True,
        positive_dict=not signed,
        random_state=random_state,
    )
    atoms = learner.fit(patches).components_
    norms = np.abs(atoms).sum(axis=1)
    atoms = atoms[norms > 1e-9 * norms.max()]
    return atoms.reshape(-1, *kernel, values.shape[-1])


def _patches(values, kernel, random_state):
    """At most `_MAX_PATCHES` patches at random positions, flattened."""
    n_samples, *grid = values.shape[:-1]
    spans = [size - k + 1 for size, k in zip(grid, kernel, strict=True)]
    n_positions = n_samples * math.prod(spans)
    if n_positions <= _MAX_PATCHES:
        drawn = np.arange(n_positions)
    else:
        drawn = random_state.randint(n_positions, size=_MAX_PATCHES)
    sample, *corner = np.unravel_index(drawn, (n_samples, *spans))
    windows = np.lib.stride_tricks.sliding_window_view(values, kernel, axis=tuple(range(1, values.ndim - 1)))
    # (n_samples, *spans, n_channels, *kernel) -> channels last
    patches = np.moveaxis(windows[(sample, *corner)], 1, -1)
    return patches.reshape(len(drawn), -1).astype(np.float64)

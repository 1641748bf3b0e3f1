"""Atoms of patch denoising: given, fixed or to be learned."""

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_array
from sklearn.utils.random import sample_without_replacement

from skrobust.dictionaries import KSVD, OnlineDictionaryLearning
from skrobust.dictionaries.patch.initial import cosine_atoms
from skrobust.signals import SignalLayout


def fixed_atoms(dictionary, n_components, grid, dtype):
    """The atoms of ``dictionary="dct"``, or the given ones, as rows; a ValueError if they do not fit the patches or
    `n_components`.
    """
    if isinstance(dictionary, str):
        return cosine_atoms(n_components or default_n_atoms(grid), _layout(grid)).astype(dtype)
    atoms = check_array(dictionary, dtype=dtype, allow_nd=True, input_name="dictionary")
    atoms = atoms.reshape(len(atoms), -1)
    if atoms.shape[1] != grid.n_features:
        raise ValueError(
            f"dictionary has atoms of {atoms.shape[1]} values, but patches of {grid.sample_size} with "
            f"{grid.n_channels} channels have {grid.n_features}. Set patch_size to the size of the atoms."
        )
    if n_components not in (None, len(atoms)):
        raise ValueError(
            f"dictionary has {len(atoms)} atoms, but n_components={n_components}. Leave n_components=None."
        )
    return atoms


def default_n_atoms(grid):
    """Four times the pixels of a patch."""
    return 4 * grid.size[0] * grid.size[1]


def new_learner(denoiser, grid, *, from_one_image, random_state):
    """An unfitted learner: a clone of ``denoiser.learner``, or the default one, which codes as the denoiser does.

    `from_one_image`: it will learn from the denoised image only.
    """
    shape = None if len(grid.sample_size) == 1 and grid.n_channels == 1 else _layout(grid).canonical_shape
    settings = {"image_shape": shape, "random_state": random_state, "n_jobs": denoiser.n_jobs}
    if denoiser.learner is not None:
        learner = clone(denoiser.learner)
        if denoiser.n_components is not None:
            settings["n_components"] = denoiser.n_components
        parameters = learner.get_params(deep=False)
        return learner.set_params(**{name: value for name, value in settings.items() if name in parameters})
    settings |= {
        "n_components": denoiser.n_components or default_n_atoms(grid),
        "coding": denoiser.selection,
        "n_nonzero_coefs": denoiser.n_nonzero_coefs,
        "residual_tol": denoiser._tol,
        "verbose": denoiser.verbose,
    }
    return KSVD(init="dct", max_iter=10, tol=0, **settings) if from_one_image else OnlineDictionaryLearning(**settings)


def random_patches(values, grid, *, max_patches, remove_mean, random_state):
    """Patches to learn from, as rows, drawn without replacement, without their means.

    Zero patches are left out, unless all are zero.
    """
    total = len(values) * grid.n_patches
    if total <= max_patches:
        patch_indices = np.arange(total)
    else:
        patch_indices = np.sort(sample_without_replacement(total, max_patches, random_state=random_state))
    patches = grid.extract(values, patch_indices)
    if remove_mean:
        patches = grid.remove_means(patches)
    is_nonzero = patches.any(axis=1)
    return patches[is_nonzero] if is_nonzero.any() else patches


def _layout(grid):
    return SignalLayout(grid.sample_size, grid.n_channels)

"""Checks of kernel sizes and given convolutional atoms against the signals."""

import numpy as np

from skrobust.signals import per_axis

LEARNING_TOL, LEARNING_SWEEPS = 0.02, 200
"""Relative duality gap and maximum number of sweeps of the codes in learning."""


def fitted_kernel(kernel_size, grid):
    """Kernel size along each axis, at most the size of the grid."""
    sizes = per_axis("kernel_size", kernel_size, len(grid))
    return tuple(min(size, length) for size, length in zip(sizes, grid, strict=True))


def given_atoms(name, atoms, grid, n_channels):
    """Given atoms as an array (n_atoms, *kernel_size, n_channels)."""
    atoms = np.asarray(atoms, dtype=np.float64)
    if atoms.ndim == len(grid) + 1 and n_channels == 1:
        atoms = atoms[..., None]
    if (
        atoms.ndim != len(grid) + 2
        or atoms.shape[-1] != n_channels
        or atoms.size == 0
        or any(k > n for k, n in zip(atoms.shape[1:-1], grid, strict=True))
    ):
        raise ValueError(
            f"{name} of shape {atoms.shape} does not fit signals on the grid {tuple(grid)} with {n_channels} "
            f"channel(s): it needs shape (n_atoms, *kernel_size, {n_channels}), kernels no larger than the grid."
        )
    if not np.isfinite(atoms).all():
        raise ValueError(f"{name} contains NaN or infinity.")
    return atoms

"""What the user says of convolutional atoms, checked against the signals."""

from numbers import Integral

import numpy as np


def fitted_kernel(kernel_size, grid):
    """Kernel sizes, no larger than the grid."""
    sizes = (kernel_size,) * len(grid) if isinstance(kernel_size, Integral) else tuple(kernel_size)
    if len(sizes) != len(grid) or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise ValueError(
            f"kernel_size must be an integer >= 1 or {len(grid)} of them for signals on the grid {tuple(grid)}, "
            f"got {kernel_size!r}."
        )
    return tuple(min(int(size), length) for size, length in zip(sizes, grid, strict=True))


def given_atoms(name, atoms, grid, n_channels):
    """The user's atoms, (n_atoms, *kernel_size, n_channels)."""
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

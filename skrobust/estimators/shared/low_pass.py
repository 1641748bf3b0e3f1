"""The smooth part of images, which small atoms cannot represent well."""

import numpy as np

from skrobust.signals import is_tensor


class LowPass:
    """Tikhonov's low-pass filter.

    The smooth part l of a signal x minimises ``||x - l||^2 + weight * ||grad l||^2``, for each channel separately and
    with zero gradient across the edges: a division in the cosine basis. It is linear and self-adjoint.

    Parameters
    ----------
    grid : tuple of int
    weight : float
        > 0. Structures larger than about ``sqrt(weight)`` pixels are kept.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.estimators.shared.low_pass import LowPass
    >>> ramp = np.array([[0.0, 0.0, 3.0, 3.0]])[..., None]
    >>> LowPass((4,), 1.0)(ramp)[0, :, 0].round(3)
    array([0.429, 0.857, 2.143, 2.571])
    """

    def __init__(self, grid, weight):
        self.bases = [_cosines(length) for length in grid]
        energies = 0.0
        for axis, length in enumerate(grid):
            shape = [1] * len(grid)
            shape[axis] = length
            energies = energies + (2 - 2 * np.cos(np.pi * np.arange(length) / length)).reshape(shape)
        self.gains = (1 / (1 + weight * energies))[..., None]

    def __call__(self, values):
        """Smooth part of signals of shape ``(n_samples, *grid, n_channels)``; tensors are differentiable."""
        gains, *bases = (self._like(array, values) for array in (self.gains, *self.bases))
        result = values
        for axis, basis in enumerate(bases, start=1):
            result = _along(basis, result, axis)
        result = result * gains
        for axis, basis in enumerate(bases, start=1):
            result = _along(basis.T, result, axis)
        return result

    @staticmethod
    def _like(array, values):
        return values.new_tensor(array) if is_tensor(values) else array.astype(values.dtype, copy=False)


def _cosines(length):
    """Orthonormal cosines, symmetric about the edges, one per row."""
    positions, frequencies = np.arange(length) + 0.5, np.arange(length)[:, None]
    basis = np.cos(np.pi * frequencies * positions / length) * np.sqrt(2 / length)
    basis[0] /= np.sqrt(2)
    return basis


def _along(matrix, values, axis):
    """Multiply the vectors along an axis by a matrix."""
    return (values.swapaxes(axis, -1) @ matrix.T).swapaxes(axis, -1)

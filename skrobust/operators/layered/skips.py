"""Skip connections between layers of codes: a subsampled grid, and a matrix over channels."""

import numpy as np

from skrobust.signals import is_tensor
from skrobust.signals.arrays import as_array, zeros


class SkipConnection:
    """The linear map by which the codes of a layer enter the target of a later one.

    Position i of an axis with n positions reads position ``floor(i * m / n)`` of the m positions of the source (zero if
    the source is smaller). Channels are mixed by `matrix`, (n_target_channels, n_source_channels), or copied, cut or
    padded with zeros. Without a matrix it is a partial identity of norm 1, like the parameter-free shortcuts of
    residual networks.
    """

    def __init__(self, source_shape, target_shape, matrix=None):
        self.source_shape, self.target_shape = tuple(source_shape), tuple(target_shape)
        if matrix is not None:
            matrix = matrix if is_tensor(matrix) else np.asarray(matrix, dtype=np.float64)
            wanted = self.target_shape[-1], self.source_shape[-1]
            if tuple(matrix.shape) != wanted:
                raise ValueError(f"The matrix of a skip connection must have shape {wanted}, got {matrix.shape}.")
        self.matrix = matrix
        self._positions = [
            np.arange(n) * m // n if m >= n else np.arange(m)
            for m, n in zip(self.source_shape[:-1], self.target_shape[:-1], strict=True)
        ]
        self._is_plain = self.source_shape[:-1] == self.target_shape[:-1]
        self._index = (slice(None), *np.ix_(*self._positions))

    @property
    def norm(self):
        """Largest singular value."""
        if self.matrix is None:
            return 1.0
        matrix = self.matrix.detach().cpu().double().numpy() if is_tensor(self.matrix) else self.matrix
        return float(np.linalg.norm(matrix, 2))

    def apply(self, codes):
        """``C w`` of codes of shape ``(n_samples, *source_shape)``."""
        taken = codes if self._is_plain else codes[self._index]
        if self.matrix is None:
            result = _cut_or_pad(taken, self.target_shape[-1])
        else:
            result = taken @ self._like(codes).T
        if result.shape[1:] == self.target_shape:
            return result
        padded = zeros(result, (result.shape[0], *self.target_shape))
        padded[(slice(None), *(slice(n) for n in result.shape[1:-1]))] = result
        return padded

    def adjoint(self, targets):
        """``C^T t`` of targets of shape ``(n_samples, *target_shape)``."""
        inner = targets[(slice(None), *(slice(len(taken)) for taken in self._positions))]
        if self.matrix is None:
            result = _cut_or_pad(inner, self.source_shape[-1])
        else:
            result = inner @ self._like(targets)
        if self._is_plain:
            return result
        padded = zeros(result, (result.shape[0], *self.source_shape))
        padded[self._index] = result
        return padded

    def on_arrays(self):
        """The connection with its matrix as an array."""
        matrix = None if self.matrix is None else as_array(self.matrix)
        return SkipConnection(self.source_shape, self.target_shape, matrix)

    def _like(self, values):
        if is_tensor(values):
            return self.matrix.to(values) if is_tensor(self.matrix) else values.new_tensor(self.matrix)
        return self.matrix.astype(values.dtype, copy=False)


def _cut_or_pad(values, n_channels):
    """The first channels, or all of them padded with zeros."""
    if values.shape[-1] >= n_channels:
        return values[..., :n_channels]
    padded = zeros(values, (*values.shape[:-1], n_channels))
    padded[..., : values.shape[-1]] = values
    return padded

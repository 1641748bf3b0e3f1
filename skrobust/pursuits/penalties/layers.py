"""A penalty whose groups hold atoms of several layers."""

import numpy as np

from skrobust.operators.layered.dictionary import split_rows, stack
from skrobust.signals import is_tensor

from .base import Penalty


class OverLayers(Penalty):
    """A penalty on the atoms of all layers at each position, for codes of a `LayeredDictionary` stacked in one row.

    The inner penalty takes codes of shape ``(n_samples, *positions, n_components of all layers)``. Raises a ValueError
    if the layers, of shapes `code_shapes`, have different grids of positions.
    """

    def __init__(self, penalty, code_shapes):
        grids = [tuple(shape[:-1]) for shape in code_shapes]
        if len(set(grids)) > 1:
            raise ValueError(
                f"{type(penalty).__name__}(over='layers') needs layers with the same grid of positions, got "
                f"{', '.join(map(str, grids))}: use padding='same' and stride=1."
            )
        self.penalty, self.code_shapes = penalty, code_shapes

    @property
    def is_norm(self):
        """The same of the inner penalty."""
        return self.penalty.is_norm

    def value(self, codes):
        """The same of the inner penalty."""
        return self.penalty.value(self._concatenated(codes))

    def prox(self, values, step):
        """The same of the inner penalty; `step` must be a number."""
        return self._stacked(self.penalty.prox(self._concatenated(values), step))

    def dual_norm(self, correlations):
        """The same of the inner penalty."""
        return self.penalty.dual_norm(self._concatenated(correlations))

    def gradient(self, codes):
        """The same of the inner penalty."""
        return self._stacked(self.penalty.gradient(self._concatenated(codes)))

    def hessian_product(self, codes, direction):
        """The same of the inner penalty."""
        maps = self._concatenated(codes), self._concatenated(direction)
        return self._stacked(self.penalty.hessian_product(*maps))

    def _concatenated(self, rows):
        """Codes with the atoms of all layers on the last axis."""
        parts = split_rows(rows, self.code_shapes)
        if not is_tensor(rows):
            return np.concatenate(parts, axis=-1)
        import torch

        return torch.cat(parts, dim=-1)

    def _stacked(self, maps):
        ends = np.cumsum([0, *(shape[-1] for shape in self.code_shapes)])
        return stack([maps[..., first:last] for first, last in zip(ends[:-1], ends[1:], strict=True)])

"""A penalty whose groups hold atoms of several layers."""

import numpy as np

from skrobust.operators.layered.dictionary import split_rows, stack
from skrobust.signals import is_tensor

from .base import Penalty


class OverLayers(Penalty):
    """A penalty of the atoms of all layers at each position, for the codes of a `LayeredDictionary` in one row.

    The inner penalty is one of codes ``(n_samples, *positions, n_components of all layers)``. A ValueError if layers,
    of the shapes `code_shapes`, have different positions.
    """

    def __init__(self, penalty, code_shapes):
        grids = [tuple(shape[:-1]) for shape in code_shapes]
        if len(set(grids)) > 1:
            raise ValueError(
                f"{type(penalty).__name__}(over='layers') needs layers with one grid of positions, got "
                f"{', '.join(map(str, grids))}: use padding='same' and stride=1."
            )
        self.penalty, self.code_shapes = penalty, code_shapes

    @property
    def is_norm(self):
        """That of the penalty."""
        return self.penalty.is_norm

    def value(self, codes):
        """That of the penalty."""
        return self.penalty.value(self._side_by_side(codes))

    def prox(self, values, step):
        """That of the penalty, for a step that is a number."""
        return self._in_rows(self.penalty.prox(self._side_by_side(values), step))

    def dual_norm(self, correlations):
        """That of the penalty."""
        return self.penalty.dual_norm(self._side_by_side(correlations))

    def gradient(self, codes):
        """That of the penalty."""
        return self._in_rows(self.penalty.gradient(self._side_by_side(codes)))

    def hessian_product(self, codes, direction):
        """That of the penalty."""
        maps = self._side_by_side(codes), self._side_by_side(direction)
        return self._in_rows(self.penalty.hessian_product(*maps))

    def _side_by_side(self, rows):
        """Codes with the atoms of all layers on the last axis."""
        parts = split_rows(rows, self.code_shapes)
        if not is_tensor(rows):
            return np.concatenate(parts, axis=-1)
        import torch

        return torch.cat(parts, dim=-1)

    def _in_rows(self, maps):
        ends = np.cumsum([0, *(shape[-1] for shape in self.code_shapes)])
        return stack([maps[..., first:last] for first, last in zip(ends[:-1], ends[1:], strict=True)])

"""Transformers side by side: FeatureUnion and ColumnTransformer."""

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion
from torch import nn

from skrobust.bridge.registry import register_module


class SideBySide(nn.Module):
    """Outputs of several modules, weighted and joined along the features. Each reads its `columns`: an int means one
    column as a vector, None all of them.
    """

    def __init__(self, modules, columns, weights):
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.weights = weights
        for i, column in enumerate(columns):
            self.register_buffer(f"columns_{i}", torch.tensor(column) if isinstance(column, int) else column)

    def forward(self, X):
        outputs = []
        for i, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            columns = getattr(self, f"columns_{i}")
            output = part(X if columns is None else X[:, columns])
            outputs.append(output if weight is None else output * weight)
        if not outputs:
            return X.new_zeros((X.shape[0], 0))
        return torch.cat(outputs, dim=1)


@register_module(FeatureUnion)
def convert_feature_union(estimator, conversion):
    weights = estimator.transformer_weights or {}
    used = [(name, step) for name, step in estimator.transformer_list if not _is(step, "drop")]
    return SideBySide(
        [_convert_part(name, step, conversion) for name, step in used],
        [None] * len(used),
        [weights.get(name) for name, _ in used],
    )


@register_module(ColumnTransformer)
def convert_column_transformer(estimator, conversion):
    weights = estimator.transformer_weights or {}
    modules, columns, used = [], [], []
    for name, step, selection in estimator.transformers_:
        # The positions that names, slices, masks or callables selected in fit.
        positions = np.asarray(estimator._transformer_to_input_indices[name], dtype=np.int64)
        if _is(step, "drop") or positions.size == 0:
            continue
        modules.append(_convert_part(name, step, conversion))
        columns.append(int(positions[0]) if np.isscalar(selection) else conversion.indices(positions))
        used.append(name)
    return SideBySide(modules, columns, [weights.get(name) for name in used])


def _convert_part(name, step, conversion):
    if step is None or _is(step, "passthrough"):
        return nn.Identity()
    return conversion(step, name=name, role="transformer")


def _is(step, word):
    return isinstance(step, str) and step == word

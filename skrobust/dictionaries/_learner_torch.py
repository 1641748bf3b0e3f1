"""A dictionary learner as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch
from torch import nn

from skrobust.bridge import as_one_node, with_backward
from skrobust.pursuits import ConvolutionalOperator
from skrobust.pursuits._omp_batches import most_atoms
from skrobust.pursuits._smooth_torch import smooth_steps
from skrobust.signals._tensors import is_exporting

from ._coding import GREEDY

GAP = 1e-4
"""Relative duality gap of l1 codes in an exported graph: that of `basis_pursuit`."""
MOST_STEPS = 1000
"""Passes of `basis_pursuit`, at most."""


class DictionaryModule(nn.Module):
    """The codes of a fitted dictionary learner, always dense.

    Gradient modes. "exact" and "projection": that of least squares on the atoms chosen. "identity": of the
    correlations in place of codes. "smooth": of a short pursuit whose shrinkage is smooth, so that atoms outside the
    support have a gradient. "skip": correlations in place of codes, forward and backward.
    """

    def __init__(self, estimator, conversion):
        super().__init__()
        self.gradient = conversion.gradient
        self.estimator = estimator
        self.layout = estimator._layout
        self.register_buffer("components", conversion.tensor(estimator.components_))

    def forward(self, X):
        rows = self.layout.place(X).values.flatten(1)
        correlations = rows @ self.components.T
        if self.gradient == "skip":
            return correlations
        if is_exporting():
            return self._exported(rows)
        codes = as_one_node(self._codes, rows)
        if self.gradient == "identity":
            return with_backward(codes, correlations)
        if self.gradient == "smooth" and torch.is_grad_enabled() and rows.requires_grad:
            return with_backward(codes, self._smooth_codes(rows, codes.detach()))
        return codes

    def _codes(self, rows):
        codes = self.estimator._encode(rows, self.components)
        return codes.to_dense() if codes.is_sparse else codes

    def _smooth_codes(self, rows, codes):
        estimator = self.estimator
        operator = ConvolutionalOperator(self.components[..., None], (rows.shape[1], 1), padding="valid")
        alpha = estimator.alpha
        if estimator.coding in GREEDY:  # the penalty at which about as many atoms would be chosen
            strengths = (rows @ self.components.T).detach().abs().sort(1, descending=True).values
            kept = (codes != 0).sum(1, keepdim=True).clamp(1, strengths.shape[1])
            alpha = strengths.gather(1, kept - 1)[:, None].clamp_min(torch.finfo(rows.dtype).tiny)
        return smooth_steps(rows[..., None], operator, codes[:, None], alpha, estimator.positive_code)[:, 0]

    def _exported(self, rows):
        from skrobust.pursuits._export_torch import greedy_approximations, solve_lasso

        estimator, components = self.estimator, self.components
        if estimator.coding in GREEDY:
            n_atoms, n_features = estimator.components_.shape
            most = most_atoms(estimator.n_nonzero_coefs, estimator.residual_tol, n_atoms, n_features)
            tol, by_gain = estimator.residual_tol, estimator.coding == "ols"
            return greedy_approximations(rows, components, most=most, tol=tol, by_gain=by_gain)[1]
        columns = components.T.clone()  # loops take no two views of one tensor
        return solve_lasso(
            rows,
            lambda signals: signals @ columns,
            lambda codes: codes @ components,
            rows.new_tensor(estimator.alpha),
            float(np.linalg.norm(estimator.components_, 2) ** 2),
            positive=estimator.positive_code,
            tol=GAP,
            max_iter=MOST_STEPS,
        )

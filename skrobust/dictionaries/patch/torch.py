"""A dictionary learner as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch

from skrobust.bridge import FrontEndModule
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits.greedy.omp.batches import resolve_max_atoms
from skrobust.pursuits.proximal.smooth import smooth_steps
from skrobust.signals.tensors import is_exporting

from .coding import GREEDY

GAP = 1e-4
"""Relative duality gap of l1 codes in an exported graph: that of `basis_pursuit`."""
MAX_ITER = 1000
"""Maximum number of passes of `basis_pursuit`."""


class DictionaryModule(FrontEndModule):
    """The codes of a fitted dictionary learner, always dense.

    Gradient modes. "exact" and "projection": that of least squares on the selected atoms. "identity": that of the
    correlations, used in place of the codes. "smooth": that of a short pursuit with smooth shrinkage, so that atoms
    outside the support have a gradient. "skip": correlations in place of codes, forward and backward.
    """

    def __init__(self, estimator, conversion):
        super().__init__(conversion.gradient, layout=estimator._layout, rebuilds=False, one_node=True)
        self.estimator = estimator
        self.register_buffer("components", conversion.tensor(estimator.components_))

    def observe(self, values):
        return values.flatten(1)

    def undefended(self, seen):
        return seen @ self.components.T

    def exact(self, seen):
        if is_exporting():
            return self._exported(seen)
        codes = self.estimator._encode(seen, self.components)
        return codes.to_dense() if codes.is_sparse else codes

    def relaxed(self, seen, codes):
        estimator = self.estimator
        operator = ConvolutionalOperator(self.components[..., None], (seen.shape[1], 1), padding="valid")
        alpha = estimator.alpha
        if estimator.coding in GREEDY:  # a penalty at which about as many atoms are selected
            magnitudes = self.undefended(seen).detach().abs().sort(1, descending=True).values
            n_selected = (codes != 0).sum(1, keepdim=True).clamp(1, magnitudes.shape[1])
            alpha = magnitudes.gather(1, n_selected - 1)[:, None].clamp_min(torch.finfo(seen.dtype).tiny)
        return smooth_steps(seen[..., None], operator, codes[:, None], alpha, estimator.positive_code)[:, 0]

    def _exported(self, rows):
        from skrobust.pursuits.proximal.export import greedy_approximations, solve_lasso

        estimator, components = self.estimator, self.components
        if estimator.coding in GREEDY:
            n_atoms, n_features = estimator.components_.shape
            max_atoms = resolve_max_atoms(estimator.n_nonzero_coefs, estimator.residual_tol, n_atoms, n_features)
            tol, by_gain = estimator.residual_tol, estimator.coding == "ols"
            return greedy_approximations(rows, components, max_atoms=max_atoms, tol=tol, by_gain=by_gain)[1]
        columns = components.T.clone()  # loops take no two views of one tensor
        return solve_lasso(
            rows,
            lambda signals: signals @ columns,
            lambda codes: codes @ components,
            rows.new_tensor(estimator.alpha),
            float(np.linalg.norm(estimator.components_, 2) ** 2),
            positive=estimator.positive_code,
            tol=GAP,
            max_iter=MAX_ITER,
        )

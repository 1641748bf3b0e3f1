"""`ConvSparseCoder` as a torch module, with the backward passes that an attacker may choose."""

import math
import warnings

import torch
from torch import nn

from skrobust.bridge import as_one_node, with_backward
from skrobust.pursuits import ConvolutionalOperator, convolutional_thresholding, implicit_pursuit
from skrobust.pursuits._conv_pursuit_torch import with_support_gradient
from skrobust.pursuits._smooth_torch import smooth_shrink, smooth_steps
from skrobust.signals._tensors import is_exporting

from ._clip_torch import finish_reconstruction
from ._conv_pooling import pool_codes
from ._conv_pursuits import n_atoms_wanted, pursue


class ConvSparseCoderModule(nn.Module):
    """The coder of a fitted `ConvSparseCoder`.

    Gradient modes. "exact": the derivative of the solution (of the least squares on the chosen atoms, for matching
    pursuit). "projection": that of least squares on the support at the input; the same for basis pursuit up to the
    penalty, whose derivative is zero. "identity": of the correlations in place of codes, of the image in place of
    reconstructions. "smooth": of a short pursuit whose shrinkage is smooth, so that atoms outside the support have a
    gradient. "skip": correlations in place of codes, forward and backward; images in place of reconstructions.
    """

    def __init__(self, estimator, tensor, gradient):
        super().__init__()
        self.gradient = gradient
        self.estimator = estimator
        self.layout = estimator._layout
        self.rebuilds = estimator.output == "reconstruction"
        self.register_buffer("components", tensor(estimator.components_))

    def forward(self, X):
        if self.gradient == "skip" and self.rebuilds:
            return X
        signals = self.layout.place(X)
        plain = self.gradient == "skip" or self.estimator.pursuit == "thresholding"
        result = self.encode(signals.values) if plain else as_one_node(self.encode, signals.values)
        return signals.restore(result) if self.rebuilds else result

    def encode(self, values):
        """Features, or reconstructions on the grid, of signals on their grid."""
        operator, low_pass = self._operator(), self.estimator._low_pass
        smooth = 0 if low_pass is None else low_pass(values)
        details = values - smooth
        if self.gradient == "skip":
            return self._features(operator.analyze(details))
        codes = self._codes(details, operator)
        if not self.rebuilds:
            return self._features(codes)
        rebuilt = smooth + operator.synthesize(codes)
        return finish_reconstruction(rebuilt, values, self.estimator.clip, self.gradient)

    def _operator(self):
        fitted = self.estimator._operator
        operator = ConvolutionalOperator(
            self.components, fitted.signal_shape, padding=fitted.padding, stride=fitted.stride
        )
        if is_exporting():  # the norm is found on arrays
            operator.lipschitz = fitted.lipschitz
        return operator

    def _features(self, codes):
        pool = self.estimator.pool
        return (codes if pool is None else pool_codes(codes, pool, self.estimator.pool_size)).flatten(1)

    def _codes(self, values, operator):
        estimator = self.estimator
        if is_exporting():
            return self._pursue(values, operator)
        if estimator.pursuit == "bp" and self.gradient == "exact":
            with estimator._shortfalls.gathered(type(estimator).__name__):
                return self._pursue(values, operator)
        if estimator.pursuit == "thresholding" and self.gradient == "exact":
            return convolutional_thresholding(values, operator, estimator.alpha, positive=estimator.positive)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = self._pursue(values, operator)
        if self.gradient == "identity":
            return with_backward(codes, operator.analyze(values))
        if self.gradient == "smooth":
            return with_backward(codes, self._smooth_codes(values, operator, codes))
        return with_support_gradient(values, operator, codes)

    def _pursue(self, values, operator):
        estimator = self.estimator
        if estimator.pursuit == "omp" and is_exporting():
            return self._exported_omp(values, operator)
        if estimator.pursuit == "omp":
            arrays = values.detach().cpu().numpy()
            return values.new_tensor(pursue(estimator, arrays))
        if estimator.pursuit == "thresholding":
            return convolutional_thresholding(values, operator, estimator.alpha, positive=estimator.positive)
        return implicit_pursuit(
            values,
            operator,
            estimator.alpha,
            positive=estimator.positive,
            tol=estimator.tol,
            max_iter=estimator.max_iter,
        )

    def _exported_omp(self, values, operator):
        from skrobust.pursuits._export_torch import greedy_approximations

        shape = operator.code_shape
        n_codes = math.prod(shape)
        atoms = operator.synthesize(torch.eye(n_codes, dtype=values.dtype, device=values.device).reshape(-1, *shape))
        most = min(n_atoms_wanted(self.estimator), n_codes)
        codes = greedy_approximations(values.flatten(1), atoms.flatten(1), most=most)[1]
        return codes.reshape(-1, *shape)

    def _smooth_codes(self, values, operator, codes):
        """A few proximal steps from the codes, whose shrinkage is smooth; one, from zero, for thresholding."""
        estimator = self.estimator
        if estimator.pursuit == "thresholding":
            return smooth_shrink(operator.analyze(values), estimator.alpha, estimator.positive)
        alpha = estimator.alpha
        if estimator.pursuit == "omp":  # the penalty at which about as many atoms would be chosen
            correlations = operator.analyze(values).detach().abs().flatten(1)
            kept = (codes != 0).flatten(1).sum(1).clamp(1, correlations.shape[1])
            alpha = correlations.sort(1, descending=True).values.gather(1, (kept - 1)[:, None])
            alpha = alpha.reshape(-1, *[1] * (codes.ndim - 1)).clamp(min=torch.finfo(values.dtype).tiny)
        return smooth_steps(values, operator, codes, alpha, estimator.positive)


def transform_tensor(estimator, signals):
    """What `estimator` makes of tensors, differentiable."""
    values = signals.values

    def tensor(array):
        return torch.as_tensor(array, dtype=values.dtype, device=values.device)

    result = ConvSparseCoderModule(estimator, tensor, "exact").encode(values)
    return signals.restore(result) if estimator.output == "reconstruction" else result

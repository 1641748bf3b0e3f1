"""`ConvSparseCoder` as a torch module, with the backward passes that an attacker may choose."""

import math

import torch

from skrobust.bridge import FrontEndModule, as_one_node
from skrobust.bridge.recall import recalled_pursuit
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_thresholding, implicit_pursuit
from skrobust.pursuits.implicit.conv import with_support_gradient
from skrobust.pursuits.proximal.smooth import smooth_shrink, smooth_steps
from skrobust.signals.arrays import by_sample
from skrobust.signals.tensors import is_exporting

from .pooling import pool_codes
from .pursuits import has_positive_codes, n_atoms_per_image, pursue


class ConvSparseCoderModule(FrontEndModule):
    """The coder of a fitted `ConvSparseCoder`.

    Gradient modes. "exact": the derivative of the solution (for matching pursuit, of least squares on the selected
    atoms). "projection": that of least squares on the support at the input; for basis pursuit under the l1 norm the
    same as "exact". "identity": that of the correlations in place of codes, or of the image in place of
    reconstructions. "smooth": that of a short pursuit with smooth shrinkage, so that atoms outside the support have a
    gradient; uses the l1 norm for any penalty. "skip": correlations in place of codes, forward and backward; images in
    place of reconstructions.
    """

    alpha = None
    """A tensor of penalties, one per sample, in place of the estimator's `alpha`. None: the estimator's."""

    def __init__(self, estimator, tensor, gradient):
        super().__init__(
            gradient,
            layout=estimator._layout,
            rebuilds=estimator.output == "reconstruction",
            clip=estimator.clip,
            one_node=estimator.pursuit != "thresholding",
        )
        self.estimator = estimator
        self.register_buffer("components", tensor(estimator.components_))

    def observe(self, values):
        return values - self._smooth_part(values)

    def codes(self, seen):
        if self.alpha is None:
            return super().codes(seen)
        # The penalty is homogeneous: codes of x at alpha are alpha times those of x / alpha at 1.
        alpha = by_sample(self.alpha, seen)
        return super().codes(seen / alpha) * alpha

    def residual(self, X):
        """What the codes of images leave out of the part that is coded, on the grid of the images."""
        seen = self.observe(self.layout.place(X).values)
        return as_one_node(lambda part: part - self._operator().synthesize(self.codes(part)), seen)

    @property
    def _penalty_weight(self):
        return self.estimator.alpha if self.alpha is None else 1.0

    def undefended(self, seen):
        return self._operator().analyze(seen)

    def exact(self, seen):
        estimator = self.estimator
        if is_exporting() or estimator.pursuit == "thresholding":
            return self.encode(seen)
        if estimator.pursuit == "omp":
            return self.projected(seen, self.encode(seen))
        with estimator._convergence_log.warning_once(type(estimator).__name__):
            return self.encode(seen)

    def projected(self, seen, codes):
        return with_support_gradient(seen, self._operator(), codes)

    def relaxed(self, seen, codes):
        """A few proximal steps with smooth shrinkage from the codes; for thresholding, one from zero."""
        estimator, operator = self.estimator, self._operator()
        if estimator.pursuit == "thresholding":
            return smooth_shrink(operator.analyze(seen), self._penalty_weight, estimator.positive)
        operator.lipschitz = estimator._operator.lipschitz  # computed once, not at each pass
        alpha = self._penalty_weight
        if estimator.pursuit == "omp":  # a penalty at which about as many atoms are selected
            correlations = operator.analyze(seen).detach().abs().flatten(1)
            n_selected = (codes != 0).flatten(1).sum(1).clamp(1, correlations.shape[1])
            alpha = correlations.sort(1, descending=True).values.gather(1, (n_selected - 1)[:, None])
            alpha = alpha.reshape(-1, *[1] * (codes.ndim - 1)).clamp(min=torch.finfo(seen.dtype).tiny)
        return smooth_steps(seen, operator, codes, alpha, has_positive_codes(estimator))

    def features(self, codes):
        pool = self.estimator.pool
        return (codes if pool is None else pool_codes(codes, pool, self.estimator.pool_size)).flatten(1)

    def rebuild(self, codes, values):
        return self._smooth_part(values) + self._operator().synthesize(codes)

    def _smooth_part(self, values):
        low_pass = self.estimator._low_pass
        return 0 if low_pass is None else low_pass(values)

    def _operator(self):
        fitted = self.estimator._operator
        operator = ConvolutionalOperator(
            self.components, fitted.signal_shape, padding=fitted.padding, stride=fitted.stride
        )
        if is_exporting():  # the norm is computed on arrays
            operator.lipschitz = fitted.lipschitz
        return operator

    def encode(self, seen):
        estimator, operator = self.estimator, self._operator()
        if estimator.pursuit == "omp" and is_exporting():
            return self._exported_omp(seen, operator)
        if estimator.pursuit == "omp":
            arrays = seen.detach().cpu().numpy()
            return seen.new_tensor(pursue(estimator, arrays))
        if estimator.pursuit == "thresholding":
            return convolutional_thresholding(seen, operator, self._penalty_weight, positive=estimator.positive)

        def solve(init, tol):
            return implicit_pursuit(
                seen,
                operator,
                self._penalty_weight,
                penalty=estimator.penalty,
                positive=estimator.positive,
                init=init,
                tol=tol,
                max_iter=estimator.max_iter,
            )

        return recalled_pursuit(id(estimator), seen, solve, estimator.tol)

    def _exported_omp(self, values, operator):
        from skrobust.pursuits.proximal.export import greedy_approximations

        shape = operator.code_shape
        n_codes = math.prod(shape)
        atoms = operator.synthesize(torch.eye(n_codes, dtype=values.dtype, device=values.device).reshape(-1, *shape))
        max_atoms = min(n_atoms_per_image(self.estimator), n_codes)
        codes = greedy_approximations(values.flatten(1), atoms.flatten(1), max_atoms=max_atoms)[1]
        return codes.reshape(-1, *shape)


def transform_tensor(estimator, signals):
    """Output of `estimator` for tensors, differentiable."""
    values = signals.values

    def tensor(array):
        return torch.as_tensor(array, dtype=values.dtype, device=values.device)

    result = ConvSparseCoderModule(estimator, tensor, "exact").outputs(values)
    return signals.restore(result) if estimator.output == "reconstruction" else result

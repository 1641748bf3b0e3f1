"""The steps and layers of a converted classifier whose sparsity one parameter sets, and their residuals."""

import math
from contextlib import ExitStack, contextmanager, suppress
from numbers import Real

import numpy as np
import torch

ATTRIBUTES = "alpha", "n_nonzero_coefs"
"""Parameters that set how sparse codes are."""


class SparseModules:
    """Modules inside a classifier's module that share one sparsity.

    Each has the attribute, which takes one value per sample, and ``residual(x)``: what its codes leave out of x.

    Parameters
    ----------
    module : nn.Module
        A converted classifier.
    estimator : estimator or nn.Module
        The fitted classifier.
    param_name : str or None
        As for `AdaptiveSparsity`.
    """

    def __init__(self, module, estimator, param_name):
        step_name, _, attribute = (param_name or "").rpartition("__")
        if attribute and attribute not in ATTRIBUTES:
            raise ValueError(f"param_name must end in {' or '.join(map(repr, ATTRIBUTES))}, got {param_name!r}.")
        step = _step(estimator, step_name, param_name) if step_name else None
        found = {}
        for one in module.modules():
            owner = getattr(one, "estimator", None)
            if hasattr(one, "residual") and (step is None or owner is step):
                for name in (attribute,) if attribute else ATTRIBUTES:
                    if hasattr(one, name):
                        found.setdefault((name, None if owner is None else id(owner)), []).append(one)
        if not found:
            raise ValueError(
                f"{type(estimator).__name__} has no step or layer whose sparsity can be set"
                f"{f' by {param_name!r}' if param_name else ''}. It needs a ConvSparseCoder, a WaveletSparsifier, or a "
                "network with layers of type skrobust.nn.CSCLayer."
            )
        if len(found) > 1:
            raise ValueError(
                f"{type(estimator).__name__} has {len(found)} steps whose sparsity can be set. Say which by "
                "param_name, such as 'step__alpha'."
            )
        ((self.attribute, _), self.modules) = next(iter(found.items()))
        self.base = self._base_value()

    def _base_value(self):
        """The value at which the classifier was fitted."""
        first = self.modules[0]
        owner = getattr(first, "estimator", None)
        value = getattr(first if owner is None else owner, self.attribute)
        is_coder = owner is not None and self.attribute == "alpha"
        if is_coder and (owner.pursuit == "omp" or owner.penalty not in ("l1", "group_l1")):
            raise ValueError(
                "The sparsity of a ConvSparseCoder is set by alpha with pursuit='bp' or 'thresholding' and "
                f"penalty='l1' or 'group_l1', got pursuit={owner.pursuit!r}, penalty={owner.penalty!r}."
            )
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = float(value)
        if isinstance(value, (tuple, list, torch.Tensor)) or not isinstance(value, Real):
            raise ValueError(f"{self.attribute} must be one number for all samples and channels, got {value!r}.")
        if self.attribute == "n_nonzero_coefs" and value >= 1 and not isinstance(value, float):
            value = value / owner.basis_.n_coefficients
        return float(value)

    def check(self, values):
        """Raise an error for values that the modules do not take."""
        low, high = float(np.min(values)), float(np.max(values))
        if self.attribute == "n_nonzero_coefs":
            if not 0 < low <= high <= 1:
                raise ValueError(f"param_range must hold fractions in (0, 1] of n_nonzero_coefs, got {values!r}.")
        elif not 0 < low <= high < math.inf:
            raise ValueError(f"param_range must hold values of alpha > 0, got {values!r}.")

    @contextmanager
    def set_to(self, values):
        """Context in which the sparsity is `values`, a tensor with one for each sample."""
        before = [getattr(module, self.attribute) for module in self.modules]
        try:
            for module in self.modules:
                setattr(module, self.attribute, values)
            yield
        finally:
            for module, value in zip(self.modules, before, strict=True):
                setattr(module, self.attribute, value)

    def residuals(self, run, X):
        """Root mean square of what codes leave out of each sample, averaged over the layers.

        Parameters
        ----------
        run : callable
            The classifier's module. It is stopped once all residuals are known.
        X : Tensor

        Returns
        -------
        Tensor of shape (n_samples,)
        """
        norms = {}

        def record(module, inputs):
            if module in norms:  # the call inside `residual`
                return
            norms[module] = None
            flat = module.residual(inputs[0]).flatten(1)
            norms[module] = torch.linalg.vector_norm(flat, dim=1) / math.sqrt(flat.shape[1])
            if len(norms) == len(self.modules):
                raise _AllKnown

        with ExitStack() as stack:
            for module in self.modules:
                stack.enter_context(module.register_forward_pre_hook(record))
            with suppress(_AllKnown):
                run(X)
        return torch.stack(list(norms.values())).mean(0)


class _AllKnown(Exception):
    """Stops a forward pass."""


def _step(estimator, name, param_name):
    parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
    if name not in parameters:
        raise ValueError(f"param_name={param_name!r}: {type(estimator).__name__} has no step {name!r}.")
    return parameters[name]

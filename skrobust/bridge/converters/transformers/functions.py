"""FunctionTransformer over functions that take tensors."""

import numpy as np
import torch
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skrobust.bridge.registry import register_module


class Function(nn.Module):
    """A user's function of X; an error if its output is not connected to X by torch operations."""

    def __init__(self, function, settings, refuse):
        super().__init__()
        self._function = function
        self._settings = settings
        self._refuse = refuse

    def forward(self, X):
        try:
            output = self._function(X, **self._settings)
        except Exception as error:
            raise self._refuse(f"its function failed on a tensor ({type(error).__name__}: {error})") from error
        if not isinstance(output, torch.Tensor):
            raise self._refuse(f"its function turned a tensor into {type(output).__name__}")
        if X.requires_grad and torch.is_grad_enabled() and not output.requires_grad:
            raise self._refuse("the output of its function does not depend on X through torch operations")
        return output


@register_module(FunctionTransformer)
def convert_function_transformer(estimator, conversion):
    function, settings = estimator.func, dict(estimator.kw_args or {})
    if function is None:
        return nn.Identity()
    if isinstance(function, np.ufunc) and hasattr(torch, function.__name__):
        function = getattr(torch, function.__name__)

    def refuse(reason):
        return conversion.no_gradient(estimator, f"{reason}; use operations that NumPy and torch share")

    module = Function(function, settings, refuse)
    _compare(estimator, module, refuse)
    return module


def _compare(estimator, module, refuse):
    """Compare outputs on arrays and tensors, which may differ (``std`` of torch divides by n - 1)."""
    if not hasattr(estimator, "n_features_in_"):
        return
    probe = np.random.default_rng(0).uniform(size=(3, estimator.n_features_in_))
    try:
        expected = np.asarray(estimator.func(probe.copy(), **(estimator.kw_args or {})), dtype=np.float64)
    except Exception:
        # The function needs other input than numbers in [0, 1], so nothing can be compared; errors appear in use.
        return
    output = module(torch.tensor(probe, requires_grad=True)).detach().numpy()
    if output.shape != expected.shape or not np.allclose(output, expected, rtol=1e-9, atol=1e-12, equal_nan=True):
        raise refuse("its function computes something else on tensors than on arrays")

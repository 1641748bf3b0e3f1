"""Registration of front ends that run on arrays only. Does not import torch before the first conversion."""

from .registry import register_module


def register_array_front_end(front_end):
    """Allow gradient attacks through a front end of your own that is written in NumPy.

    The front end is a transformer whose ``transform(X)`` has the shape of X. The forward pass of its module calls
    `transform` on arrays; with ``gradient="identity"`` the backward pass is the identity (BPDA), and with "skip" the
    front end is left out. "exact", "projection" and "smooth" have the same forward pass, but their backward pass
    raises `NoGradientError`. Attacks with ``gradient="worst"`` use the identity as its backward pass in all modes.

    Parameters
    ----------
    front_end : type
        A transformer class. May be used as a decorator.

    Returns
    -------
    type
        `front_end`.

    See Also
    --------
    register_module : For estimators with a torch form.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from skrobust.bridge import as_module, register_array_front_end
    >>> @register_array_front_end
    ... class Levels(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         self.n_features_in_ = X.shape[1]
    ...         return self
    ...     def transform(self, X):
    ...         return np.round(X)
    >>> X = torch.tensor([[0.2, 0.9]], dtype=torch.float64, requires_grad=True)
    >>> levels = as_module(Levels().fit(np.ones((1, 2))), gradient="identity")(X)
    >>> levels.sum().backward()
    >>> levels.tolist(), X.grad.tolist()
    ([[0.0, 1.0]], [[1.0, 1.0]])
    """
    if not isinstance(front_end, type) or not hasattr(front_end, "transform"):
        raise TypeError(f"register_array_front_end takes a class with the method transform, got {front_end!r}.")

    @register_module(front_end, role="transformer")
    def convert(estimator, conversion):
        from .front_ends import ArrayFrontEndModule

        return ArrayFrontEndModule(estimator, conversion.gradient, conversion.describe(estimator))

    return front_end

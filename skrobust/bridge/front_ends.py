"""The torch form of a front end or coder, and the choice of its backward pass."""

import warnings
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skrobust.signals import Signals, clip_values
from skrobust.signals.tensors import is_exporting

from .autograd import as_one_node, with_backward
from .registry import NoGradientError

_identity_for_arrays = ContextVar("identity_for_arrays", default=False)


class FrontEndModule(nn.Module):
    """Base of the torch forms of front ends and coders: it picks the backward pass that an attacker chose.

    A subclass defines `exact`, the codes with their true derivative; for a front end without codes they are the images
    that it returns. Where it has them, it also defines `relaxed` (for "smooth"), `projected` (for "projection") and the
    other methods below. Modes that it lacks are differentiated as "exact". The forward pass is that of the estimator
    in all modes but "skip".

    Parameters
    ----------
    gradient : {"exact", "identity", "projection", "smooth", "skip"}
        As for `skrobust.as_module`.
    layout : SignalLayout or None, default=None
        Layout in which X is passed to the methods. None: X is passed unchanged.
    rebuilds : bool, default=True
        Whether it returns images of the shape of X, not codes. Then the derivative of "identity" is that of X, and
        "skip" returns X.
    clip : tuple of float or None, default=None
        Range of the images it returns. Only "exact" differentiates through the clip.
    one_node : bool, default=False
        Whether its operations depend on the values of X, so that a trace must call it again, see `as_one_node`.

    Attributes
    ----------
    projected : callable or None
        ``projected(seen, codes)`` returns a tensor whose derivative takes the place of that of `codes`.
    relaxed : callable or None
        The same for the mode "smooth".

    Examples
    --------
    >>> import torch
    >>> from skrobust.bridge import FrontEndModule
    >>> class Rounding(FrontEndModule):
    ...     def exact(self, seen):
    ...         return seen.round()
    ...     def relaxed(self, seen, codes):
    ...         return seen - torch.sin(2 * torch.pi * seen) / (2 * torch.pi)
    >>> X = torch.tensor([[0.25, 1.5]], requires_grad=True)
    >>> for gradient in ("exact", "identity", "smooth"):
    ...     rounded = Rounding(gradient)(X)
    ...     (slope,) = torch.autograd.grad(rounded.sum(), X)
    ...     print(rounded.tolist(), slope.tolist())
    [[0.0, 2.0]] [[0.0, 0.0]]
    [[0.0, 2.0]] [[1.0, 1.0]]
    [[0.0, 2.0]] [[1.0, 2.0]]
    """

    projected = None
    relaxed = None

    def __init__(self, gradient, *, layout=None, rebuilds=True, clip=None, one_node=False):
        super().__init__()
        self.gradient, self.layout = gradient, layout
        self.rebuilds, self.clip, self.one_node = rebuilds, clip, one_node

    def forward(self, X):
        """Reconstructions in the layout of X, or features.

        Parameters
        ----------
        X : Tensor of shape (n_samples, ...)
            In the layout that the front end takes.

        Returns
        -------
        Tensor
        """
        if self.gradient == "skip" and self.rebuilds:
            return X
        signals = Signals(X, tuple(X.shape[1:])) if self.layout is None else self.layout.place(X)
        node = self.one_node and self.gradient != "skip"
        result = as_one_node(self.outputs, signals.values) if node else self.outputs(signals.values)
        return signals.restore(result) if self.rebuilds else result

    def outputs(self, values):
        """Features, or reconstructions on the grid, of signals on their grid."""
        seen = self.observe(values)
        if self.gradient == "skip":
            return self.features(self.undefended(seen))
        codes = self.codes(seen)
        if not self.rebuilds:
            return self.features(codes)
        rebuilt = self.rebuild(codes, values)
        clipped = rebuilt if self.clip is None else clip_values(rebuilt, *self.clip)
        if self.gradient == "identity":
            return with_backward(clipped, values)
        return clipped if self.gradient == "exact" or self.clip is None else with_backward(clipped, rebuilt)

    def codes(self, seen):
        """Codes of what `observe` returned, with the backward pass of the mode."""
        surrogate = {
            "identity": lambda seen, codes: self.undefended(seen),
            "projection": self.projected,
            "smooth": self.relaxed,
        }.get(self.gradient)
        if surrogate is None or is_exporting():
            return self.exact(seen)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codes = self.encode(seen.detach())
        if not torch.jit.is_tracing() and not (torch.is_grad_enabled() and seen.requires_grad):
            return codes
        relaxed = surrogate(seen, codes)
        if isinstance(codes, list):
            return [with_backward(*pair) for pair in zip(codes, relaxed, strict=True)]
        return with_backward(codes, relaxed)

    def observe(self, values):
        """The part of the signals that is coded, such as the high-pass part. By default all of them."""
        return values

    def exact(self, seen):
        """Codes (a tensor, or a list with one per layer) with the derivative that they have almost everywhere."""
        raise NotImplementedError

    def encode(self, seen):
        """Codes without derivative, if there is a cheaper way than `exact`."""
        return self.exact(seen)

    def undefended(self, seen):
        """Codes without any selection: "identity" differentiates them, "skip" returns them."""
        return seen

    def features(self, codes):
        """The rows that a coder returns."""
        return codes

    def rebuild(self, codes, values):
        """The images that a front end returns, before the clip."""
        return codes


class ArrayFrontEndModule(FrontEndModule):
    """A fitted front end that runs on arrays and keeps the shape of X, see `register_array_front_end`."""

    def __init__(self, estimator, gradient, name):
        super().__init__(gradient, one_node=True)
        self.estimator, self.name = estimator, name

    def exact(self, seen):
        if _identity_for_arrays.get():
            return with_backward(self.encode(seen.detach()), seen)
        return _WithoutDerivative.apply(seen, self)

    def encode(self, seen):
        """The output of `transform`, as a tensor."""
        if is_exporting():
            raise TypeError(f"{self.name} runs on arrays: it cannot be exported as a graph of torch operations.")
        result = self.estimator.transform(self._as_fitted(seen.cpu().numpy()))
        result = np.asarray(result.toarray() if sparse.issparse(result) else result)
        if result.shape != tuple(seen.shape):
            raise ValueError(
                f"transform of {self.name} returned shape {result.shape} for X of shape {tuple(seen.shape)}. "
                "register_array_front_end takes transformers that keep the shape of X; register others with "
                "register_module."
            )
        return torch.tensor(result, dtype=seen.dtype, device=seen.device)

    def _as_fitted(self, X):
        """X with the names of the columns that `fit` saw, if any."""
        names = getattr(self.estimator, "feature_names_in_", None)
        if names is None or X.ndim != 2:
            return X
        import pandas

        return pandas.DataFrame(X, columns=names)


class _WithoutDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, seen, module):
        ctx.name = module.name
        return module.encode(seen.detach())

    @staticmethod
    def backward(ctx, grad):
        raise NoGradientError(
            f"No gradient through {ctx.name}: it runs on arrays, registered with register_array_front_end. Use "
            "gradient='identity', whose backward pass through it is the identity, gradient='worst' in an attack, or "
            "gradient='skip'."
        )


@contextmanager
def identity_for_arrays():
    """Context in which front ends that run on arrays have the identity as their backward pass in every mode."""
    token = _identity_for_arrays.set(True)
    try:
        yield
    finally:
        _identity_for_arrays.reset(token)

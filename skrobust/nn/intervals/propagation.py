"""Where the activations of a network lie if its input lies in a box: one rule for each kind of layer."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from skrobust.kernels.rounding import gamma

_RULES = {}


class NoBoundsError(ValueError):
    """A layer has no interval rule."""


@dataclass(frozen=True)
class Spread:
    """Activations of a batch: those of the images themselves, and a box that holds those of all perturbed images.

    Attributes
    ----------
    value, centre, radius : Tensor of the same shape
        The box is ``[centre - radius, centre + radius]``. Layers in training mode take their statistics from `value`.
    arithmetic : torch.dtype or None
        The dtype in which the network runs, if bounds must include its rounding errors; None: exact arithmetic.
    """

    value: torch.Tensor
    centre: torch.Tensor
    radius: torch.Tensor
    arithmetic: torch.dtype | None = None

    @classmethod
    def around(cls, X, eps, clip, arithmetic=None):
        """The l-infinity balls of radius `eps` (a number, or one per image) around images, within `clip`."""
        if isinstance(eps, torch.Tensor) and eps.ndim:
            eps = eps.reshape(-1, *[1] * (X.ndim - 1))
        low, high = X - eps, X + eps
        if clip is not None:
            low, high = low.clamp(*clip), high.clamp(*clip)
        return cls(X, (low + high) / 2, (high - low) / 2, arithmetic).widened(2)

    @property
    def lower(self):
        """Lower bounds."""
        return self.centre - self.radius

    @property
    def upper(self):
        """Upper bounds."""
        return self.centre + self.radius

    @property
    def size(self):
        """Bounds of the magnitudes."""
        return self.centre.abs() + self.radius

    def affine(self, function, magnitude, n_operations):
        """The spread behind an affine layer.

        Parameters
        ----------
        function : callable
            The layer, for a batch.
        magnitude : callable
            ``magnitude(size, with_offset)``: the layer with absolute values of its weights, and of its offset or
            without it.
        n_operations : int
            Longest chain of rounded operations behind an output.
        """
        n = len(self.value)
        both = function(torch.cat((self.value, self.centre)))
        radius = magnitude(self.radius, False)
        if self.arithmetic is not None:
            radius = radius + _error(n_operations, self.arithmetic) * magnitude(self.size, True)
            radius = radius + n_operations * torch.finfo(self.arithmetic).tiny
        return replace(self, value=both[:n], centre=both[n:], radius=radius)

    def monotone(self, function, n_operations=0):
        """The spread behind an increasing function; `n_operations`: roundings of each of its values."""
        low, high = function(self.lower), function(self.upper)
        spread = replace(self, value=function(self.value), centre=(low + high) / 2, radius=(high - low) / 2)
        return spread.widened(n_operations + 4)

    def __add__(self, other):
        """The spread of the sum, as behind a residual connection."""
        parts = {name: getattr(self, name) + getattr(other, name) for name in ("value", "centre", "radius")}
        return replace(self, **parts).widened(2)

    def reshaped(self, function):
        """The spread behind a function that only moves values."""
        parts = {name: function(getattr(self, name)) for name in ("value", "centre", "radius")}
        return replace(self, **parts)

    def widened(self, n_operations):
        """The spread with room for roundings of each value."""
        if self.arithmetic is None:
            return self
        return replace(self, radius=self.radius + _error(n_operations, self.arithmetic) * self.size)


def register_interval(kind):
    """Register the interval rule of a class of layer.

    Parameters
    ----------
    kind : type
        A subclass of `torch.nn.Module`. The rule is also used for its subclasses.

    Returns
    -------
    decorator
        For a function ``rule(layer, spread)`` that returns a `Spread`.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn.intervals import register_interval
    >>> class Shift(torch.nn.Module):
    ...     def forward(self, X):
    ...         return X + 1
    >>> @register_interval(Shift)
    ... def shift(layer, spread):
    ...     return spread.monotone(layer, n_operations=1)
    """

    def enter(rule):
        _RULES[kind] = rule
        return rule

    return enter


def propagate(network, spread):
    """The spread behind a network whose layers have rules.

    Parameters
    ----------
    network : torch.nn.Module
    spread : Spread

    Raises
    ------
    NoBoundsError
        Names the layer that has no rule.
    """
    rule = next((_RULES[kind] for kind in type(network).__mro__ if kind in _RULES), None)
    if rule is None:
        raise NoBoundsError(
            f"No interval bounds through {type(network).__name__}: register a rule with "
            "skrobust.nn.intervals.register_interval, or build the network of layers that have one."
        )
    return rule(network, spread)


@register_interval(nn.Sequential)
def _sequential(network, spread):
    for layer in network:
        spread = propagate(layer, spread)
    return spread


def _error(n_operations, arithmetic):
    """Relative rounding error of the network's arithmetic and of the bounds', which are computed in float64."""
    return gamma(n_operations + 2, str(arithmetic).removeprefix("torch.")) + gamma(n_operations + 6, "float64")

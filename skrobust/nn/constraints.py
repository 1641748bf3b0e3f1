"""Constraints on parameters of torch modules, kept by `torch.nn.utils.parametrize`."""

import torch
from torch import nn
from torch.nn.utils import parametrize


class UnitNorm(nn.Module):
    """Atoms divided by their norms; atoms of zeros stay zero.

    The parametrization of a tensor whose first axis counts atoms.
    """

    def forward(self, atoms):
        """Atoms of norm 1."""
        norms = torch.linalg.vector_norm(atoms.flatten(1), dim=1).clamp(min=torch.finfo(atoms.dtype).tiny)
        return atoms / norms.reshape(-1, *[1] * (atoms.ndim - 1))

    def right_inverse(self, atoms):
        """Any multiple of the atoms gives them; they are stored as they are."""
        return atoms


class Between(nn.Module):
    """Values clipped to a range.

    A stored value outside the range, or at its end, has a gradient only where a step of descent leads back into it.

    Parameters
    ----------
    low, high : float or None
        None: no bound.
    """

    def __init__(self, low=None, high=None):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, values):
        """Values within the range."""
        return _Clip.apply(values, self.low, self.high)

    def right_inverse(self, values):
        """Values are stored as they are."""
        return values

    def extra_repr(self):
        """Show both bounds."""
        return f"low={self.low}, high={self.high}"


class _Clip(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(values, low, high):
        return values.clamp(low, high)

    @staticmethod
    def setup_context(ctx, inputs, output):
        values, ctx.low, ctx.high = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def backward(ctx, gradient):
        (values,) = ctx.saved_tensors
        blocked = torch.zeros_like(values, dtype=torch.bool)
        if ctx.low is not None:
            blocked = blocked | ((values <= ctx.low) & (gradient > 0))
        if ctx.high is not None:
            blocked = blocked | ((values >= ctx.high) & (gradient < 0))
        return gradient.masked_fill(blocked, 0), None, None


class Constrainable:
    """Mixin for modules with parametrizations: they can be pickled, which torch refuses."""

    def __reduce_ex__(self, protocol):
        """Pickle the stored values and their parametrizations; both are registered again on loading."""
        if not parametrize.is_parametrized(self):
            return super().__reduce_ex__(protocol)
        state = {**self.__dict__, "_parameters": dict(self._parameters)}
        state["_modules"] = {name: one for name, one in self._modules.items() if name != "parametrizations"}
        constrained = {name: (chain.original, list(chain)) for name, chain in self.parametrizations.items()}
        return _restored, (parametrize.type_before_parametrizations(self), state, constrained)


def _restored(cls, state, constrained):
    module = cls.__new__(cls)
    module.__dict__.update(state)
    for name, (original, chain) in constrained.items():
        module.register_parameter(name, original)
        for one in chain:
            parametrize.register_parametrization(module, name, one, unsafe=True)
    return module


class ParameterList(Constrainable, nn.ParameterList):
    """A `torch.nn.ParameterList`, optionally with one constraint on all its parameters.

    Parameters
    ----------
    parameters : list of Parameter
    constraint : callable or None, default=None
        Makes the parametrization of each parameter, such as `UnitNorm`.
    """

    def __init__(self, parameters, constraint=None):
        super().__init__(parameters)
        for name in map(str, range(len(self))):
            if constraint is not None:
                parametrize.register_parametrization(self, name, constraint())

    def __setitem__(self, index, values):
        """Replace a parameter; a constrained one takes tensors of any values."""
        name = str(range(len(self))[index])
        if parametrize.is_parametrized(self, name):
            setattr(self, name, torch.as_tensor(values).detach())
        else:
            super().__setitem__(index, values)

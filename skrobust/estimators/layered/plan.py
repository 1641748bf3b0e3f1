"""Checks of the parameters of layers: atoms, kernel sizes and strides, one per layer."""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from skrobust.estimators.shared.conv_atoms import fitted_kernel, given_atoms
from skrobust.operators import ConvolutionalOperator


class LayerPlan(NamedTuple):
    """Number, size and distance of the atoms of one layer."""

    n_components: int
    kernel_size: object
    stride: int

    def kernel_on(self, grid):
        """Kernel size along each axis, at most that of the grid; the whole grid for None."""
        return tuple(grid) if self.kernel_size is None else fitted_kernel(self.kernel_size, grid)


def plan_layers(n_components, kernel_size, stride):
    """One `LayerPlan` per layer; a ValueError if the numbers of entries differ or a value is invalid.
    """
    n_atoms = [n_components] if isinstance(n_components, Integral) else list(n_components)
    if not n_atoms or not all(isinstance(n, Integral) and n >= 1 for n in n_atoms):
        raise ValueError(f"n_components must be an integer >= 1 or one for each layer, got {n_components!r}.")
    kernels = one_per_layer("kernel_size", kernel_size, len(n_atoms))
    strides = one_per_layer("stride", stride, len(n_atoms))
    if not all(isinstance(s, Integral) and s >= 1 for s in strides):
        raise ValueError(f"stride must be an integer >= 1 or one for each layer, got {stride!r}.")
    return [LayerPlan(int(n), k, int(s)) for n, k, s in zip(n_atoms, kernels, strides, strict=True)]


def one_per_layer(name, value, n_layers):
    """A list with one entry per layer; a single value is repeated."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} has {len(value)} entries for the {n_layers} layers of n_components: give one for all, or one "
            "per layer."
        )
    return list(value)


def alphas_per_layer(name, value, n_layers):
    """Numbers >= 0, one per layer."""
    values = one_per_layer(name, value, n_layers)
    try:
        values = [float(v) for v in values]
        good = all(np.isfinite(v) and v >= 0 for v in values)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"{name} must be a number >= 0 or one for each layer, got {value!r}.")
    return values


def given_operators(dictionaries, signal_shape, padding, stride):
    """Given atoms as operators, each on the codes of the previous one."""
    dictionaries = list(dictionaries)
    if not dictionaries:
        raise ValueError("dictionaries is empty: give an array of atoms for each layer.")
    strides = one_per_layer("stride", stride, len(dictionaries))
    operators, shape = [], signal_shape
    for j, (atoms, s) in enumerate(zip(dictionaries, strides, strict=True)):
        atoms = given_atoms(f"dictionaries[{j}]", atoms, shape[:-1], shape[-1])
        operators.append(ConvolutionalOperator(atoms, shape, padding=padding, stride=s))
        shape = operators[-1].code_shape
    return operators

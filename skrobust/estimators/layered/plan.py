"""What the user says of layers, checked against the signals: atoms, kernels, strides, one entry a layer."""

from numbers import Integral
from typing import NamedTuple

import numpy as np

from skrobust.estimators.shared.conv_atoms import fitted_kernel, given_atoms
from skrobust.operators import ConvolutionalOperator


class LayerPlan(NamedTuple):
    """One layer: how many atoms of which size, and how far apart."""

    n_components: int
    kernel_size: object
    stride: int

    def kernel_on(self, grid):
        """Kernel sizes on this grid, no larger than it; all of it for None."""
        return tuple(grid) if self.kernel_size is None else fitted_kernel(self.kernel_size, grid)


def plan_layers(n_components, kernel_size, stride):
    """One `LayerPlan` a layer; a ValueError if the three do not have as many entries, or one is no number of atoms or
    stride.
    """
    counts = [n_components] if isinstance(n_components, Integral) else list(n_components)
    if not counts or not all(isinstance(n, Integral) and n >= 1 for n in counts):
        raise ValueError(f"n_components must be an integer >= 1 or one for each layer, got {n_components!r}.")
    kernels = one_a_layer("kernel_size", kernel_size, len(counts))
    strides = one_a_layer("stride", stride, len(counts))
    if not all(isinstance(s, Integral) and s >= 1 for s in strides):
        raise ValueError(f"stride must be an integer >= 1 or one for each layer, got {stride!r}.")
    return [LayerPlan(int(n), k, int(s)) for n, k, s in zip(counts, kernels, strides, strict=True)]


def one_a_layer(name, value, n_layers):
    """A list of `n_layers` entries: those given, or one for all."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(
            f"{name} has {len(value)} entries for the {n_layers} layers of n_components: give one for all, or one a "
            "layer."
        )
    return list(value)


def strengths_of_layers(name, value, n_layers):
    """Numbers >= 0, one a layer."""
    values = one_a_layer(name, value, n_layers)
    try:
        values = [float(v) for v in values]
        good = all(np.isfinite(v) and v >= 0 for v in values)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ValueError(f"{name} must be a number >= 0 or one for each layer, got {value!r}.")
    return values


def given_operators(dictionaries, signal_shape, padding, stride):
    """The user's atoms as operators, each on the codes of the one before."""
    dictionaries = list(dictionaries)
    if not dictionaries:
        raise ValueError("dictionaries is empty: give an array of atoms for each layer.")
    strides = one_a_layer("stride", stride, len(dictionaries))
    operators, shape = [], signal_shape
    for j, (atoms, s) in enumerate(zip(dictionaries, strides, strict=True)):
        atoms = given_atoms(f"dictionaries[{j}]", atoms, shape[:-1], shape[-1])
        operators.append(ConvolutionalOperator(atoms, shape, padding=padding, stride=s))
        shape = operators[-1].code_shape
    return operators

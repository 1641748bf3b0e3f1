"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

import importlib

from ._basis_pursuit import alpha_max, basis_pursuit
from ._conv_greedy import convolutional_omp, convolutional_thresholding
from ._conv_operator import ConvolutionalOperator
from ._conv_path import convolutional_path
from ._conv_pursuit import PursuitResult, convolutional_alpha_max, convolutional_basis_pursuit
from ._deep_pursuit import deep_pursuit
from ._layered_pursuit import LayeredResult, layered_basis_pursuit, layered_thresholding
from ._layers import LayeredDictionary
from ._multilayer_pursuit import multilayer_pursuit
from ._omp import orthogonal_mp, orthogonal_mp_gram
from ._wavelets import WaveletBasis

__all__ = [
    "ConvolutionalOperator",
    "LayeredDictionary",
    "LayeredResult",
    "PursuitResult",
    "WaveletBasis",
    "alpha_max",
    "basis_pursuit",
    "convolutional_alpha_max",
    "convolutional_basis_pursuit",
    "convolutional_omp",
    "convolutional_path",
    "convolutional_thresholding",
    "deep_pursuit",
    "implicit_deep_pursuit",
    "implicit_pursuit",
    "layered_basis_pursuit",
    "layered_thresholding",
    "multilayer_pursuit",
    "orthogonal_mp",
    "orthogonal_mp_gram",
    "shrink_with_momentum",
    "unrolled_pursuit",
]

_NEED_TORCH = {
    "implicit_deep_pursuit": "_deep_pursuit_torch",
    "implicit_pursuit": "_conv_pursuit_torch",
    "shrink_with_momentum": "_fused_torch",
    "unrolled_pursuit": "_conv_pursuit_torch",
}


def __getattr__(name):
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

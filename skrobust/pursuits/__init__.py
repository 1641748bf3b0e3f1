"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

import importlib

# Problems are stated with operators, so that they can be imported from here, too.
from skrobust.operators import ConvolutionalOperator, LayeredDictionary, WaveletBasis  # noqa: F401
from skrobust.pursuits.greedy.conv.pursuit import convolutional_omp, convolutional_thresholding
from skrobust.pursuits.greedy.omp.omp import orthogonal_mp, orthogonal_mp_gram
from skrobust.pursuits.lasso.conv.path import convolutional_path
from skrobust.pursuits.lasso.conv.pursuit import convolutional_alpha_max, convolutional_basis_pursuit
from skrobust.pursuits.lasso.dense import alpha_max, basis_pursuit
from skrobust.pursuits.layered.cascade import layered_basis_pursuit, layered_thresholding
from skrobust.pursuits.layered.deep import deep_pursuit
from skrobust.pursuits.layered.multilayer import multilayer_pursuit
from skrobust.pursuits.penalties import L1, ElasticNet, GroupL1, Penalty
from skrobust.pursuits.problem import Problem
from skrobust.pursuits.proximal.fista import fista
from skrobust.pursuits.result import Result

__all__ = [
    "ElasticNet",
    "GroupL1",
    "L1",
    "Penalty",
    "Problem",
    "Result",
    "alpha_max",
    "basis_pursuit",
    "convolutional_alpha_max",
    "convolutional_basis_pursuit",
    "convolutional_omp",
    "convolutional_path",
    "convolutional_thresholding",
    "deep_pursuit",
    "fista",
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
    "implicit_deep_pursuit": "implicit.deep",
    "implicit_pursuit": "implicit.conv",
    "shrink_with_momentum": "proximal.fused",
    "unrolled_pursuit": "implicit.conv",
}


def __getattr__(name):
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

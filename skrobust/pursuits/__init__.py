"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

from ._conv_operator import ConvolutionalOperator
from ._omp import orthogonal_mp, orthogonal_mp_gram
from ._wavelets import WaveletBasis

__all__ = ["ConvolutionalOperator", "WaveletBasis", "orthogonal_mp", "orthogonal_mp_gram"]

"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

from ._omp import orthogonal_mp, orthogonal_mp_gram
from ._wavelets import WaveletBasis

__all__ = ["WaveletBasis", "orthogonal_mp", "orthogonal_mp_gram"]

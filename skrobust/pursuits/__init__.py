"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

from ._wavelets import WaveletBasis

__all__ = ["WaveletBasis"]

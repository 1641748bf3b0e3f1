"""Solvers: pure functions on arrays, numba on the CPU and torch for tensors."""

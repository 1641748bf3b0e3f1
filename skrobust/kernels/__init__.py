"""Building blocks of the numba kernels: explicit vectors, threads, rounding."""

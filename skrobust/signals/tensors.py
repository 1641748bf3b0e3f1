"""Tensors recognised and checked without loading torch for those who use none."""

import sys


def is_tensor(X):
    """Whether `X` is a torch tensor; never imports torch.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.signals import is_tensor
    >>> is_tensor(np.zeros(3))
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def check_tensor(X, *, name):
    """Return `X` as float32 or float64, with NumPy input's rules: finite, real, at least one sample and feature."""
    import torch

    if X.is_complex():
        raise ValueError(f"Complex data not supported: {name} got a tensor of dtype {X.dtype}.")
    if X.ndim < 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D tensor instead for {name}. Reshape one sample with X.reshape(1, -1)."
        )
    if X.shape[0] == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={tuple(X.shape)}) while a minimum of 1 is required by {name}."
        )
    if X[0].numel() == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={tuple(X.shape)}) while a minimum of 1 is required by {name}."
        )
    if X.dtype != torch.float32:
        X = X.to(torch.float64)
    if not bool(torch.isfinite(X).all()):
        raise ValueError(f"Input X contains NaN or infinity; {name} needs finite values. Impute or drop those samples.")
    return X

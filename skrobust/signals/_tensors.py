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


def is_exporting():
    """Whether `torch.export` or the ONNX exporter is recording; never imports torch.

    What is recorded then consists of torch operations alone, and depends on the values of X through tensors only.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    # torch 2.4 to 2.6 tell exporting from compiling by no public name.
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def kept_tensor(cache, key, make, like):
    """The array that `make` returns as a tensor of the dtype and on the device of `like`, kept in `cache`.

    It is an ordinary tensor also where it is made in inference mode, so that a later backward pass may use it; what is
    made while a graph is exported belongs to that graph and is not kept.
    """
    import torch

    key = *key, like.dtype, like.device
    if key in cache:
        return cache[key]
    with torch.inference_mode(False):
        tensor = torch.tensor(make(), dtype=like.dtype, device=like.device)
    if not is_exporting():
        cache[key] = tensor
    return tensor


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

"""Detection and validation of tensors without importing torch."""

import sys

import numpy as np


def is_tensor(X):
    """Whether `X` is a torch tensor; never imports torch.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    bool

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.signals import is_tensor
    >>> is_tensor(np.zeros(3))
    False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.Tensor)


def to_numpy(values):
    """Values as an ndarray of their own dtype; a tensor is detached, and copied to the CPU."""
    return values.detach().cpu().numpy() if is_tensor(values) else np.asarray(values)


def is_exporting():
    """Whether `torch.export` or the ONNX exporter is recording; never imports torch.

    The recorded code must consist of torch operations only, without control flow on the values of X.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    # torch 2.4 to 2.6 have no public function that distinguishes exporting from compiling.
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def kept_tensor(cache, key, make, like):
    """The array returned by `make` as a tensor with the dtype and device of `like`, stored in `cache`.

    It is an ordinary tensor even in inference mode, so that a later backward pass can use it. Tensors created during
    an export belong to the exported graph and are not cached.
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
    """Validate `X` like NumPy input (finite, real, not empty) and return it as float32 or float64."""
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

"""Penalties that keep atoms apart: the stability theorems ask for incoherent dictionaries."""

import torch
from torch.nn import functional


def parseval_penalty(components):
    """How far atoms are from a Parseval frame: ``||W W^T - I||_F^2``, or of ``W^T W`` where that is smaller.

    Parameters
    ----------
    components : Tensor of shape ``(n_components, *kernel_size, n_channels)``
        Rows of W, flattened.

    Returns
    -------
    Tensor of no dimension

    References
    ----------
    .. [1] M. Cisse, P. Bojanowski, E. Grave, Y. Dauphin, N. Usunier, "Parseval networks", ICML 2017, eq. 6.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import parseval_penalty
    >>> parseval_penalty(torch.eye(4).reshape(4, 2, 2, 1)).item()
    0.0
    """
    rows = components.flatten(1)
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    return ((gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)) ** 2).sum()


def incoherence_penalty(components, stride=1):
    """Mean squared inner product of different atoms, divided by their norms, at all shifts that overlap.

    Parameters
    ----------
    components : Tensor of shape ``(n_components, *kernel_size, n_channels)``
    stride : int or tuple of int, default=1
        Positions between shifts.

    Returns
    -------
    Tensor of no dimension
        Zero for atoms that are orthogonal to all shifted others.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import incoherence_penalty
    >>> incoherence_penalty(torch.eye(4).reshape(4, 2, 2, 1), stride=2).item()
    0.0
    """
    kernel = components.shape[1:-1]
    strides = (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride)
    norms = components.flatten(1).norm(dim=1).clamp(min=torch.finfo(components.dtype).tiny)
    filters = (components / norms.reshape(-1, *[1] * (components.ndim - 1))).movedim(-1, 1)
    # Shifts by multiples of the stride, as far as atoms overlap; the middle one is none.
    most = [(k - 1) // s for k, s in zip(kernel, strides, strict=True)]
    margins = [m * s for m, s in zip(most, strides, strict=True)]
    correlate = functional.conv1d if len(kernel) == 1 else functional.conv2d
    products = correlate(filters, filters, stride=strides, padding=margins)
    squares = (products**2).sum()
    own = products[(range(len(filters)), range(len(filters)), *most)]
    return (squares - (own**2).sum()) / products.numel()

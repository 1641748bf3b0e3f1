"""Penalties on the coherence of atoms, as suggested by the stability theorems."""

import itertools

import torch


def parseval_penalty(components):
    """Distance of the atoms from a Parseval frame.

    ``||W W^T - I||_F^2``, or with ``W^T W`` if that matrix is smaller.

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


def incoherence_penalty(components, stride=1, code_grid=None):
    """Mean squared inner product of different atoms, divided by their norms, at all shifts that overlap.

    Parameters
    ----------
    components : Tensor of shape ``(n_components, *kernel_size, n_channels)``
    stride : int or tuple of int, default=1
        Positions between shifts.
    code_grid : tuple of int or None, default=None
        Positions of each atom, which limit the shifts. None: all shifts that overlap.

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
    atoms = components / norms.reshape(-1, *[1] * (components.ndim - 1))
    max_shifts = [(k - 1) // s for k, s in zip(kernel, strides, strict=True)]
    if code_grid is not None:
        max_shifts = [min(m, n - 1) for m, n in zip(max_shifts, code_grid, strict=True)]
    total, shifts = 0.0, list(itertools.product(*(range(-m, m + 1) for m in max_shifts)))
    for shift in shifts[len(shifts) // 2 :]:  # zero, and one of each pair of opposite shifts
        pixels = [s * stride for s, stride in zip(shift, strides, strict=True)]
        shifted = atoms[(slice(None), *(slice(max(p, 0), k + min(p, 0)) for p, k in zip(pixels, kernel, strict=True)))]
        fixed = atoms[(slice(None), *(slice(max(-p, 0), k - max(p, 0)) for p, k in zip(pixels, kernel, strict=True)))]
        squares = (shifted.flatten(1) @ fixed.flatten(1).T) ** 2
        if any(shift):
            total = total + 2 * squares.sum()
        else:
            total = total + squares.sum() - squares.diagonal().sum()
    return total / (len(atoms) ** 2 * len(shifts))

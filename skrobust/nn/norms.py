"""Squared norms of dictionaries by power iteration, each from where the last one ended."""

import torch


@torch.no_grad()
def update_squared_norm(direction, apply, adjoint, n_iter, *, tol=0.0):
    """Power iterations for the largest eigenvalue of ``adjoint(apply(.))``, in full precision.

    Parameters
    ----------
    direction : Tensor
        Starting point; changed in place to the last product, the starting point of the next call.
    apply, adjoint : callable
        A linear map and its adjoint, of tensors of the shape of `direction`.
    n_iter : int
        Maximum number of iterations, at least 1.
    tol : float, default=0.0
        Stop once an iteration raises the estimate by less than this share.

    Returns
    -------
    Tensor of no dimension
        The squared norm of `apply`, or less: estimates rise with the iterations. Positive.
    """
    tiny, before = torch.finfo(direction.dtype).tiny, None
    with torch.autocast(direction.device.type, enabled=False):
        for _ in range(n_iter):
            direction /= direction.norm().clamp(min=tiny)
            image = apply(direction)
            squared_norm = (image * image).sum().clamp(min=tiny)
            direction.copy_(adjoint(image))
            if tol and before is not None and bool(squared_norm <= (1 + tol) * before):
                break
            before = squared_norm
    return squared_norm

"""The lasso of tensors on the CPU, by the kernels; values are differentiable."""

import torch

from skrobust.pursuits.greedy.omp.torch import FixedSupport, as_array, assembled, padded_codes
from skrobust.signals.tensors import check_tensor

from .arrays import basis_pursuit_of_arrays


def checked_tensors(X, components):
    """Both as tensors of the dtype and device of `X`, finite and of shapes that fit."""
    X = check_tensor(X, name="basis_pursuit")
    components = check_tensor(torch.as_tensor(components, device=X.device), name="components").to(X.dtype)
    if X.shape[1] != components.shape[1]:
        raise ValueError(f"X has {X.shape[1]} features, but components has {components.shape[1]}.")
    return X, components


def basis_pursuit_of_tensors(X, components, *, alpha, gram, sparse_output, **settings):
    """The `Result` of `basis_pursuit` for a tensor `X`; the other arrays may be tensors or not."""
    X, components = checked_tensors(X, components)
    alpha = as_array(alpha)
    result = basis_pursuit_of_arrays(
        X.detach().numpy(),
        components.detach().numpy(),
        alpha=alpha if alpha.ndim else float(alpha),
        gram=None if gram is None else as_array(gram),
        sparse_output=True,
        **settings,
    )
    atoms, values = padded_codes(result.codes)
    values = FixedSupport.apply(X, components, atoms, values, None)
    return result._replace(codes=assembled(atoms, values, len(components), sparse_output))

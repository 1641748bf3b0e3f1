"""The lasso of tensors on the CPU, by the kernels; values are differentiable."""

from skrobust.pursuits.greedy.omp.torch import FixedSupport, as_array, assemble_codes, checked_tensors, padded_codes

from .arrays import basis_pursuit_of_arrays


def basis_pursuit_of_tensors(X, components, *, alpha, gram, sparse_output, **settings):
    """The `Result` of `basis_pursuit` for a tensor `X`; the other arrays may be tensors or not."""
    X, components = checked_tensors(X, components, "basis_pursuit")
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
    return result._replace(codes=assemble_codes(atoms, values, len(components), sparse_output))

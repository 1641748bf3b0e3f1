"""The pursuits of a `ConvSparseCoder`."""

from contextlib import nullcontext

from skrobust.pursuits import convolutional_basis_pursuit, convolutional_omp, convolutional_thresholding
from skrobust.signals import convergence_warnings_ignored, count_of, is_tensor


def check_device(device):
    """A ValueError for devices that torch does not know or that are not available."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"device must be None or an available torch device, got {device!r}: {error}") from error


def n_atoms_per_image(coder):
    """Number of atoms of each image, for matching pursuit."""
    return count_of(0.1 if coder.n_nonzero_coefs is None else coder.n_nonzero_coefs, coder.n_features_in_)


def has_positive_codes(coder):
    """Whether codes are >= 0, by the coder or by its penalty."""
    return coder.positive or getattr(coder.penalty, "positive", False)


def pursue(coder, values):
    """Codes of arrays or tensors on the grid of a fitted coder, without a gradient."""
    operator, options = coder._operator, {"n_jobs": coder.n_jobs}
    if coder.pursuit == "thresholding":
        return convolutional_thresholding(values, operator, coder.alpha, positive=coder.positive, **options)
    if coder.pursuit == "omp":
        return convolutional_omp(values, operator, n_nonzero_coefs=n_atoms_per_image(coder), **options)
    # float32 may not reach a small gap because of rounding: no warning then.
    value_bytes = values.element_size() if is_tensor(values) else values.itemsize
    with convergence_warnings_ignored() if value_bytes == 4 and coder.tol < 1e-5 else nullcontext():
        return convolutional_basis_pursuit(
            values,
            operator,
            coder.alpha,
            penalty=coder.penalty,
            positive=coder.positive,
            tol=coder.tol,
            max_iter=coder.max_iter,
            **options,
        ).codes

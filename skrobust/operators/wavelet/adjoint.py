"""The adjoint of wavelet synthesis where it is not its inverse: odd sizes, and filters that are not orthonormal."""

from skrobust.signals.arrays import like, zeros


def adjoint_of_synthesis(plan, X):
    """Inner products of signals with the signal of each coefficient, ``(n_samples, n_channels, *plan.shape)``, for
    arrays or tensors.
    """
    coarse = X.swapaxes(1, -1)
    if coarse.ndim == 4:
        coarse = coarse.swapaxes(2, 3)
    result = zeros(X, (*coarse.shape[:2], *plan.shape))
    for level in range(plan.n_levels):
        block = coarse @ like(plan.synthesis_matrix(-1, level), X)
        if coarse.ndim == 4:
            block = like(plan.synthesis_matrix(0, level).T, X) @ block
        result[_corner(block.shape[2:])] = block
        # The coarser levels replace the low bands; the gaps that odd sizes leave are zero.
        result[_corner(starts[level] for starts in plan.starts)] = 0
        coarse = block[_corner(sizes[level + 1] for sizes in plan.sizes)]
    result[_corner(coarse.shape[2:])] = coarse
    return result


def _corner(sizes):
    return (..., *(slice(size) for size in sizes))

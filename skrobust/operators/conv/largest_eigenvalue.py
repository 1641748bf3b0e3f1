"""Upper bounds on the largest eigenvalue of semidefinite matrices, given by entries, stacks or products."""

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackError, eigsh

SMALL = 256
"""Up to this size matrices are decomposed; for larger ones a Cholesky factor proves a bound."""

SLACK = 1e-3
"""Relative excess of a proved bound over the eigenvalue."""

FAILURE = 1e-12
"""Failure probability of the bound from products, over random starts."""

SQUARINGS = 3
"""k of the bound ``||G^(2^k)||_F^(1 / 2^k)``, which avoids decomposing most matrices of a stack."""


def of_matrix(gram):
    """Largest eigenvalue, at most 0.1 % too large and never too small."""
    n = len(gram)
    top = float(gram.diagonal().max())
    if n <= SMALL or not 0 < top < np.inf:
        return float(linalg.eigvalsh(gram, subset_by_index=[n - 1, n - 1])[0])
    scaled = gram / top
    try:
        start = np.random.default_rng(0).normal(size=n)
        estimate = float(eigsh(scaled, k=1, which="LA", tol=SLACK / 4, v0=start, return_eigenvectors=False)[0])
        bound = estimate * (1 + SLACK)
        linalg.cholesky(bound * np.eye(n) - scaled, overwrite_a=True, check_finite=False)
    except (ArpackError, linalg.LinAlgError):
        bound = float(linalg.eigvalsh(scaled, subset_by_index=[n - 1, n - 1])[0])
    return bound * top


def of_stack(grams):
    """Largest eigenvalue of all Hermitian matrices of a stack of shape (n, size, size)."""
    if grams.shape[-1] == 1:
        return float(grams.real.max())
    scale = float(np.abs(grams).max())
    if not 0 < scale < np.inf:
        return scale
    grams = grams / scale
    bounds, powers = np.zeros(len(grams)), grams
    for k in range(SQUARINGS + 1):  # logarithm of the bound of each matrix
        norms = np.linalg.norm(powers, axis=(1, 2))
        norms = np.maximum(norms, np.finfo(float).tiny)
        bounds += np.log(norms) / 2**k
        if k < SQUARINGS:
            powers = powers / norms[:, None, None]
            powers = powers @ powers
    order, best, n = np.argsort(-bounds), 0.0, 4
    while len(order):
        best = max(best, float(np.linalg.eigvalsh(grams[order[:n]])[:, -1].max()))
        order = order[n:]
        order, n = order[bounds[order] > np.log(best) - 1e-9], 4 * n
    return best * scale


def of_products(apply, shape, *, n_steps, tol):
    """A bound by the Lanczos process, which needs only products with vectors, at most `n_steps` of them.

    `apply` is the matrix times an array of shape `shape`. The Lanczos polynomial is large at any eigenvalue above the
    computed one, unless the random start is almost orthogonal to its eigenvector. The bound therefore fails with
    probability at most 1e-12 ([1]_). More steps tighten it, until its relative excess over the eigenvalue is `tol`.

    References
    ----------
    .. [1] M. E. Hochstenbach, "Probabilistic upper bounds for the matrix two-norm", J. Sci. Comput. 2013.
    """
    start = np.random.default_rng(0).normal(size=shape).ravel()
    n = start.size
    basis = [start / np.linalg.norm(start)]
    diagonal, off = [], []
    rarest = np.log(FAILURE * np.sqrt(np.pi / (2 * n)))
    upper = np.inf
    for _ in range(min(n_steps, n)):
        image = np.asarray(apply(basis[-1].reshape(shape))).ravel()
        diagonal.append(float(image @ basis[-1]))
        known = np.array(basis)
        for _ in range(2):  # reorthogonalise against rounding errors
            image = image - (known @ image) @ known
        length = float(np.linalg.norm(image))
        values = linalg.eigvalsh_tridiagonal(diagonal, off)
        top = max(float(values[-1]), 0.0)
        if length <= 1e-14 * top:  # the Krylov space is exhausted
            return min(upper, top * (1 + 1e-12))
        off.append(length)
        upper = min(upper, _root(values, np.log(off).sum() - rarest))
        if upper <= top * (1 + tol):
            break
        basis.append(image / length)
    return upper


def _root(values, height):
    """t above the largest value with ``sum log(t - values) = height``, rounded up."""
    low, high = 0.0, float(np.exp(height / len(values)))  # above the largest value
    gaps = values[-1] - values
    for _ in range(60):
        middle = (low + high) / 2
        with np.errstate(divide="ignore"):
            if np.log(middle + gaps).sum() < height:
                low = middle
            else:
                high = middle
        if high - low <= 1e-6 * (values[-1] + high):
            break
    return float(values[-1] + high)

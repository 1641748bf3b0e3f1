"""Upper bounds of the largest eigenvalue of a semidefinite matrix: from entries, from stacks, from products."""

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackError, eigsh

SMALL = 256
"""Matrices up to this size are decomposed; for larger ones an estimate is proved to bound by a Cholesky factor."""

SLACK = 1e-3
"""By this share a proved bound may exceed the eigenvalue."""

FAILURE = 1e-12
"""Probability with which the bound from products may fail, over random starts."""

SQUARINGS = 3
"""``||G^(2^k)||_F^(1 / 2^k)`` bounds the largest eigenvalues of a stack, to leave most of it undecomposed."""


def of_matrix(gram):
    """Largest eigenvalue, or up to one in a thousand more, never less."""
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
    for k in range(SQUARINGS + 1):  # bounds are the logarithms of those of each matrix
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
    """A bound from the Lanczos process, which needs products with vectors alone.

    The polynomial that the process builds is large wherever an eigenvalue above its own would lie, unless the random
    start had next to no part along that eigenvector; so the largest eigenvalue is bounded but for a probability of
    1e-12 ([1]_). More steps bring bound and eigenvalue together.

    Parameters
    ----------
    apply : callable
        The matrix times an array of shape `shape`.
    shape : tuple of int
    n_steps : int
        Most products.
    tol : float
        The process ends when the bound exceeds the eigenvalue by this share at most.

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
        for _ in range(2):  # rounding would bring back directions that are done
            image = image - (known @ image) @ known
        length = float(np.linalg.norm(image))
        values = linalg.eigvalsh_tridiagonal(diagonal, off)
        top = max(float(values[-1]), 0.0)
        if length <= 1e-14 * top:  # all that the start reaches
            return min(upper, top * (1 + 1e-12))
        off.append(length)
        upper = min(upper, _root(values, np.log(off).sum() - rarest))
        if upper <= top * (1 + tol):
            break
        basis.append(image / length)
    return upper


def _root(values, height):
    """Where ``sum log(t - values)`` is `height`, beyond the largest value, from above."""
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

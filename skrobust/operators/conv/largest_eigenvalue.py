"""Upper bounds on the largest eigenvalue of semidefinite matrices, given by entries, stacks or products."""

import math

import numpy as np
from scipy import linalg
from scipy.sparse.linalg import ArpackError, eigsh

SMALL = 256
"""Up to this size matrices are decomposed; for larger ones a Cholesky factor proves a bound."""

SLACK = 1e-3
"""Relative excess of a proved bound over the eigenvalue."""

FAILURE = 1e-12
"""Failure probability of the bound from products, over random starts."""

STARTS = 4
"""Random starts of the Lanczos process: the failure probability is that of one start to this power."""

CHECK = 4
"""Lanczos steps from one computation of the bound to the next."""

SQUARINGS = 3
"""Largest k of the bounds ``||G^(2^k)||_F^(1 / 2^k)``, which avoid decomposing most matrices of a stack."""

DECOMPOSED = 4
"""Matrices of a stack that are decomposed after each squaring: those of the largest bounds."""


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
    powers = rest = grams / scale
    bounds, best = np.zeros(len(rest)), 0.0  # logarithm of the bound of each matrix
    for k in range(SQUARINGS + 1):
        norms = np.maximum(np.linalg.norm(powers, axis=(1, 2)), np.finfo(float).tiny)
        bounds = bounds + np.log(norms) / 2**k
        first = np.argsort(-bounds)[:DECOMPOSED]
        best = max(best, float(np.linalg.eigvalsh(rest[first])[:, -1].max()))
        left = bounds > np.log(best) - 1e-9
        left[first] = False
        if not left.any():
            return best * scale
        rest, bounds, powers, norms = rest[left], bounds[left], powers[left], norms[left]
        if k < SQUARINGS:
            powers = powers / norms[:, None, None]
            powers = powers @ powers
    return max(best, float(np.linalg.eigvalsh(rest)[:, -1].max())) * scale


def of_products(apply, shape, *, n_steps, tol, upper=np.inf, rounding=0.0):
    """A bound by the Lanczos process from `STARTS` random starts, which needs only products with vectors.

    `apply` is the matrix times each of `STARTS` arrays of shape `shape`; it is called at most `n_steps` times. The
    Lanczos polynomial is large at any eigenvalue above the computed one, unless the start is almost orthogonal to its
    eigenvector ([1]_). The largest of the starts' bounds fails only if all starts are: with probability at most 1e-12.
    More steps tighten it, until its relative excess over the eigenvalue is `tol`. The result is at most `upper`, a
    known bound, and exceeds that of the process by `rounding`.

    References
    ----------
    .. [1] M. E. Hochstenbach, "Probabilistic upper bounds for the matrix two-norm", J. Sci. Comput. 2013.
    """
    n = math.prod(shape)
    n_steps = min(n_steps, n)
    start = np.random.default_rng(0).normal(size=(STARTS, n))
    basis = np.empty((STARTS, n_steps, n))
    basis[:, 0] = start / np.linalg.norm(start, axis=1, keepdims=True)
    diagonal, off = np.zeros((STARTS, n_steps)), np.zeros((STARTS, n_steps))
    rarest = _rarest(n)
    for last in range(n_steps):
        known, images = basis[:, : last + 1], np.asarray(apply(basis[:, last].reshape(STARTS, *shape)))
        images = images.reshape(STARTS, n).astype(np.float64)
        diagonal[:, last] = (images * basis[:, last]).sum(axis=1)
        whole = np.linalg.norm(images, axis=1)
        images, off[:, last] = _remainders(images, known)
        if (off[:, last] < 1e-2 * whole).any():  # much has cancelled: once more, against rounding errors
            images, off[:, last] = _remainders(images, known)
        exhausted = bool((off[:, last] <= 1e-14 * diagonal.max()).any())
        if exhausted or (last + 1) % CHECK == 0 or last + 1 == n_steps:
            values = [linalg.eigvalsh_tridiagonal(d[: last + 1], o[:last]) for d, o in zip(diagonal, off, strict=True)]
            top = max(0.0, *(float(v[-1]) for v in values))
            if exhausted:
                return min(upper, top * (1 + max(rounding, 1e-12)))
            heights = np.log(off[:, : last + 1]).sum(axis=1) - rarest
            bound = max(_root(v, height) for v, height in zip(values, heights, strict=True))
            upper = min(upper, bound * (1 + rounding))
            if upper <= top * (1 + tol):
                break
        if last + 1 < n_steps:
            basis[:, last + 1] = images / off[:, last, None]
    return upper


def excess_of_products(n, n_steps):
    """Relative excess of the bound of `of_products` after `n_steps` for a dense spectrum of n eigenvalues."""
    return (_rarest(n) / (2 * n_steps)) ** 2 if n_steps else np.inf


def _rarest(n):
    """Logarithm of the share of an eigenvector in n values that all starts fall below with probability `FAILURE`."""
    return np.log(FAILURE) / STARTS + np.log(np.pi / (2 * n)) / 2


def _remainders(vectors, known):
    """Vectors (n, size) without their components in the spaces of orthonormal rows (n, steps, size); their norms."""
    along = known @ vectors[:, :, None]
    rest = vectors - (along.swapaxes(1, 2) @ known)[:, 0]
    return rest, np.linalg.norm(rest, axis=1)


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

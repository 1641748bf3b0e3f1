"""Sparse coding step shared by the learners."""

from contextlib import contextmanager

from sklearn import config_context

from skrobust.pursuits import basis_pursuit, orthogonal_mp
from skrobust.signals import convergence_warnings_ignored

GREEDY = ("omp", "ols")

_LITTLE = 1 << 25
"""Below this many multiply-adds, use one thread."""


def encode(X, components, *, coding, n_nonzero_coefs, residual_tol, alpha, positive, n_jobs):
    """Sparse codes of signals, a csr_array or sparse Tensor; parameters as of `KSVD`, `positive` only with
    ``coding="l1"``.
    """
    if coding in GREEDY:
        if len(X) * components.shape[0] * components.shape[1] <= _LITTLE:
            n_jobs = 1
        return orthogonal_mp(
            X, components, n_nonzero_coefs=n_nonzero_coefs, tol=residual_tol, selection=coding, n_jobs=n_jobs
        )
    return basis_pursuit(X, components, alpha=alpha, positive=positive, n_jobs=n_jobs)


@contextmanager
def many_codings():
    """For learning: skip repeated validation, and suppress warnings.

    During learning atoms may temporarily be linearly dependent, so that codes miss their accuracy.
    """
    quiet = config_context(assume_finite=True, skip_parameter_validation=True)
    with convergence_warnings_ignored(), quiet:
        yield

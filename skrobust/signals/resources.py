"""Memory and threads that a computation may use."""

import sys
from contextlib import contextmanager, nullcontext
from numbers import Integral

from sklearn import get_config
from sklearn.utils import gen_batches


def batch_slices(n_samples, bytes_per_sample, batch_size=None):
    """Slices over samples whose working memory stays within scikit-learn's ``working_memory`` (1 GiB by default).

    Parameters
    ----------
    n_samples : int
    bytes_per_sample : int
        Working memory of one sample, beyond input and output.
    batch_size : int or None, default=None
        Upper bound asked for by the user.

    Yields
    ------
    slice

    Examples
    --------
    >>> from skrobust.signals import batch_slices
    >>> [(s.start, s.stop) for s in batch_slices(5, 8, batch_size=2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    most = max(1, int(get_config()["working_memory"] * 2**20 // max(1, bytes_per_sample)))
    if batch_size is not None:
        most = min(most, batch_size)
    if n_samples:  # of none there are no batches
        yield from gen_batches(n_samples, most)


@contextmanager
def kernel_threads(n_jobs=None, *, uses_blas=True):
    """Bound the threads of the numba kernels, and keep BLAS within them to one.

    Parameters
    ----------
    n_jobs : int or None, default=None
        None: what the environment allows (``NUMBA_NUM_THREADS``, which joblib lowers in its workers); negative
        numbers count from the end, as in joblib (-1: all).
    uses_blas : bool, default=True
        Whether matrix products run inside the kernels; where none do, a millisecond is saved.

    Raises
    ------
    ValueError
        If `n_jobs` is 0.
    """
    import numba
    from threadpoolctl import threadpool_limits

    # Where numba and torch share an OpenMP library, numba's thread count becomes torch's too: give torch's back.
    torch = sys.modules.get("torch")
    of_torch = torch.get_num_threads() if torch else None
    allowed = numba.config.NUMBA_NUM_THREADS
    before = numba.get_num_threads()
    if n_jobs is None:
        wanted = before
    elif not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}.")
    else:
        wanted = n_jobs if n_jobs > 0 else max(1, allowed + 1 + n_jobs)
    numba.set_num_threads(min(int(wanted), allowed))
    try:
        # BLAS workers spin after a product and starve the kernel's own threads: one BLAS thread inside kernels.
        with threadpool_limits(1, user_api="blas") if uses_blas else nullcontext():
            yield
    finally:
        numba.set_num_threads(before)
        if torch and torch.get_num_threads() != of_torch:
            torch.set_num_threads(of_torch)

"""Limits of memory and threads."""

import functools
import os
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

from joblib import cpu_count
from sklearn import get_config
from sklearn.utils import gen_batches
from threadpoolctl import threadpool_limits


def batch_slices(n_samples, bytes_per_sample, batch_size=None):
    """Slices over samples whose working memory stays within scikit-learn's ``working_memory`` (1 GiB by default).

    Parameters
    ----------
    n_samples : int
    bytes_per_sample : int
        Working memory of one sample, beyond input and output.
    batch_size : int or None, default=None
        Upper bound given by the user.

    Yields
    ------
    slice

    Examples
    --------
    >>> from skrobust.signals import batch_slices
    >>> [(s.start, s.stop) for s in batch_slices(5, 8, batch_size=2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    max_size = max(1, int(get_config()["working_memory"] * 2**20 // max(1, bytes_per_sample)))
    if batch_size is not None:
        max_size = min(max_size, batch_size)
    if n_samples:  # no samples, no batches
        yield from gen_batches(n_samples, max_size)


_allowed = ContextVar("skrobust_threads", default=None)


@contextmanager
def kernel_threads(n_jobs=None):
    """Limit the threads of the kernels called by this thread.

    Other threads, BLAS, OpenMP and torch keep their own settings.

    Parameters
    ----------
    n_jobs : int or None, default=None
        None: the limit of an enclosing `kernel_threads`, else of the environment. Negative numbers count from the end,
        as in joblib (-1: all that the environment allows).

    See Also
    --------
    allowed_threads : The current limit.
    """
    if n_jobs is None:
        yield
        return
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(f"n_jobs must be None or an integer other than 0, got {n_jobs!r}.")
    available = environment_threads()
    before = _allowed.set(min(int(n_jobs), available) if n_jobs > 0 else max(1, available + 1 + int(n_jobs)))
    try:
        yield
    finally:
        _allowed.reset(before)


def allowed_threads():
    """Number of threads that a kernel called here may use.

    The limit of the innermost `kernel_threads`. Outside of any, or with ``n_jobs=None``, that of the environment:
    ``NUMBA_NUM_THREADS``, which joblib sets in its worker processes, else the processors available to this process.

    Returns
    -------
    int

    Examples
    --------
    >>> from skrobust.signals import allowed_threads, kernel_threads
    >>> with kernel_threads(1):
    ...     allowed_threads()
    1
    """
    return _allowed.get() or environment_threads()


@functools.cache
def environment_threads():
    value = os.environ.get("NUMBA_NUM_THREADS", "")
    return max(1, int(value)) if value.strip().isdigit() else cpu_count()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=environment_threads.cache_clear)  # a worker may have fewer processors


class _BlasLimit:
    """Limits BLAS to one thread: the first user sets the limit, the last one restores it.

    If several threads each restored the setting they found, the process could keep the limit of another thread.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.n_users, self.n_forks, self.limits = 0, 0, None

    def enter(self):
        with self.lock:
            if self.n_users == 0:
                self.limits = threadpool_limits(1, user_api="blas")
            self.n_users += 1
            return self.n_forks

    def leave(self, n_forks):
        with self.lock:
            if n_forks != self.n_forks:  # entered in the parent process
                return
            self.n_users -= 1
            if self.n_users == 0:
                self.limits.restore_original_limits()

    def after_fork(self):
        """After a fork the child starts without users and without a limit."""
        if self.n_users:
            self.limits.restore_original_limits()
        self.n_users, self.n_forks = 0, self.n_forks + 1
        self.lock.release()


_blas = _BlasLimit()

if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that no other thread is inside.
    os.register_at_fork(before=_blas.lock.acquire, after_in_parent=_blas.lock.release, after_in_child=_blas.after_fork)


@contextmanager
def one_blas_thread():
    """Limit BLAS to one thread, for many small products, which are slower on more threads.

    The limit holds for the whole process, until the last thread leaves such a context.
    """
    n_forks = _blas.enter()
    try:
        yield
    finally:
        _blas.leave(n_forks)

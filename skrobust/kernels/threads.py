"""Kernels on several threads: kernels give up the interpreter's lock, so Python's own threads do.

A kernel compiled with ``parallel=True`` is optimised four times over, which doubles the time of its first call.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np


@functools.cache
def _helpers():
    """Threads that wait for work: to begin new ones takes as long as a small minibatch."""
    return ThreadPoolExecutor(max(1, numba.config.NUMBA_NUM_THREADS - 1), thread_name_prefix="skrobust")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not survive a fork


def on_threads(function, *args, n_pieces=None, n_counters=1):
    """Call ``function(*args, counters)`` on each thread that `kernel_threads` allows.

    Calls may begin late, when the work is done, or not at all: none may wait for another to begin.

    Parameters
    ----------
    function : callable
        A kernel that draws the numbers of its pieces of work from ``counters`` with `take_number`.
    *args
    n_pieces : int or None, default=None
        Pieces there are: no more threads are begun.
    n_counters : int, default=1
        Counters, zero to begin with.
    """
    n_threads = numba.get_num_threads()
    if n_pieces is not None:
        n_threads = min(n_threads, n_pieces)
    counters = np.zeros(n_counters, dtype=np.int64)
    if n_threads <= 1:
        function(*args, counters)
        return
    others = [_helpers().submit(function, *args, counters) for _ in range(n_threads - 1)]
    try:
        function(*args, counters)
    finally:
        for other in others:
            if not other.cancel():
                other.result()

"""Kernels on several threads: kernels give up the interpreter's lock, so Python's own threads do.

A kernel compiled with ``parallel=True`` is optimised four times over, which doubles the time of its first call.
"""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np


def on_threads(function, *args, n_pieces=None):
    """Call ``function(*args, next_piece)`` on each thread that `kernel_threads` allows.

    Parameters
    ----------
    function : callable
        A kernel that draws the numbers of its pieces of work from ``next_piece`` with `take_number`.
    *args
    n_pieces : int or None, default=None
        Pieces there are: no more threads are begun.
    """
    n_threads = numba.get_num_threads()
    if n_pieces is not None:
        n_threads = min(n_threads, n_pieces)
    next_piece = np.zeros(1, dtype=np.int64)
    if n_threads <= 1:
        function(*args, next_piece)
        return
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(function, *args, next_piece) for _ in range(n_threads - 1)]
        function(*args, next_piece)
        for other in others:
            other.result()

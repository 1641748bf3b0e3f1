"""Kernels on several threads: kernels give up the interpreter's lock, so Python's own threads do.

This is the package's only threading layer. A kernel compiled with ``parallel=True`` needs a layer that may not survive
a fork and that wakes all threads for one small image; and it is optimised four times over.
"""

import os
import threading
from concurrent.futures import Future
from queue import SimpleQueue

import numpy as np

from skrobust.signals import allowed_threads

WORTH_A_THREAD = 1 << 19
"""Multiply-adds (some 0.1 ms) for which it pays to wake one more thread."""


class _Helpers:
    """Threads that wait for work, shared by all callers: to begin new ones takes as long as a small minibatch."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.n_threads = SimpleQueue(), 0

    def begin(self, n_wanted):
        """Number of helpers, at most `n_wanted`; those that are missing are begun."""
        if self.n_threads < n_wanted:
            with self.lock:
                try:
                    while self.n_threads < n_wanted:
                        # Daemons: the interpreter need not wait for them, and functions run at its exit may use them.
                        threading.Thread(target=_serve, args=(self.calls,), name="skrobust", daemon=True).start()
                        self.n_threads += 1
                except RuntimeError:  # the system allows no more threads, or the interpreter is shutting down
                    pass
        return min(self.n_threads, n_wanted)

    def submit(self, n_calls, function, *args):
        futures = [Future() for _ in range(n_calls)]
        # All at once: calls that wait for each other must not stand in line behind part of another such group.
        with self.lock:
            for future in futures:
                self.calls.put((future, function, args))
        return futures


def _serve(calls):
    while True:
        future, function, args = calls.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
        del future, function, args  # what they hold need not live until the next call


_helpers = _Helpers()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.__init__)  # neither threads nor who holds a lock survive a fork


def on_threads(function, *args, n_pieces, work=None, n_counters=1):
    """Call ``function(*args, counters)`` on this thread, and on as many others as are allowed and have work.

    Calls may begin late, when the work is done, or not at all: none may wait for another to begin, unless it knows
    from `threads_for` how many there are.

    Parameters
    ----------
    function : callable
        A kernel that draws the numbers of its pieces of work from ``counters`` with `take_number`.
    *args
    n_pieces : int
        Pieces there are: no more threads take part.
    work : float or None, default=None
        About how many multiply-adds there are: each thread gets at least `WORTH_A_THREAD`. None: each piece is worth
        a thread.
    n_counters : int, default=1
        Counters, zero to begin with.
    """
    counters = np.zeros(n_counters, dtype=np.int64)
    n_threads = threads_for(n_pieces, work)
    others = _helpers.submit(n_threads - 1, function, *args, counters) if n_threads > 1 else ()
    try:
        function(*args, counters)
    finally:
        for other in others:
            if not other.cancel():
                other.result()


def threads_for(n_pieces, work=None):
    """Threads on which `on_threads` calls a function."""
    n_threads = min(allowed_threads(), n_pieces)
    if work is not None:
        n_threads = min(n_threads, int(work) // WORTH_A_THREAD)
    return 1 + _helpers.begin(n_threads - 1) if n_threads > 1 else 1

"""Kernels on several threads: kernels release the interpreter's lock, so Python threads suffice.

This is the package's only threading layer. Numba's ``parallel=True`` needs a layer that may not survive a fork, wakes
all threads for one small image, and compiles four times as long.
"""

import os
import threading
from concurrent.futures import Future
from queue import SimpleQueue

import numpy as np

from skrobust.signals import allowed_threads

WORTH_A_THREAD = 1 << 19
"""Multiply-adds (about 0.1 ms) that justify one more thread."""


class HelperThreads:
    """Pool of waiting threads, shared by all callers; starting a thread takes as long as a small minibatch."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.n_threads = SimpleQueue(), 0

    def begin(self, n_wanted):
        """Number of available helpers, at most `n_wanted`; starts missing ones."""
        if self.n_threads < n_wanted:
            with self.lock:
                try:
                    while self.n_threads < n_wanted:
                        # Daemons: the interpreter does not wait for them, and functions at exit can still use them.
                        threading.Thread(target=_serve, args=(self.calls,), name="skrobust", daemon=True).start()
                        self.n_threads += 1
                except RuntimeError:  # the system allows no more threads, or the interpreter is shutting down
                    pass
        return min(self.n_threads, n_wanted)

    def submit(self, n_calls, function, *args):
        futures = [Future() for _ in range(n_calls)]
        # All at once: calls that wait for each other must not be queued behind part of another such group.
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
        del future, function, args  # do not keep references until the next call


helpers = HelperThreads()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=helpers.__init__)  # neither threads nor the owner of a lock survive a fork


def on_threads(function, *args, n_pieces, work=None, n_counters=1):
    """Call ``function(*args, counters)`` on this thread, and on as many others as are allowed and useful.

    The function takes the numbers of its pieces of work, at most `n_pieces`, from ``counters`` with `take_number`.
    `work` is the approximate number of multiply-adds: each thread gets at least `WORTH_A_THREAD`; None: each piece
    justifies a thread. Calls may start late, after the work is done, or not at all. None may wait for another to start,
    unless their number is known from `threads_for`.
    """
    counters = np.zeros(n_counters, dtype=np.int64)
    n_threads = threads_for(n_pieces, work)
    others = helpers.submit(n_threads - 1, function, *args, counters) if n_threads > 1 else ()
    try:
        function(*args, counters)
    finally:
        for other in others:
            if not other.cancel():
                other.result()


def threads_for(n_pieces, work=None):
    """Number of threads on which `on_threads` calls a function."""
    n_threads = min(allowed_threads(), n_pieces)
    if work is not None:
        n_threads = min(n_threads, int(work) // WORTH_A_THREAD)
    return 1 + helpers.begin(n_threads - 1) if n_threads > 1 else 1

"""One line on stderr while kernels are compiled, which happens once on a machine and can take seconds."""

import contextlib
import os
import sys
import threading

from .cache import cache_folders

PATIENCE = 1.0
"""Seconds of compiling before the line is printed."""

announced = set()
"""Folders whose line was printed."""


@contextlib.contextmanager
def compile_notice(function):
    """Announce the kernels of a function's folder if compiling the function takes long.

    The environment variable ``SKROBUST_COMPILE_NOTICE=0`` silences it.
    """
    folder = function.__module__.rpartition(".")[0] or function.__module__
    if folder in announced or os.environ.get("SKROBUST_COMPILE_NOTICE") == "0":
        yield
        return
    timer = threading.Timer(PATIENCE, _announce, [folder])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _announce(folder):
    from tqdm import tqdm

    announced.add(folder)
    line = f"skrobust: compiling kernels of {folder} (once per machine; cached in {cache_folders()[0]})"
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no stderr, or a closed one
        tqdm.write(line, file=sys.stderr)  # above the progress bars, if there are any

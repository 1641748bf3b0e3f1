"""Interrupts that Python cannot lose."""

import signal
from contextlib import contextmanager


@contextmanager
def persistent_interrupts():
    """Raise `KeyboardInterrupt` again every second until it leaves this context.

    Python drops exceptions raised inside some of its callbacks, such as those of weak references during imports, where
    an interrupt would be lost. Without such signals (Windows, or outside the main thread) interrupts work as usual.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_):
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise KeyboardInterrupt

    try:
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    except ValueError:  # only the main thread may set signal handlers
        yield
        return
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)

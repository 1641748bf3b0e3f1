"""Pursuits that end short of their accuracy: a warning each, or one for all that an estimator does."""

import functools
import warnings
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from sklearn.exceptions import ConvergenceWarning

# Of the thread, unlike the filters of `warnings`.
_listener = ContextVar("listener", default=None)


def tell_of_shortfall(n_short, n_signals, reason, *, stacklevel=2):
    """Warn that `n_short` of `n_signals` signals fell short, unless somebody gathers such messages.

    Parameters
    ----------
    n_short, n_signals : int
    reason : str
        What happened and what to do: the end of a sentence whose beginning is their number.
    stacklevel : int, default=2
        As for `warnings.warn`, counted from the caller.

    Warns
    -----
    ConvergenceWarning
    """
    if not n_short:
        return
    listener = _listener.get()
    if listener is not None:
        listener(n_short, n_signals, reason)
        return
    warnings.warn(f"{n_short} of {n_signals} signals {reason}", ConvergenceWarning, stacklevel=stacklevel + 1)


@contextmanager
def shortfalls_ignored():
    """No message of pursuits within: what falls short there does no harm."""
    token = _listener.set(lambda *_: None)
    try:
        yield
    finally:
        _listener.reset(token)


class Shortfalls:
    """What an estimator's pursuits fall short of, told once a fit: `fit` makes a new one.

    A copy of it, or one that comes out of a pickle, has told nothing, so that the same estimator has the same pickle
    before and after.
    """

    def __init__(self):
        self.told = False

    def __reduce__(self):
        return Shortfalls, ()

    @contextmanager
    def gathered(self, name):
        """One warning for all pursuits within, with the number of images; none if an earlier one was given.

        Parameters
        ----------
        name : str
            Of the estimator, for the message.
        """
        if _listener.get() is not None:  # somebody gathers already
            yield
            return
        found = []
        token = _listener.set(lambda *message: found.append(message))
        try:
            yield
        finally:
            _listener.reset(token)
        if found and not self.told:
            self.told = True
            n_short, n_signals = (sum(message[place] for message in found) for place in (0, 1))
            warnings.warn(
                f"{name}: {n_short} of {n_signals} images {found[-1][2]} (Said once a fit.)",
                ConvergenceWarning,
                stacklevel=5,
            )


def told_once_a_fit(method):
    """Decorate a method of a `SignalTransformer`: its pursuits warn together, and after a fit once."""

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        shortfalls = getattr(self, "_shortfalls", None)  # none before a fit
        with shortfalls.gathered(type(self).__name__) if shortfalls else nullcontext():
            return method(self, *args, **kwargs)

    return wrapped

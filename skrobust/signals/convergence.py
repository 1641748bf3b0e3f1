"""Convergence warnings of pursuits: one per call, or one per fit of an estimator."""

import functools
import warnings
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from sklearn.exceptions import ConvergenceWarning

# Local to the thread, unlike the filters of `warnings`.
_listener = ContextVar("listener", default=None)


def warn_not_converged(n_short, n_signals, reason, *, stacklevel=2):
    """Warn that `n_short` of `n_signals` signals did not converge, unless such warnings are being collected.

    Parameters
    ----------
    n_short, n_signals : int
    reason : str
        What happened and what to do: the end of a sentence that starts with the numbers.
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
def convergence_warnings_ignored():
    """Suppress convergence warnings of pursuits inside this context, where they are harmless."""
    token = _listener.set(lambda *_: None)
    try:
        yield
    finally:
        _listener.reset(token)


class ConvergenceLog:
    """Collects the convergence warnings of an estimator, to warn once per fit; `fit` creates a new one.

    Copies and pickles do not record whether a warning was given, so that pickles of an estimator do not depend on it.
    """

    def __init__(self):
        self.warned = False

    def __reduce__(self):
        return ConvergenceLog, ()

    @contextmanager
    def warning_once(self, name):
        """One warning for all pursuits inside, with the number of images; none if one was given before.

        Parameters
        ----------
        name : str
            Name of the estimator, for the message.
        """
        if _listener.get() is not None:  # messages are already being collected
            yield
            return
        messages = []
        token = _listener.set(lambda *message: messages.append(message))
        try:
            yield
        finally:
            _listener.reset(token)
        if messages and not self.warned:
            self.warned = True
            n_short, n_signals = (sum(message[k] for message in messages) for k in (0, 1))
            warnings.warn(
                f"{name}: {n_short} of {n_signals} images {messages[-1][2]} (Shown once per fit.)",
                ConvergenceWarning,
                stacklevel=5,
            )


def warn_once_per_fit(method):
    """Decorator of methods of a `SignalTransformer`: their pursuits give one warning per fit.

    Parameters
    ----------
    method : callable
        The method.

    Returns
    -------
    callable
    """

    @functools.wraps(method)
    def wrapped(self, *args, **kwargs):
        log = getattr(self, "_convergence_log", None)  # there is none before fit
        with log.warning_once(type(self).__name__) if log else nullcontext():
            return method(self, *args, **kwargs)

    return wrapped

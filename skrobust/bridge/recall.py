"""Warm starts of pursuits: an attack codes nearby images again and again."""

from contextlib import contextmanager
from contextvars import ContextVar

import torch

ATTACK_TOL = 1e-3
"""Relative duality gap of a recalled pursuit, unless the estimator's own is larger.

At 1e-2 codes that recall others hardly move, and attacks break fewer images.
"""

PROBE_TOL = 1e-2
"""The same where only backward passes at equal codes are compared."""

_run = ContextVar("run", default=None)


class Recall:
    """The last images that the pursuits in a model coded, and their codes.

    Within ``with recall.beginning():`` pursuits run as usual, and their codes take the place of all earlier ones.
    Within ``with recall.continuing():`` they start from the codes of the nearest remembered image, and stop at a
    relative gap of `ATTACK_TOL`. Elsewhere, and before the first beginning, nothing is recalled. Within ``with
    recall.repeating():`` all passes over the same images have the same codes, solved once to a gap of `PROBE_TOL`.
    """

    def __init__(self):
        self._memories = {}

    def __bool__(self):
        """Whether any codes are remembered."""
        return bool(self._memories)

    @contextmanager
    def beginning(self):
        """Context of a pass whose codes are remembered."""
        self.clear()
        with _running(self._begin):
            yield

    @contextmanager
    def continuing(self):
        """Context of passes that start from the last codes."""
        with _running(self._continue):
            yield

    @contextmanager
    def repeating(self):
        """Context of passes that compare backward passes at equal codes."""
        with _running(self._repeat):
            yield

    def clear(self):
        """Forget all codes."""
        self._memories.clear()

    def _repeat(self, owner, seen, solve, tol):
        memory = self._memories.get(owner)
        if memory is None:
            memory = self._memories[owner] = _Memory(seen, solve(None, max(tol, PROBE_TOL)))
        return solve(memory.codes, float("inf"))

    def _begin(self, owner, seen, solve, tol):
        codes = solve(None, tol)
        self._memories[owner] = _Memory(seen, codes)
        return codes

    def _continue(self, owner, seen, solve, tol):
        memory = self._memories.get(owner)
        if memory is None:
            return solve(None, tol)
        rows = memory.nearest(seen)
        codes = solve(memory.codes[rows], max(tol, ATTACK_TOL))
        memory.replace(rows, seen, codes)
        return codes


class _Memory:
    """Signals and their codes, one row per image."""

    def __init__(self, seen, codes):
        self.seen, self.codes = seen.detach().clone(), codes.detach().clone()

    def nearest(self, seen):
        """Row of the remembered signal nearest to each of `seen`."""
        signals, known = seen.detach().flatten(1), self.seen.flatten(1)
        return (known.square().sum(1) / 2 - signals @ known.T).argmin(1)

    def replace(self, rows, seen, codes):
        """Remember the last of the signals of each row."""
        order = torch.arange(len(rows), device=rows.device)
        last = torch.full((len(self.seen),), -1, device=rows.device).scatter_reduce(0, rows, order, "amax")
        changed = last >= 0
        self.seen[changed], self.codes[changed] = seen.detach()[last[changed]], codes.detach()[last[changed]]


@contextmanager
def _running(run):
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


def recalled_pursuit(owner, seen, solve, tol):
    """Codes of the signals `seen` by ``solve(init, tol)``; in an attack from the codes of its last pass.

    Parameters
    ----------
    owner : hashable
        What codes: the codes of one owner are no starting point for another.
    seen : Tensor of shape (n_samples, ...)
    solve : callable
        Starting point (a tensor of codes, or None) and relative duality gap to a Tensor of codes.
    tol : float
        Relative duality gap outside of attacks.

    Returns
    -------
    Tensor
    """
    run = _run.get()
    return solve(None, tol) if run is None else run(owner, seen, solve, tol)

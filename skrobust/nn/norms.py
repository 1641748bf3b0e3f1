"""Squared norms of dictionaries by power iteration, each from where the last one ended."""

import torch


@torch.no_grad()
def update_squared_norm(direction, apply, adjoint, n_iter):
    """Power iterations for the largest eigenvalue of ``adjoint(apply(.))``, in full precision.

    Parameters
    ----------
    direction : Tensor
        Starting point; changed in place to the last product, the starting point of the next call.
    apply, adjoint : callable
        A linear map and its adjoint, of tensors of the shape of `direction`.
    n_iter : int
        Number of iterations, at least 1.

    Returns
    -------
    Tensor of no dimension
        The squared norm of `apply`, or less: estimates rise with the iterations. Positive.
    """
    tiny = torch.finfo(direction.dtype).tiny
    with torch.autocast(direction.device.type, enabled=False):
        for _ in range(n_iter):
            direction /= direction.norm().clamp(min=tiny)
            image = apply(direction)
            squared_norm = (image * image).sum().clamp(min=tiny)
            direction.copy_(adjoint(image))
    return squared_norm


class NormSchedule:
    """When to estimate the norm of a dictionary again, while an optimiser changes it.

    In training after each change, as long as estimates change; the more constant they are, the more rarely.

    Attributes
    ----------
    interval : int
        Changes between two estimates, from 1 to 8; 0: there is no estimate yet.
    n_changes : int
        Those since the last estimate that were noticed.
    in_full : bool
        Whether the last estimate took many iterations, and no change was noticed since.
    """

    MAX_INTERVAL, CONSTANT, CHANGED = 8, 0.01, 0.05
    """Largest interval; relative change up to which the interval doubles, and from which it falls to 1."""

    def __init__(self):
        self.interval, self.n_changes, self.in_full = 0, 0, False
        self._seen, self._pending = None, True

    def is_stale(self, parameter):
        """Whether the parameter has changed in place since `note`, as optimisers and `load_state_dict` change it."""
        current = id(parameter), parameter._version
        if not self._pending and (self._seen is None or self._seen[0] != current[0]):  # a copy, or just loaded
            self._seen = current
        return self._pending or self._seen != current

    def note(self, parameter):
        """Take note of a change; whether it is time for an estimate."""
        self._seen, self._pending = (id(parameter), parameter._version), False
        self.n_changes, self.in_full = self.n_changes + 1, False
        return self.n_changes >= self.interval

    def adapt(self, before, after, in_full):
        """Choose the next interval from the last two estimates."""
        change = abs(after / before - 1)
        if self.interval == 0 or change > self.CHANGED:
            self.interval = 1
        elif change <= self.CONSTANT:
            self.interval = min(2 * self.interval, self.MAX_INTERVAL)
        self.n_changes, self.in_full = 0, in_full

    def state(self, parameter):
        """The schedule as a tensor."""
        return torch.tensor([self.interval, self.n_changes, int(self.in_full), int(self.is_stale(parameter))])

    def load(self, state):
        """Go on from a result of `state`."""
        self.interval, self.n_changes, in_full, pending = state.tolist()
        self.in_full, self._pending, self._seen = bool(in_full), bool(pending), None

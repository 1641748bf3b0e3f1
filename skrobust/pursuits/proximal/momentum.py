"""The momentum of accelerated proximal gradient."""


def next_momentum(t):
    """The next term of FISTA's sequence, and the weight that it gives to the last move.

    Parameters
    ----------
    t : float, ndarray or Tensor
        1 at the start, and where momentum restarts: the first two steps are then plain proximal gradient steps.

    Returns
    -------
    t_next, weight : of the kind of t
    """
    t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
    return t_next, (t - 1) / t_next

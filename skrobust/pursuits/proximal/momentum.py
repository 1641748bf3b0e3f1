"""The momentum of accelerated proximal gradient."""


def next_momentum(t):
    """The next term of FISTA's sequence, and its momentum.

    t is 1 at the start and after a restart: the first two steps are then plain proximal gradient steps.
    """
    t_next = (1 + (1 + 4 * t * t) ** 0.5) / 2
    return t_next, (t - 1) / t_next

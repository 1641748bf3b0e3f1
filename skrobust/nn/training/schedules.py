"""Learning rate during training, relative to the given one."""

import math

WARM_UP = 0.2
"""Share of the training in which the one-cycle schedule rises."""


def rate_factor(schedule, step, n_steps, steps_per_epoch):
    """Factor of the learning rate at a step.

    Parameters
    ----------
    schedule : {None, "cosine", "one_cycle"} or int
        None: constant. "cosine": falls to zero along half a cosine. "one_cycle": rises linearly, then falls linearly to
        zero. An int: divided by ten after each that many epochs.
    step, n_steps, steps_per_epoch : int

    Returns
    -------
    float

    Examples
    --------
    >>> from skrobust.nn.training.schedules import rate_factor
    >>> [rate_factor("one_cycle", step, 10, 5) for step in (0, 1, 2, 6)]
    [0.5, 1.0, 1.0, 0.5]
    """
    if schedule is None:
        return 1.0
    if schedule == "cosine":
        return (1 + math.cos(math.pi * step / n_steps)) / 2
    if schedule == "one_cycle":
        top = max(1, round(WARM_UP * n_steps))
        return (step + 1) / top if step < top else (n_steps - step) / (n_steps - top)
    return 0.1 ** (step // steps_per_epoch // schedule)

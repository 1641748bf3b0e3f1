"""The end of every reconstruction on tensors: the clip, and what the backward pass makes of it."""

from skrobust.bridge import with_backward
from skrobust.signals import clip_values


def finish_reconstruction(rebuilt, values, clip, gradient):
    """`rebuilt` clipped; "exact" differentiates through the clip, "identity" sees `values` in place of all of it.

    Parameters
    ----------
    rebuilt : Tensor
        The synthesis of codes.
    values : Tensor of the same shape
        What was coded.
    clip : tuple of float or None
    gradient : str
        As for `skrobust.as_module`.

    Returns
    -------
    Tensor
    """
    if clip is not None:
        cleaned = clip_values(rebuilt, *clip)
        rebuilt = cleaned if gradient == "exact" else with_backward(cleaned, rebuilt)
    return with_backward(rebuilt, values) if gradient == "identity" else rebuilt

"""Many iterations whose backward pass remembers few of them."""

import math

from skrobust.signals import is_tensor
from skrobust.signals._tensors import is_exporting

REMEMBERED = 16
"""Most iterations all of which a backward pass remembers; of more, segments of about their root are."""


def in_segments(advance, state, n_iter, *others):
    """The state after `n_iter` iterations, ``advance(begin, n_iter, state)`` from any one of them on.

    Where a gradient will be asked for and iterations are many, the backward pass keeps the states between segments of
    about ``sqrt(n_iter)`` iterations and goes through each segment again when it comes to it: the memory of about
    ``2 sqrt(n_iter)`` iterations for the time of one more forward pass. A graph that is exported has one loop.

    Parameters
    ----------
    advance : callable
    state : tuple of numbers, arrays or tensors, or of lists of these
    n_iter : int
    *others : arrays or tensors
        What else may need a gradient; `advance` knows them.

    Returns
    -------
    tuple
    """
    if is_exporting() and _holds_tensors(state) and n_iter > 1:
        from ._export_torch import repeat

        return repeat(lambda state: advance(0, 1, state), state, n_iter)
    if n_iter <= REMEMBERED or not _is_recorded((state, others)):
        return advance(0, n_iter, state)
    from torch.utils.checkpoint import checkpoint

    length = math.isqrt(n_iter)
    for begin in range(0, n_iter, length):
        state = checkpoint(
            advance,
            begin,
            min(length, n_iter - begin),
            state,
            use_reentrant=False,
            preserve_rng_state=False,
            determinism_check="none",
        )
    return state


def _is_recorded(values):
    """Whether torch records what is made of `values`, outside transforms such as `torch.func.vmap`."""
    tensors = list(_tensors(values))
    if not tensors:
        return False
    import torch

    if not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return False
    return any(tensor.requires_grad for tensor in tensors)


def _holds_tensors(values):
    return next(_tensors(values), None) is not None


def _tensors(values):
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from _tensors(value)
    elif is_tensor(values):
        yield values

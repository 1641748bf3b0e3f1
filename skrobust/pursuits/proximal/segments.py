"""Checkpointed iterations: the backward pass stores only some of them."""

import math

from skrobust.signals import is_tensor
from skrobust.signals.tensors import is_exporting

REMEMBERED = 16
"""Up to this many iterations the backward pass stores all; beyond, segments of about the square root."""


def in_segments(advance, state, n_iter, *others):
    """The state after `n_iter` iterations; ``advance(begin, n_iter, state)`` runs some of them.

    The state is a tuple of numbers, arrays or tensors, or of lists of these; `others` are further inputs of `advance`
    that may need a gradient. For many iterations with gradients, the backward pass stores the states between segments
    of about ``sqrt(n_iter)`` iterations and recomputes each segment. This takes the memory of about ``2 sqrt(n_iter)``
    iterations and the time of one more forward pass. An exported graph has one loop.
    """
    if is_exporting() and _holds_tensors(state) and n_iter > 1:
        from .export import repeat

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
    """Whether autograd records operations on `values`, outside transforms such as `torch.func.vmap`."""
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

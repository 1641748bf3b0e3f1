"""Pursuits with smooth shrinkage, surrogates for backward passes."""

import torch
from torch.nn.functional import softplus

SMOOTH_WIDTH, SMOOTH_STEPS = 0.1, 20
"""Width of smooth shrinkage relative to its threshold, and number of steps of the smooth pursuit."""


def smooth_shrink(values, threshold, positive):
    """Soft thresholding with a rounded corner; the identity (or ReLU) where the threshold is zero."""
    width = SMOOTH_WIDTH * threshold + torch.finfo(values.dtype).eps
    above = width * softplus((values - threshold) / width)
    return above if positive else above - width * softplus((-values - threshold) / width)


def smooth_steps(X, operator, codes, alpha, positive):
    """A few proximal gradient steps from `codes` with smooth shrinkage."""
    step = operator.step
    for _ in range(SMOOTH_STEPS):
        slopes = operator.analyze(X - operator.synthesize(codes))
        codes = smooth_shrink(codes + step * slopes, alpha * step, positive)
    return codes

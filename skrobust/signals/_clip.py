"""The range to which front ends and reconstructions are clipped."""

import math
from numbers import Real


def check_clip(clip):
    """Raise ValueError unless `clip` is None or a range."""
    if clip is None:
        return
    bounds = tuple(clip) if hasattr(clip, "__len__") else ()
    numbers = len(bounds) == 2 and all(isinstance(bound, Real) and not math.isnan(bound) for bound in bounds)
    if not numbers or not bounds[0] < bounds[1]:
        raise ValueError(f"clip must be None or (lowest, highest) with lowest < highest, got {clip!r}.")

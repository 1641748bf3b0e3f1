"""The range to which front ends clip images."""

from numbers import Real


def check_clip(clip):
    """Raise ValueError unless `clip` is None or a range."""
    if clip is None:
        return
    if len(clip) != 2 or not all(isinstance(bound, Real) for bound in clip) or not clip[0] < clip[1]:
        raise ValueError(f"clip must be None or (lowest, highest) with lowest < highest, got {clip!r}.")

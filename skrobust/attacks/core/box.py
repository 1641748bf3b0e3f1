"""The box of valid values: range and mask, of all images or of each."""

import torch


class Box:
    """Lowest and highest value of each feature, broadcastable to the images: one row for all of them, or one per
    sample. Infinite where there is no bound.
    """

    def __init__(self, low, high):
        self.low, self.high = torch.broadcast_tensors(low, high)
        self.finite = bool(torch.isfinite(low).all() and torch.isfinite(high).all())

    @classmethod
    def of(cls, bounds, x):
        """A pair of bounds broadcastable to `x`, or None, as a box of the dtype of `x`."""
        if isinstance(bounds, cls):
            return bounds
        low, high = bounds if bounds is not None else (x.new_tensor(-torch.inf), x.new_tensor(torch.inf))
        return cls(*(_one_row(bound.to(x), x.ndim) for bound in (low, high)))

    def __getitem__(self, index):
        """The box of some of the samples."""
        if len(self.low) == 1:  # one box for all, or a single sample
            return self
        part = object.__new__(Box)
        part.low, part.high, part.finite = self.low[index], self.high[index], self.finite
        return part

    def masked(self, mask, x):
        """The box in which `x` keeps its values where `mask` is False; None: nothing is masked."""
        if mask is None:
            return self
        return Box(torch.where(mask, self.low, x), torch.where(mask, self.high, x))

    def clamp(self, points):
        """`points` brought into the box, in their own dtype."""
        return torch.minimum(torch.maximum(points, self.low.to(points.dtype)), self.high.to(points.dtype))


def _one_row(bound, ndim):
    return bound.reshape(*[1] * (ndim - bound.ndim), *bound.shape)

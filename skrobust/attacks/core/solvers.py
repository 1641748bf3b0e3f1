"""Row by row: the scale or shift at which a capped vector has a given norm, by one sort a row and no iteration."""

import torch


def wide(values, like):
    """`values`, one a sample, shaped to broadcast over the features of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def capped_scale(magnitude, cap, eps):
    """The s >= 0 with ``||min(s * magnitude, cap)||_2 = eps`` for each row; infinity where even the caps stay below."""
    eps = torch.as_tensor(eps, dtype=cap.dtype, device=cap.device).reshape(-1, 1)
    ratio = torch.where(magnitude > 0, cap / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny), torch.inf)
    ratio, order = ratio.sort(dim=1)
    caps = cap.gather(1, order).square().cumsum(1)
    squares = magnitude.gather(1, order).square()
    # Summed from the far end: total minus running sum would leave rounding where nothing is left.
    rest = torch.cat([squares.flip(1).cumsum(1).flip(1), torch.zeros_like(squares[:, :1])], dim=1)
    saturated = torch.cat([torch.zeros_like(caps[:, :1]), caps], dim=1)
    reached = saturated[:, 1:] + torch.where(rest[:, 1:] > 0, ratio.square() * rest[:, 1:], 0)
    count = ((reached <= eps * eps) & torch.isfinite(ratio)).sum(1, keepdim=True)
    slack = (eps * eps - saturated.gather(1, count)).clamp_min(0)
    free = rest.gather(1, count)
    return torch.where(free > 0, (slack / free).sqrt(), torch.inf).squeeze(1)


def capped_shift(magnitude, cap, eps):
    """The tau >= 0 with ``sum(clip(magnitude - tau, 0, cap)) = eps`` for each row, where ``sum(min(magnitude, cap)) >=
    eps``.
    """
    eps = torch.as_tensor(eps, dtype=cap.dtype, device=cap.device).reshape(-1, 1)
    # As tau falls, a feature starts to count at its magnitude and stops growing at magnitude - cap.
    points = torch.cat([magnitude, magnitude - cap], dim=1)
    slopes = torch.cat([torch.ones_like(magnitude), -torch.ones_like(magnitude)], dim=1)
    points, order = points.sort(dim=1, descending=True)
    slope = slopes.gather(1, order).cumsum(1)
    rises = slope[:, :-1] * (points[:, :-1] - points[:, 1:])
    total = torch.cat([torch.zeros_like(points[:, :1]), rises.cumsum(1)], dim=1)
    at = (total < eps).sum(1, keepdim=True).clamp_min(1) - 1
    shift = points.gather(1, at) - (eps - total.gather(1, at)) / slope.gather(1, at).clamp_min(1)
    return shift.clamp_min(0).squeeze(1)


def capped_rate(weight, rate, cap, total):
    """The s >= 0 with ``sum(weight * min(s * rate, cap)) = total`` for each row; infinity where the caps forbid it."""
    ratio = torch.where(rate > 0, cap / rate.clamp_min(torch.finfo(rate.dtype).tiny), torch.inf)
    ratio, order = ratio.sort(dim=1)
    # Features without a cap never reach it: they add to the slope alone.
    full = torch.where(torch.isfinite(ratio), (weight * cap).gather(1, order), 0).cumsum(1)
    slopes = (weight * rate).gather(1, order)
    rest = torch.cat([slopes.flip(1).cumsum(1).flip(1), torch.zeros_like(slopes[:, :1])], dim=1)
    saturated = torch.cat([torch.zeros_like(full[:, :1]), full], dim=1)
    reached = saturated[:, 1:] + torch.where(rest[:, 1:] > 0, ratio * rest[:, 1:], 0)
    count = ((reached <= total[:, None]) & torch.isfinite(ratio)).sum(1, keepdim=True)
    free = rest.gather(1, count)
    missing = (total[:, None] - saturated.gather(1, count)).clamp_min(0)
    return torch.where(free > 0, missing / free, torch.where(missing > 0, torch.inf, 0)).squeeze(1)

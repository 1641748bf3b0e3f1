"""The scale or shift at which a capped vector has a given norm, row by row, by one sort instead of iterations."""

import torch


def wide(values, like):
    """`values`, one per sample, shaped to broadcast over the features of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def capped_scale(magnitude, cap, eps):
    """The s >= 0 with ``||min(s * magnitude, cap)||_2 = eps`` for each row; infinity where even the caps stay below."""
    eps = torch.as_tensor(eps, dtype=cap.dtype, device=cap.device).reshape(-1, 1)
    breakpoints, order = _sorted_breakpoints(magnitude, cap)
    capped = _sums_before(cap.gather(1, order).square())
    uncapped = _sums_from(magnitude.gather(1, order).square())
    squares = capped[:, 1:] + torch.where(uncapped[:, 1:] > 0, breakpoints.square() * uncapped[:, 1:], 0)
    n_capped = ((squares <= eps * eps) & torch.isfinite(breakpoints)).sum(1, keepdim=True)
    missing = (eps * eps - capped.gather(1, n_capped)).clamp_min(0)
    uncapped = uncapped.gather(1, n_capped)
    return torch.where(uncapped > 0, (missing / uncapped).sqrt(), torch.inf).squeeze(1)


def capped_shift(magnitude, cap, eps):
    """The tau >= 0 with ``sum(clip(magnitude - tau, 0, cap)) = eps`` for each row, where ``sum(min(magnitude, cap)) >=
    eps``.
    """
    eps = torch.as_tensor(eps, dtype=cap.dtype, device=cap.device).reshape(-1, 1)
    # As tau falls, a feature starts to grow at its magnitude and stops at magnitude - cap.
    breakpoints = torch.cat([magnitude, magnitude - cap], dim=1)
    slopes = torch.cat([torch.ones_like(magnitude), -torch.ones_like(magnitude)], dim=1)
    breakpoints, order = breakpoints.sort(dim=1, descending=True)
    slope = slopes.gather(1, order).cumsum(1)
    total = _sums_before(slope[:, :-1] * (breakpoints[:, :-1] - breakpoints[:, 1:]))
    segment = (total < eps).sum(1, keepdim=True).clamp_min(1) - 1
    rise = (eps - total.gather(1, segment)) / slope.gather(1, segment).clamp_min(1)
    return (breakpoints.gather(1, segment) - rise).clamp_min(0).squeeze(1)


def level_above(magnitude, total):
    """The level of each row, as a column, above which its entries sum to `total`; negative if all of them do not.

    From below: without the entries under the last level the next is higher. Sorting would take ten times as long.
    """
    total = torch.as_tensor(total, dtype=magnitude.dtype, device=magnitude.device).reshape(-1, 1)
    level = (magnitude.sum(1, keepdim=True) - total) / magnitude.shape[1]
    for _ in range(magnitude.shape[1]):
        above = (magnitude > level).to(magnitude.dtype)
        higher = ((above * magnitude).sum(1, keepdim=True) - total) / above.sum(1, keepdim=True).clamp_min(1)
        if not bool((higher > level).any()):
            break
        level = torch.maximum(level, higher)
    return level


def capped_rate(weight, rate, cap, total):
    """The s >= 0 with ``sum(weight * min(s * rate, cap)) = total`` for each row; infinity where the caps forbid it."""
    breakpoints, order = _sorted_breakpoints(rate, cap)
    # Features without a cap never reach it, and only add to the slope.
    capped = _sums_before(torch.where(torch.isfinite(breakpoints), (weight * cap).gather(1, order), 0))
    slope = _sums_from((weight * rate).gather(1, order))
    sums = capped[:, 1:] + torch.where(slope[:, 1:] > 0, breakpoints * slope[:, 1:], 0)
    n_capped = ((sums <= total[:, None]) & torch.isfinite(breakpoints)).sum(1, keepdim=True)
    slope = slope.gather(1, n_capped)
    missing = (total[:, None] - capped.gather(1, n_capped)).clamp_min(0)
    return torch.where(slope > 0, missing / slope, torch.where(missing > 0, torch.inf, 0)).squeeze(1)


def _sorted_breakpoints(rate, cap):
    """The s at which each ``s * rate`` meets its cap, ascending, and the features in that order."""
    tiny = torch.finfo(rate.dtype).tiny
    return torch.where(rate > 0, cap / rate.clamp_min(tiny), torch.inf).sort(dim=1)


def _sums_before(values):
    """Column k: sum of the first k columns."""
    return torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(1)], dim=1)


def _sums_from(values):
    """Column k: sum of the columns from k on, added from the far end so that the sum of nothing is exactly zero."""
    return torch.cat([values.flip(1).cumsum(1).flip(1), torch.zeros_like(values[:, :1])], dim=1)

"""Shrinkage and momentum as one pass over memory: Triton kernels for CUDA tensors.

Each kernel reads every value once and writes each result once, while eager torch passes over memory per operation.
"""

import torch
import triton
import triton.language as tl

BLOCK = 1024


@triton.jit
def _forward_kernel(
    points, slopes, previous, thresholds, momentum, step, codes, extrapolated, signs,
    size, inner, n_thresholds,
    HAS_SLOPES: tl.constexpr, HAS_MOMENTUM: tl.constexpr, POSITIVE: tl.constexpr, KEEP: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    value = tl.load(points + at, mask=inside).to(codes.dtype.element_ty)
    if HAS_SLOPES:
        value += tl.load(step) * tl.load(slopes + at, mask=inside).to(value.dtype)
    threshold = tl.load(thresholds + (at // inner) % n_thresholds, mask=inside).to(value.dtype)
    shrunk = tl.maximum(value - threshold, 0.0)
    if not POSITIVE:
        shrunk -= tl.maximum(-value - threshold, 0.0)
    tl.store(codes + at, shrunk, mask=inside)
    if HAS_MOMENTUM:
        before = tl.load(previous + at, mask=inside).to(value.dtype)
        tl.store(extrapolated + at, shrunk + tl.load(momentum) * (shrunk - before), mask=inside)
    if KEEP:
        sign = (shrunk > 0).to(tl.int8) - (shrunk < 0).to(tl.int8)
        tl.store(signs + at, sign, mask=inside)


@triton.jit
def _backward_kernel(
    of_codes, of_extrapolated, signs, momentum, step, of_points, of_slopes, of_previous,
    size,
    HAS_CODES: tl.constexpr, HAS_EXTRAPOLATED: tl.constexpr, HAS_SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros((BLOCK,), dtype=of_points.dtype.element_ty)
    if HAS_CODES:
        total += tl.load(of_codes + at, mask=inside).to(total.dtype)
    if HAS_EXTRAPOLATED:
        from_extrapolated = tl.load(of_extrapolated + at, mask=inside).to(total.dtype)
        share = tl.load(momentum).to(total.dtype)
        total += (1.0 + share) * from_extrapolated
        tl.store(of_previous + at, -share * from_extrapolated, mask=inside)
    total = tl.where(tl.load(signs + at, mask=inside) != 0, total, 0.0)
    tl.store(of_points + at, total, mask=inside)
    if HAS_SLOPES:
        tl.store(of_slopes + at, tl.load(step).to(total.dtype) * total, mask=inside)


def forward(points, slopes, previous, thresholds, momentum, step, positive, store_signs):
    """Codes, extrapolated codes and signs; the last two are empty if not requested."""
    dtype = points.dtype
    for other in (slopes, previous):
        dtype = dtype if other is None else torch.promote_types(dtype, other.dtype)
    points = _dense(points)
    slopes, previous = _laid_out_as(points, slopes), _laid_out_as(points, previous)
    codes = torch.empty_like(points, dtype=dtype)
    extrapolated = torch.empty_like(codes) if previous is not None else codes.new_empty(0)
    signs = torch.empty_like(codes, dtype=torch.int8) if store_signs else codes.new_empty(0, dtype=torch.int8)
    thresholds, inner = _along_one_axis(_as_tensor(thresholds, codes), codes)
    with torch.cuda.device_of(codes):
        _forward_kernel[(triton.cdiv(codes.numel(), BLOCK),)](
            points,
            points if slopes is None else slopes,
            points if previous is None else previous,
            thresholds,
            _as_tensor(momentum, codes),
            _as_tensor(step, codes),
            codes,
            extrapolated,
            signs,
            codes.numel(),
            inner,
            thresholds.numel(),
            HAS_SLOPES=slopes is not None,
            HAS_MOMENTUM=previous is not None,
            POSITIVE=positive,
            KEEP=store_signs,
            BLOCK=BLOCK,
        )
    return codes, extrapolated, signs


def backward(of_codes, of_extrapolated, signs, momentum, step, has_slopes):
    """Gradients of points, slopes and previous, in the dtype of the codes; the last two may be None."""
    example = of_codes if of_codes is not None else of_extrapolated
    of_codes, of_extrapolated = _laid_out_as(signs, of_codes), _laid_out_as(signs, of_extrapolated)
    of_points = torch.empty_like(signs, dtype=example.dtype)
    of_slopes = torch.empty_like(of_points) if has_slopes else None
    of_previous = torch.empty_like(of_points) if of_extrapolated is not None else None
    with torch.cuda.device_of(signs):
        _backward_kernel[(triton.cdiv(signs.numel(), BLOCK),)](
            of_points if of_codes is None else of_codes,
            of_points if of_extrapolated is None else of_extrapolated,
            signs,
            _as_tensor(momentum, of_points),
            _as_tensor(step, of_points),
            of_points,
            of_points if of_slopes is None else of_slopes,
            of_points if of_previous is None else of_previous,
            signs.numel(),
            HAS_CODES=of_codes is not None,
            HAS_EXTRAPOLATED=of_extrapolated is not None,
            HAS_SLOPES=has_slopes,
            BLOCK=BLOCK,
        )
    return of_points, of_slopes, of_previous


def takes(points, thresholds, momentum, step):
    """Whether the kernels apply: thresholds that vary along at most one axis, one momentum and one step."""
    if points.numel() == 0 or any(isinstance(v, torch.Tensor) and v.numel() != 1 for v in (momentum, step)):
        return False
    if not isinstance(thresholds, torch.Tensor):
        return True
    return thresholds.ndim <= points.ndim and sum(n != 1 for n in thresholds.shape) <= 1


def _along_one_axis(thresholds, codes):
    """Thresholds as a flat array, and the number of consecutive values in memory that share one."""
    wide = [axis for axis, n in enumerate(thresholds.shape, start=codes.ndim - thresholds.ndim) if n != 1]
    return thresholds.reshape(-1).contiguous(), codes.stride(wide[0]) if wide else 1


def _dense(values):
    """`values` in dense memory, in any order of axes, as `empty_like` returns."""
    expected = 1
    for stride, n in sorted(zip(values.stride(), values.shape, strict=True)):
        if n != 1:
            if stride != expected:
                return values.contiguous()
            expected *= n
    return values


def _laid_out_as(like, values):
    if values is None or (values.stride() == like.stride() and values.shape == like.shape):
        return values
    return torch.empty_strided(like.size(), like.stride(), dtype=values.dtype, device=values.device).copy_(values)


def _as_tensor(value, like):
    """A number in device memory; `torch.full` avoids a synchronising copy."""
    if isinstance(value, torch.Tensor):
        return value.to(like)
    return torch.full((), float(value), dtype=like.dtype, device=like.device)

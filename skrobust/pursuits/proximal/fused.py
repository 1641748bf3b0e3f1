"""Gradient step, shrinkage and momentum of proximal pursuits in one operation that stores a byte per coefficient."""

import functools
import importlib

import torch


def shrink_with_momentum(forward_point, previous, thresholds, momentum, positive=False, *, slopes=None, step=1.0):
    """Soft thresholding and extrapolation: one iteration of FISTA after its gradient.

    ::

        codes        = S(forward_point + step * slopes, thresholds)
        extrapolated = codes + momentum * (codes - previous)

    Differentiable in all tensors. For the backward pass it stores only the signs of the codes, a byte each (and the
    inputs needed for gradients in `step` or `momentum`). On CUDA devices with Triton forward and backward pass are one
    kernel each; elsewhere they are plain torch.

    Parameters
    ----------
    forward_point : Tensor
    previous : Tensor of the shape of `forward_point`, or None
        Codes of the previous iteration; None: no momentum, and `extrapolated` is `codes`.
    thresholds : float or Tensor that broadcasts to `forward_point`
        >= 0.
    momentum : float or Tensor that broadcasts to `forward_point`
    positive : bool, default=False
        Codes >= 0.
    slopes : Tensor of the shape of `forward_point`, or None, default=None
        Negative gradient; `step` times it is added to `forward_point`.
    step : float or Tensor that broadcasts to `forward_point`, default=1.0

    Returns
    -------
    codes, extrapolated : Tensor
        In the widest dtype of `forward_point`, `slopes` and `previous`, so that half-precision slopes still give
        full-precision codes.

    Examples
    --------
    >>> import torch
    >>> from skrobust.pursuits import shrink_with_momentum
    >>> point = torch.tensor([3.0, 0.5, -2.0], requires_grad=True)
    >>> codes, extrapolated = shrink_with_momentum(point, torch.zeros(3), 1.0, 0.5)
    >>> codes.tolist(), extrapolated.tolist()
    ([2.0, 0.0, -1.0], [3.0, 0.0, -1.5])
    >>> (codes + extrapolated).sum().backward()
    >>> point.grad.tolist()
    [2.5, 0.0, 2.5]
    """
    store_signs = torch.is_grad_enabled()
    if previous is None:
        momentum = 0.0
    elif previous is forward_point:
        previous = previous.view_as(previous)  # torch.compile refuses one tensor as two inputs of a function
    if torch.jit.is_tracing():  # a saved trace cannot contain an autograd.Function
        codes, extrapolated = _in_plain_torch(forward_point, slopes, previous, thresholds, momentum, step, positive)
        return codes, codes if previous is None else extrapolated
    codes, extrapolated, _ = _Shrink.apply(
        forward_point, slopes, previous, thresholds, momentum, step, bool(positive), store_signs
    )
    return codes, codes if previous is None else extrapolated


class _Shrink(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(point, slopes, previous, thresholds, momentum, step, positive, store_signs):
        kernels = kernels_for(point)
        if kernels is not None and kernels.takes(point, thresholds, momentum, step):
            return kernels.forward(point, slopes, previous, thresholds, momentum, step, positive, store_signs)
        codes, extrapolated = _in_plain_torch(point, slopes, previous, thresholds, momentum, step, positive)
        signs = torch.sign(codes).to(torch.int8) if store_signs else codes.new_empty(0, dtype=torch.int8)
        return codes, extrapolated, signs

    @staticmethod
    def setup_context(ctx, inputs, output):
        point, slopes, previous, thresholds, momentum, step, ctx.positive, _ = inputs
        codes, extrapolated, signs = output
        ctx.mark_non_differentiable(signs, *([extrapolated] if previous is None else []))
        ctx.set_materialize_grads(False)
        needs = ctx.needs_input_grad
        ctx.shapes = [v.shape if isinstance(v, torch.Tensor) else None for v in inputs[:6]]
        ctx.dtypes = [v.dtype if isinstance(v, torch.Tensor) else None for v in inputs[:6]]
        ctx.extrapolates = previous is not None
        ctx.settings = tuple(None if isinstance(v, torch.Tensor) else v for v in (momentum, step))
        ctx.save_for_backward(
            signs,
            momentum if isinstance(momentum, torch.Tensor) else None,
            step if isinstance(step, torch.Tensor) else None,
            slopes if needs[5] else None,
            *((codes, previous) if needs[4] and previous is not None else (None, None)),
        )

    @staticmethod
    def backward(ctx, of_codes, of_extrapolated, _):
        signs, momentum, step, slopes, codes, previous = ctx.saved_tensors
        momentum = ctx.settings[0] if momentum is None else momentum
        step = ctx.settings[1] if step is None else step
        if not ctx.extrapolates:
            of_extrapolated = None
        if of_codes is None and of_extrapolated is None:
            return (None,) * 8
        needs = ctx.needs_input_grad
        of_point, of_slopes, of_previous = _backward(
            of_codes, of_extrapolated, signs, momentum, step, ctx.positive, needs[1]
        )
        of_thresholds = of_momentum = of_step = None
        if needs[3]:
            of_thresholds = -of_point if ctx.positive else -(of_point * signs)
        if needs[4] and of_extrapolated is not None:
            of_momentum = of_extrapolated * (codes - previous)
        if needs[5] and slopes is not None:
            of_step = of_point * slopes
        values = of_point, of_slopes, of_previous, of_thresholds, of_momentum, of_step
        gradients = [
            None if value is None or not needed else value.sum_to_size(shape).to(dtype)
            for value, needed, shape, dtype in zip(values, needs[:6], ctx.shapes, ctx.dtypes, strict=True)
        ]
        return *gradients, None, None


def _in_plain_torch(point, slopes, previous, thresholds, momentum, step, positive):
    """Codes and extrapolated codes; the latter are empty without momentum."""
    if slopes is not None:
        point = point + (slopes if _is_one(step) else step * slopes)
    if positive:
        codes = (point - thresholds).relu_()
    elif isinstance(thresholds, torch.Tensor):
        codes = point - point.clip(-thresholds, thresholds)
    else:
        codes = torch.nn.functional.softshrink(point, thresholds)
    return codes, codes.new_empty(0) if previous is None else codes + momentum * (codes - previous)


def _backward(of_codes, of_extrapolated, signs, momentum, step, positive, has_slopes):
    kernels = kernels_for(signs)
    # A backward pass that will be differentiated again is recorded operation by operation.
    if kernels is not None and not torch.is_grad_enabled() and kernels.takes(signs, 0.0, momentum, step):
        return kernels.backward(of_codes, of_extrapolated, signs, momentum, step, has_slopes)
    of_previous = None
    total = of_codes
    if of_extrapolated is not None:
        from_extrapolated = (1 + momentum) * of_extrapolated
        total = from_extrapolated if of_codes is None else of_codes + from_extrapolated
        of_previous = -momentum * of_extrapolated
    of_point = total * (signs if positive else signs.abs())
    of_slopes = None if not has_slopes else of_point if _is_one(step) else step * of_point
    return of_point, of_slopes, of_previous


def _is_one(step):
    return isinstance(step, float) and step == 1.0


def kernels_for(tensor):
    """The Triton kernels if they apply: CUDA tensors outside transforms such as `torch.func.vmap`."""
    if not tensor.is_cuda or torch._C._are_functorch_transforms_active():
        return None
    return triton_kernels()


@functools.cache
def triton_kernels():
    try:
        return importlib.import_module(".fused_triton", __package__)
    except ImportError:
        return None

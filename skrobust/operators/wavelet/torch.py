"""The wavelet transform on tensors: one small matrix per axis and level, differentiable, on any device."""

import torch
from torch import nn
from torch.nn.functional import pad

from .selection import TIE_ROUNDINGS


class TorchWavelets:
    """The transform of a `WaveletPlan` on tensors of shape ``(n_samples, *grid, n_channels)``.

    `matrix` is called with ``("analysis" or "synthesis", axis, level)`` and returns that matrix in the right dtype and
    on the right device, so that the caller chooses where to keep the matrices: in buffers of a module, or in a cache.
    """

    def __init__(self, plan, matrix):
        self.plan = plan
        self._matrix = matrix

    def analyze(self, X):
        """Coefficients of shape ``(n_samples, n_channels, *plan.shape)``."""
        coarse = X.movedim(-1, 1)
        per_level = []
        for level in range(self.plan.n_levels):
            block = self._along_axes("analysis", level, coarse)
            per_level.append(block)
            coarse = block[(..., *(slice(sizes[level + 1]) for sizes in self.plan.sizes))]
        while per_level:
            coarse = self._replace_corner(per_level.pop(), coarse, len(per_level))
        return coarse

    def synthesize(self, coefficients):
        """Signals of shape ``(n_samples, *grid, n_channels)``."""
        corner = None
        for level in reversed(range(self.plan.n_levels)):
            axes = list(zip(self.plan.sizes, self.plan.starts, strict=True))
            block = coefficients[(..., *(slice(starts[level] + sizes[level + 1]) for sizes, starts in axes))]
            if corner is not None:
                block = self._replace_corner(block, corner, level)
            corner = self._along_axes("synthesis", level, block)
        return (coefficients if corner is None else corner).movedim(1, -1)

    def _along_axes(self, kind, level, block):
        if len(self.plan.sizes) == 1:
            return block @ self._matrix(kind, 0, level).T
        return self._matrix(kind, 0, level) @ block @ self._matrix(kind, 1, level).T

    def _replace_corner(self, block, corner, level):
        """`block` with the coarser part, up to where the high bands of `level` begin, replaced by `corner`."""
        starts = [axis[level] for axis in self.plan.starts]
        margins = [start - size for start, size in zip(starts, corner.shape[2:], strict=True)]
        corner = pad(corner, [edge for margin in reversed(margins) for edge in (0, margin)])
        if len(starts) == 1:
            return torch.cat([corner, block[..., starts[0] :]], dim=-1)
        top = torch.cat([corner, block[..., : starts[0], starts[1] :]], dim=-1)
        return torch.cat([top, block[..., starts[0] :, :]], dim=-2)


class WaveletMatrices(nn.Module):
    """The matrices of a `WaveletPlan` as buffers, and the transform by them.

    `tensor` converts an ndarray to a tensor of the right dtype and device; `kinds` are "analysis", "synthesis"
    or both.
    """

    def __init__(self, plan, tensor, kinds=("analysis", "synthesis")):
        super().__init__()
        self.plan = plan
        for axis in range(len(plan.sizes)):
            for level in range(plan.n_levels):
                for kind in kinds:
                    matrix = getattr(plan, f"{kind}_matrix")(axis, level)
                    self.register_buffer(f"{kind}_{axis}_{level}", tensor(matrix))

    @property
    def transform(self):
        """The transform by these buffers; created at each access, so that a copied module uses its own buffers."""
        return TorchWavelets(self.plan, lambda kind, axis, level: getattr(self, f"{kind}_{axis}_{level}"))


def largest_mask(coefficients, ks):
    """Boolean mask of the ``ks[c]`` largest magnitudes of each channel, with the kernels' rule for ties.

    ``ks[c]`` is an int, or a tensor with one integer for each sample.
    """
    magnitudes = coefficients.detach().abs().flatten(2)
    masks = []
    for channel, k in enumerate(ks):
        values = magnitudes[:, channel]
        tolerance = TIE_ROUNDINGS * torch.finfo(values.dtype).eps * values.amax(-1, keepdim=True)
        kth_largest, k = _ranked(values, k), _column(k)
        above = values > kth_largest + tolerance
        equal = (values >= kth_largest - tolerance) & ~above
        n_ties_left = k - above.sum(-1, keepdim=True)
        masks.append(above | (equal & (equal.cumsum(-1) <= n_ties_left)))
    return torch.stack(masks, dim=1).reshape(coefficients.shape)


def soften_mask(coefficients, ks, temperature):
    """A mask that changes smoothly with the coefficients: a logistic step between the k-th and the next magnitude,
    whose width is the fraction `temperature` of the threshold.
    """
    magnitudes = coefficients.abs().flatten(2)
    masks, size = [], magnitudes.shape[-1]
    for channel, k in enumerate(ks):
        values = magnitudes[:, channel]
        following = k.add(1).clamp(max=size) if isinstance(k, torch.Tensor) else min(k + 1, size)
        threshold = (_ranked(values.detach(), k) + _ranked(values.detach(), following)) / 2
        width = temperature * threshold.clamp_min(torch.finfo(values.dtype).tiny ** 0.5)
        masks.append(torch.sigmoid((values - threshold) / width))
    return torch.stack(masks, dim=1).reshape(coefficients.shape)


def _ranked(values, k):
    """The k-th largest value of each row, as a column; `k` is an int, or a tensor with one for each row."""
    if isinstance(k, torch.Tensor):
        return values.topk(int(k.max()), dim=-1).values.gather(-1, _column(k) - 1)
    return values.topk(k, dim=-1).values[:, -1:]


def _column(k):
    return k[:, None] if isinstance(k, torch.Tensor) else k

"""`PolarizingCoder` as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch
from torch import nn

from skrobust.bridge import FrontEndModule, with_backward
from skrobust.operators.wavelet.torch import WaveletMatrices
from skrobust.signals.tensors import is_exporting

from .atoms import FilterAtoms, PixelAtoms

TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Widths of the logistic steps whose mean replaces a threshold in the smooth backward pass."""


class PolarizingModule(FrontEndModule):
    """The coder of a fitted `PolarizingCoder`.

    Gradient modes. "exact": zero, the derivative almost everywhere. "identity": that of the responses, as without
    thresholds; for reconstructions, that of the image itself. "projection": that of the responses where the code is
    not zero at the input. "smooth": each threshold is a logistic step of width `temperature`. "skip": responses in
    place of codes, forward and backward; images in place of reconstructions.

    Attributes
    ----------
    temperature : float or sequence of float
        Width of the logistic step in units of the response; for several widths, the mean of their steps is used.
    """

    def __init__(self, estimator, tensor, gradient):
        rebuilds = estimator.output == "reconstruction"
        super().__init__(gradient, layout=estimator._layout, rebuilds=rebuilds, clip=estimator.clip)
        self.temperature, self.annealed = TEMPERATURES, None
        switches = estimator.switches_
        self.ternary, self.n_thresholds = switches.ternary, switches.n_thresholds
        self.respond = _responder(switches.atoms, tensor)
        like = tensor(np.zeros(0))
        dtype = np.dtype(np.float32 if like.dtype == torch.float32 else np.float64)
        self.register_buffer("thresholds", tensor(switches.in_dtype(dtype)))
        self.register_buffer("scale", tensor(np.repeat(switches.atoms.scale, self.n_thresholds)))
        if rebuilds:
            matrix, offset = estimator._decoder()
            matrix = matrix.tocsr().tocoo()  # in the order of rows, without duplicates
            self.decoder_shape = tuple(matrix.shape)
            self.register_buffer("decoder_indices", torch.as_tensor(np.stack(matrix.coords), device=like.device).long())
            self.register_buffer("decoder_values", tensor(matrix.data))
            self.register_buffer("offset", tensor(offset))

    def anneal(self, progress):
        """Use one width, from the largest `temperature` at progress 0 to the smallest at 1; None: the mean of all."""
        self.annealed = progress

    def observe(self, values):
        return self.respond(values).repeat_interleave(self.n_thresholds, dim=1)

    def undefended(self, seen):
        return seen / self.scale

    def exact(self, seen):
        return with_backward(self.encode(seen), 0 * seen)

    def encode(self, seen):
        codes = (seen > self.thresholds).to(seen)
        return codes - (-seen > self.thresholds).to(seen) if self.ternary else codes

    def projected(self, seen, codes):
        return self.undefended(seen) * (codes != 0)

    def relaxed(self, seen, codes):
        responses, thresholds = self.undefended(seen), self.thresholds / self.scale
        total = 0
        widths = np.atleast_1d(self.temperature).tolist()
        if self.annealed is not None:
            widths = [max(widths) * (min(widths) / max(widths)) ** self.annealed]
        for width in widths:
            total = total + torch.sigmoid((responses - thresholds) / width)
            if self.ternary:
                total = total - torch.sigmoid((-responses - thresholds) / width)
        return total / len(widths)

    def rebuild(self, codes, values):
        return (self._decode(codes) + self.offset).reshape(values.shape)

    def _decode(self, codes):
        """Product with the decoder; dense in exported graphs, because exporters do not support sparse tensors."""
        if is_exporting():
            zeros = self.decoder_values.new_zeros(self.decoder_shape)
            return codes @ zeros.index_put(tuple(self.decoder_indices.unbind()), self.decoder_values).T
        decoder = torch.sparse_coo_tensor(
            self.decoder_indices, self.decoder_values, self.decoder_shape, is_coalesced=True, check_invariants=False
        )
        return torch.sparse.mm(decoder, codes.T).T


def encode_tensor(estimator, values):
    """Output of `estimator` for a tensor on its grid; its derivative is zero, as that of codes almost everywhere."""

    def tensor(array):
        return torch.as_tensor(np.ascontiguousarray(array), dtype=values.dtype, device=values.device)

    return PolarizingModule(estimator, tensor, "exact").outputs(values)


def _responder(atoms, tensor):
    """Module from signals on their grid to responses of shape (n_samples, n_atoms)."""
    if isinstance(atoms, PixelAtoms):
        return nn.Flatten()
    return (_Filters if isinstance(atoms, FilterAtoms) else _Wavelets)(atoms, tensor)


class _Filters(nn.Module):
    def __init__(self, atoms, tensor):
        super().__init__()
        self.stride = atoms.stride
        self.register_buffer("weight", tensor(np.moveaxis(atoms.filters, -1, 1)))

    def forward(self, values):
        correlate = nn.functional.conv1d if values.ndim == 3 else nn.functional.conv2d
        responses = correlate(values.movedim(-1, 1), self.weight, stride=self.stride)
        return responses.movedim(1, -1).flatten(1)


class _Wavelets(nn.Module):
    def __init__(self, atoms, tensor):
        super().__init__()
        self.wavelets = WaveletMatrices(atoms.basis.plan, tensor, kinds=("analysis",))

    def forward(self, values):
        return self.wavelets.transform.analyze(values).movedim(1, -1).flatten(1)

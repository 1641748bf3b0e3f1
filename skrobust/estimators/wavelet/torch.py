"""`WaveletSparsifier` as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
import torch

from skrobust.bridge import FrontEndModule
from skrobust.estimators.shared.color import color_matrices
from skrobust.operators.wavelet.torch import WaveletMatrices, largest_mask, soften_mask
from skrobust.signals import count_of

SMOOTH_TEMPERATURE = 0.1
"""Width of the smooth selection as a fraction of the threshold."""


class WaveletModule(FrontEndModule):
    """The front end of a fitted `WaveletSparsifier`.

    Gradient modes. "exact": that of the kept coefficients and the clip. "projection": that of the kept coefficients
    only. "smooth": that of a logistic selection. "identity": as if the front end were the identity. "skip": no front
    end, forward and backward.
    """

    n_nonzero_coefs = None
    """A tensor of fractions, one per sample, in place of the estimator's `n_nonzero_coefs`. None: the estimator's."""

    def __init__(self, estimator, conversion):
        super().__init__(conversion.gradient, layout=estimator._layout, clip=estimator.clip)
        self.estimator = estimator
        self.wavelets = WaveletMatrices(estimator.basis_.plan, conversion.tensor)
        self.has_color_space = estimator.color_space is not None
        if self.has_color_space:
            to_space, back = color_matrices(estimator.color_space, np.float64)
            self.register_buffer("to_color_space", conversion.tensor(to_space))
            self.register_buffer("from_color_space", conversion.tensor(back))

    @property
    def ks(self):
        """K of each channel: an int, or a tensor with one for each sample."""
        if self.n_nonzero_coefs is None:
            return self.estimator.n_nonzero_coefs_
        n_coefficients = self.estimator.basis_.n_coefficients
        counts = [count_of(share, n_coefficients) for share in self.n_nonzero_coefs.detach().tolist()]
        k = torch.tensor(counts, device=self.n_nonzero_coefs.device)
        return (k,) * self.layout.n_channels

    def residual(self, X):
        """What the front end removes from images, in their layout."""
        return X - self(X)

    def observe(self, values):
        return self.wavelets.transform.analyze(values @ self.to_color_space if self.has_color_space else values)

    def exact(self, seen):
        return seen * largest_mask(seen, self.ks)

    def relaxed(self, seen, codes):
        return seen * soften_mask(seen, self.ks, SMOOTH_TEMPERATURE)

    def rebuild(self, codes, values):
        pixels = self.wavelets.transform.synthesize(codes)
        return pixels @ self.from_color_space if self.has_color_space else pixels

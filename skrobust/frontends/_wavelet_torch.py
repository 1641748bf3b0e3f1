"""`WaveletSparsifier` as a torch module, with the backward passes that an attacker may choose."""

import numpy as np
from torch import nn

from skrobust.bridge import with_backward
from skrobust.pursuits._wavelet_torch import WaveletMatrices, largest_mask, soften_mask
from skrobust.signals import clip_values

from ._color import color_matrices

SMOOTH_TEMPERATURE = 0.1
"""Width of the smooth selection as a fraction of the threshold."""


class WaveletModule(nn.Module):
    """The front end of a fitted `WaveletSparsifier`.

    Gradient modes: "exact" differentiates through the kept coefficients and the clip, "projection" through the kept
    coefficients alone, "smooth" through a logistic selection, "identity" not at all; "skip" leaves the front end out.
    """

    def __init__(self, estimator, conversion):
        super().__init__()
        self.gradient = conversion.gradient
        self.layout = estimator._layout
        self.ks = estimator.n_nonzero_coefs_
        self.clip = estimator.clip
        self.wavelets = WaveletMatrices(estimator.basis_.plan, conversion.tensor)
        self.has_color_space = estimator.color_space is not None
        if self.has_color_space:
            to_space, back = color_matrices(estimator.color_space, np.float64)
            self.register_buffer("to_color_space", conversion.tensor(to_space))
            self.register_buffer("from_color_space", conversion.tensor(back))

    def forward(self, X):
        if self.gradient == "skip":
            return X
        signals = self.layout.place(X)
        pixels = signals.values
        coefficients = self.wavelets.transform.analyze(pixels @ self.to_color_space if self.has_color_space else pixels)
        mask = largest_mask(coefficients, self.ks)
        kept = self._synthesize(coefficients * mask)
        cleaned = kept if self.clip is None else clip_values(kept, *self.clip)
        if self.gradient == "identity":
            cleaned = with_backward(cleaned, pixels)
        elif self.gradient == "projection":
            cleaned = with_backward(cleaned, kept)
        elif self.gradient == "smooth":
            soft = coefficients * soften_mask(coefficients, self.ks, SMOOTH_TEMPERATURE)
            cleaned = with_backward(cleaned, self._synthesize(soft))
        return signals.restore(cleaned)

    def _synthesize(self, coefficients):
        pixels = self.wavelets.transform.synthesize(coefficients)
        return pixels @ self.from_color_space if self.has_color_space else pixels

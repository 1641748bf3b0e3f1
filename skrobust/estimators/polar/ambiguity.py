"""The share of a code that an attacker can change, and a verdict on it."""

from dataclasses import dataclass

import numpy as np

_MAX_SAMPLES = 4096
"""Maximum number of samples whose codes are compared."""


@dataclass(frozen=True)
class AmbiguousShare:
    """The share of code entries that a perturbation can change.

    Attributes
    ----------
    eps : float
    norm : str
    overall : float
        Mean over images and entries.
    per_atom : ndarray of the shape of the code of one image
        Mean over images, for each entry.
    per_image : ndarray of shape (n_samples,)
        Mean over entries, for each image.
    difference : float
        Share of the entries in which the codes of two of the images differ, on average.
    """

    eps: float
    norm: str
    overall: float
    per_atom: np.ndarray
    per_image: np.ndarray
    difference: float

    @property
    def ratio(self):
        """`overall` / `difference`: at 1/2 an attacker can, on average, give two images the same code."""
        return self.overall / self.difference if self.difference > 0 else np.inf

    @property
    def verdict(self):
        """The verdict in one or two sentences."""
        sentence = f"{self.norm} perturbations of {self.eps:g} can change {self.overall:.1%} of the code"
        if self.difference == 0:
            return f"Useless: all images have the same code. ({sentence[0].upper()}{sentence[1:]}.)"
        details = f"{sentence}, and two images differ in {self.difference:.1%} of it"
        if self.ratio < 0.25:
            return f"Fits: {details}. Most of what distinguishes images cannot be changed."
        if self.ratio < 0.5:
            return f"Fits partly: {details}. A good part of what distinguishes images can be changed."
        return f"Does not fit: {details}. An attacker can give two images the same code."

    def __str__(self):
        return self.verdict


def ambiguous_share(codes, bounds, code_shape, eps, norm):
    """`AmbiguousShare` from codes of shape (n_samples, n_codes) and their `CodeBounds`."""
    changeable = bounds.ambiguous
    return AmbiguousShare(
        eps=float(eps),
        norm=norm,
        overall=float(changeable.mean()),
        per_atom=changeable.mean(axis=0).reshape(code_shape),
        per_image=changeable.mean(axis=1),
        difference=_mean_difference(codes),
    )


def _mean_difference(codes):
    """Mean share of entries in which two different samples differ."""
    if len(codes) > _MAX_SAMPLES:
        codes = codes[np.linspace(0, len(codes) - 1, _MAX_SAMPLES).round().astype(int)]
    n = len(codes)
    if n < 2:
        return 0.0
    counts = np.stack([(codes == value).sum(axis=0) for value in (-1, 0, 1)]).astype(np.float64)
    equal_pairs = (counts * (counts - 1)).sum(axis=0) / (n * (n - 1))
    return float(np.mean(1 - equal_pairs))

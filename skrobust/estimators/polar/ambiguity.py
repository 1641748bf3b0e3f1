"""How much of a code an attacker can move, and whether that is little."""

from dataclasses import dataclass

import numpy as np

_MOST_PAIRED = 4096


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
        """`overall` over `difference`: at 1/2, what an attacker can make of two images meets, on average."""
        return self.overall / self.difference if self.difference > 0 else np.inf

    @property
    def verdict(self):
        """One plain sentence."""
        moved = f"{self.norm} perturbations of {self.eps:g} can move {self.overall:.1%} of the code"
        if self.difference == 0:
            return f"Useless: all images have the same code. ({moved[0].upper()}{moved[1:]}.)"
        told = f"{moved}, and two images differ in {self.difference:.1%} of it"
        if self.ratio < 0.25:
            return f"Fits: {told}. Most of what tells images apart cannot be touched."
        if self.ratio < 0.5:
            return f"Fits partly: {told}. A good part of what tells images apart can be changed."
        return f"Does not fit: {told}. An attacker can take two images half of the way, to the same code."

    def __str__(self):
        return self.verdict


def ambiguous_share(codes, bounds, code_shape, eps, norm):
    """`AmbiguousShare` from codes of shape (n_samples, n_codes) and their `CodeBounds`."""
    moved = bounds.ambiguous
    return AmbiguousShare(
        eps=float(eps),
        norm=norm,
        overall=float(moved.mean()),
        per_atom=moved.mean(axis=0).reshape(code_shape),
        per_image=moved.mean(axis=1),
        difference=_mean_difference(codes),
    )


def _mean_difference(codes):
    """Mean share of entries in which two different samples differ."""
    if len(codes) > _MOST_PAIRED:
        codes = codes[np.linspace(0, len(codes) - 1, _MOST_PAIRED).round().astype(int)]
    n = len(codes)
    if n < 2:
        return 0.0
    counts = np.stack([(codes == value).sum(axis=0) for value in (-1, 0, 1)]).astype(np.float64)
    equal_pairs = (counts * (counts - 1)).sum(axis=0) / (n * (n - 1))
    return float(np.mean(1 - equal_pairs))

"""Share of a code that an attacker can change, against eps."""

import numpy as np

from skrobust.displays.drawing.style import FAINT, GRID, MODEL_COLORS, drawing

from .base import Display


class AmbiguityDisplay(Display):
    """Share of a polarized code that perturbations can change, against their size.

    Draws the mean over images, a band of their middle 90 %, and a line at half of the share in which two images differ.
    Where the curve meets that line, an attacker can, on average, move two images to the same code.

    Parameters
    ----------
    shares : sequence of AmbiguousShare
        Of one coder, by increasing eps.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    line_ : matplotlib.lines.Line2D
    limit_ : matplotlib.lines.Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import PolarizingCoder
    >>> from skrobust.displays import AmbiguityDisplay
    >>> X = load_digits().data / 16
    >>> display = AmbiguityDisplay.from_estimator(PolarizingCoder().fit(X), X, eps=[0, 0.05, 0.1])
    >>> len(display.shares)
    3
    """

    def __init__(self, shares):
        self.shares = shares

    @classmethod
    def from_estimator(cls, estimator, X, *, eps=None, norm="linf", clip=(0, 1), ax=None):
        """Draw the shares of a fitted `PolarizingCoder`, or of a Pipeline that begins with one.

        Parameters
        ----------
        estimator : PolarizingCoder or Pipeline
        eps : array-like or None, default=None
            Radii. None: from 0 to 0.3.
        norm : {"linf", "l2", "l1"}, default="linf"
        clip : pair of float or None, default=(0, 1)
        """
        coder = estimator.steps[0][1] if hasattr(estimator, "steps") else estimator
        if not hasattr(coder, "ambiguous_share"):
            raise TypeError(
                f"AmbiguityDisplay needs a fitted PolarizingCoder or a Pipeline that begins with one, got "
                f"{type(coder).__name__}."
            )
        radii = np.sort(np.linspace(0, 0.3, 13) if eps is None else np.asarray(eps, dtype=float))
        return cls([coder.ambiguous_share(X, radius, norm=norm, clip=clip) for radius in radii]).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curve."""
        with drawing() as plt:
            if ax is None:
                _, ax = plt.subplots(figsize=(5.6, 3.7), layout="constrained")
            eps = [share.eps for share in self.shares]
            low, high = np.quantile([share.per_image for share in self.shares], [0.05, 0.95], axis=1)
            mean = [100 * share.overall for share in self.shares]
            ax.fill_between(eps, 100 * low, 100 * high, color=MODEL_COLORS[0], alpha=0.15, linewidth=0)
            (self.line_,) = ax.plot(eps, mean, color=MODEL_COLORS[0], linewidth=1.8)
            limit = 50 * self.shares[-1].difference
            self.limit_ = ax.axhline(limit, color=FAINT, linewidth=0.8, linestyle=(0, (4, 3)))
            ax.annotate(
                "half of the difference between two images",
                (0, limit),
                xycoords=("axes fraction", "data"),
                xytext=(5, 3),
                textcoords="offset points",
                color=FAINT,
                fontsize=8,
            )
            ax.grid(axis="y", color=GRID, linewidth=0.8)
            ax.set_axisbelow(True)
            ax.set(xlabel=f"eps ({self.shares[0].norm})", ylabel="code that can be changed, %")
            ax.set_ylim(bottom=0)
            ax.set_xlim(eps[0], eps[-1] if len(eps) > 1 else None)
            self.ax_, self.figure_ = ax, ax.figure
        return self

"""Sparsity against residual, and accuracy against sparsity."""

import numpy as np

from skrobust.displays.drawing.style import FAINT, GRID, MODEL_COLORS, drawing, line_style

from .base import Display

_SYMBOLS = {"alpha": "alpha", "n_nonzero_coefs": "share of coefficients kept"}


def _axes(plt, ax, width=5.6):
    if ax is None:
        _, ax = plt.subplots(figsize=(width, 3.7), layout="constrained")
    ax.grid(axis="y", color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    return ax


class AdaptiveSparsityDisplay(Display):
    """The best sparsity at each level of noise against the residual, and the line through them.

    This is figure 3 of Dai et al., "Revisiting sparse convolutional model for visual recognition", NeurIPS 2022.

    Parameters
    ----------
    sweeps : dict of str to SparsitySweep
        One for each kind of noise.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    lines_ : dict of str to matplotlib.lines.Line2D
        The fitted lines.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import AdaptiveSparsity, WaveletSparsifier
    >>> from skrobust.displays import AdaptiveSparsityDisplay
    >>> from skrobust.evaluation import corruption_levels
    >>> X, y = load_digits(return_X_y=True)
    >>> front_end = WaveletSparsifier("haar", n_nonzero_coefs=0.5, image_shape=(8, 8))
    >>> noise = corruption_levels("gaussian_noise", [0.1, 0.3], random_state=0)
    >>> model = AdaptiveSparsity(make_pipeline(front_end, LogisticRegression()), noise, max_samples=100)
    >>> display = AdaptiveSparsityDisplay.from_estimator(model.fit(X / 16, y))
    >>> list(display.lines_)
    ['corruption']
    """

    def __init__(self, sweeps):
        self.sweeps = sweeps

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Draw the lines of a fitted `AdaptiveSparsity`."""
        if not hasattr(estimator, "sweeps_"):
            raise TypeError(f"AdaptiveSparsityDisplay needs a fitted AdaptiveSparsity, got {type(estimator).__name__}.")
        return cls(estimator.sweeps_).plot(ax=ax)

    def plot(self, ax=None):
        """Draw crosses and lines."""
        with drawing() as plt:
            ax, self.lines_ = _axes(plt, ax), {}
            for index, (kind, sweep) in enumerate(self.sweeps.items()):
                color = MODEL_COLORS[index % len(MODEL_COLORS)]
                ax.plot(sweep.residuals, sweep.best, "x", color=color, markersize=7)
                intercept, slope = sweep.line()
                ends = np.array([sweep.residuals.min(), sweep.residuals.max()])
                (self.lines_[kind],) = ax.plot(
                    ends,
                    intercept + slope * ends,
                    color=color,
                    linestyle=line_style(index),
                    label=kind.replace("_", " "),
                )
            ax.set(xlabel="residual (root mean square)", ylabel=f"best {_SYMBOLS[sweep.param_name]}")
            ax.set_title(
                f"on {sweep.n_samples} training images at each level of noise", loc="left", fontsize=9, color=FAINT
            )
            ax.legend(handlelength=2.6)
            self.ax_, self.figure_ = ax, ax.figure
        return self


class SparsitySweepDisplay(Display):
    """Accuracy against sparsity, one curve for each level of noise; a cross marks the best value.

    This is figure 2 of Dai et al., "Revisiting sparse convolutional model for visual recognition", NeurIPS 2022. It
    uses labels: on test images it shows what an oracle could reach, not what a classifier does.

    Parameters
    ----------
    sweep : SparsitySweep

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    lines_ : list of matplotlib.lines.Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import WaveletSparsifier
    >>> from skrobust.displays import SparsitySweepDisplay
    >>> from skrobust.evaluation import Corruption
    >>> X, y = load_digits(return_X_y=True)
    >>> front_end = WaveletSparsifier("haar", n_nonzero_coefs=0.5, image_shape=(8, 8))
    >>> model = make_pipeline(front_end, LogisticRegression()).fit(X[:1000] / 16, y[:1000])
    >>> noise = [Corruption("gaussian_noise", severity, random_state=0) for severity in (1, 5)]
    >>> display = SparsitySweepDisplay.from_estimator(model, X[1000:1100] / 16, y[1000:1100], noise)
    >>> len(display.lines_)
    2
    """

    def __init__(self, sweep):
        self.sweep = sweep

    @classmethod
    def from_estimator(cls, estimator, X, y, corruptions, *, param_name=None, param_range=None, verbose=0, ax=None):
        """Measure and draw; parameters as those of `skrobust.estimators.sparsity_sweep`."""
        from skrobust.estimators import sparsity_sweep

        options = {"param_name": param_name, "param_range": param_range, "verbose": verbose}
        return cls(sparsity_sweep(estimator, X, y, corruptions, **options)).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curves."""
        sweep = self.sweep
        with drawing() as plt:
            ax, self.lines_ = _axes(plt, ax, width=7.4), []
            colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(sweep.names)))
            for name, row, best, color in zip(sweep.names, sweep.accuracy, sweep.best, colors, strict=True):
                self.lines_ += ax.plot(sweep.values, 100 * row, color=color, linewidth=1.8, label=name)
                ax.plot([best], [100 * row.max()], "x", color=color, markersize=7)
            ax.axvline(sweep.base, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2.5)))
            ax.set(xlabel=_SYMBOLS[sweep.param_name], ylabel="accuracy, %")
            ax.set_title(f"{sweep.n_samples} images; dotted: value in training", loc="left", fontsize=9, color=FAINT)
            ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
            self.ax_, self.figure_ = ax, ax.figure
        return self

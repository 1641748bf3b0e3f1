"""Accuracy against eps."""

from skrobust.displays.drawing.curves import curves_of_report, draw_curves
from skrobust.evaluation.report.run import robustness_report

from .base import Display


class RobustnessCurveDisplay(Display):
    """Accuracy under attack against eps, one curve per model, with confidence intervals.

    Create it with `from_estimator` or `from_report`.

    Parameters
    ----------
    curves : dict of str to (eps, accuracy, low, high)
        Arrays of one length each, from eps = 0 on.
    norm : str, default="linf"
    baseline : str or None, default=None
        The curve drawn in grey.
    chance : float or None, default=None
        Accuracy of always predicting the most frequent class, drawn as a line.
    subtitle : str, default=""
        Threat model, attacks and number of images.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    lines_ : dict of str to matplotlib.lines.Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skrobust.displays import RobustnessCurveDisplay
    >>> accuracy = np.array([0.98, 0.6, 0.1])
    >>> curve = (np.array([0, 0.1, 0.2]), accuracy, accuracy - 0.02, accuracy + 0.02)
    >>> display = RobustnessCurveDisplay({"model": curve}).plot()
    >>> list(display.lines_)
    ['model']
    """

    def __init__(self, curves, *, norm="linf", baseline=None, chance=None, subtitle=""):
        self.curves = curves
        self.norm = norm
        self.baseline = baseline
        self.chance = chance
        self.subtitle = subtitle

    @classmethod
    def from_estimator(cls, estimator, X, y, *, eps, attacks=None, ax=None, **report_parameters):
        """Attack `estimator` and draw its curve; parameters as those of `robustness_report`."""
        options = {"checks": False, "n_examples": 0, **report_parameters}
        return cls.from_report(robustness_report(estimator, X, y, eps=eps, attacks=attacks, **options), ax=ax)

    @classmethod
    def from_report(cls, report, *, ax=None):
        """The worst-per-image curves of a `RobustnessReport`."""
        return cls(**curves_of_report(report)).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curves."""
        settings = {"norm": self.norm, "baseline": self.baseline, "chance": self.chance, "subtitle": self.subtitle}
        self.ax_, self.lines_ = draw_curves(ax, self.curves, **settings)
        self.figure_ = self.ax_.figure
        return self

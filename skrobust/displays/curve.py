"""Accuracy against eps."""

import numpy as np

from .style import FAINT, GRID, drawing, line_style, model_colors


class RobustnessCurveDisplay:
    """Accuracy under attack against eps, one curve a model, with confidence intervals.

    Made by `from_estimator` or `from_report` rather than by hand.

    Parameters
    ----------
    curves : dict of str to (eps, accuracy, low, high)
        Arrays of one length each, from eps = 0 on.
    norm : str, default="linf"
    baseline : str or None, default=None
        The curve drawn in grey.
    chance : float or None, default=None
        Accuracy of a blind guess, drawn as a line.
    subtitle : str, default=""
        Threat model, attacks and number of images.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    ax_ : matplotlib.axes.Axes
    lines_ : dict of str to matplotlib.lines.Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skrobust.evaluation import RobustnessCurveDisplay
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
        from skrobust.evaluation.report.run import robustness_report

        words = {"checks": False, "n_examples": 0, **report_parameters}
        return cls.from_report(robustness_report(estimator, X, y, eps=eps, attacks=attacks, **words), ax=ax)

    @classmethod
    def from_report(cls, report, *, ax=None):
        """The worst-per-image curves of a `RobustnessReport`.

        Returns
        -------
        RobustnessCurveDisplay
        """
        n_attacks = max((len(trials) for trials in report.trials.values()), default=0)
        attacks = "one attack" if n_attacks == 1 else f"worst of {n_attacks} attacks per image"
        display = cls(
            {model: report.curve(model) for model in report.models},
            norm=report.norm,
            baseline=report.baseline,
            chance=float(np.unique(report.y, return_counts=True)[1].max() / report.n_samples),
            subtitle=f"{attacks}, n = {report.n_samples}",
        )
        return display.plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.

        Returns
        -------
        self
        """
        with drawing() as plt:
            if ax is None:
                _, ax = plt.subplots(figsize=(5.6, 3.7), layout="constrained")
            colors = model_colors(self.curves, self.baseline)
            self.lines_ = {}
            if self.chance is not None:
                ax.axhline(100 * self.chance, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=1)
                ax.annotate(
                    "always the commonest class",
                    (0, 100 * self.chance),
                    xycoords=("axes fraction", "data"),
                    xytext=(5, 3),
                    textcoords="offset points",
                    fontsize=8,
                    color=FAINT,
                )
            for place, (name, (eps, accuracy, low, high)) in enumerate(self.curves.items()):
                ax.fill_between(
                    eps, 100 * np.asarray(low), 100 * np.asarray(high), color=colors[name], alpha=0.14, linewidth=0
                )
                (self.lines_[name],) = ax.plot(
                    eps,
                    100 * np.asarray(accuracy),
                    color=colors[name],
                    linestyle=line_style(place),
                    linewidth=2,
                    marker="o",
                    markersize=4,
                    label=name,
                    zorder=3,
                )
            ax.set(xlabel=f"eps ({norm_symbol(self.norm)})", ylabel="accuracy under attack, %", ylim=(0, 103))
            ax.set_xlim(left=0)
            ax.locator_params(axis="x", nbins=5)
            ax.set_axisbelow(True)
            ax.grid(axis="y", color=GRID, linewidth=0.8)
            ax.tick_params(length=0)
            ax.legend(loc="upper right" if self._falls() else "lower left", handlelength=2.6)
            if self.subtitle:
                ax.set_title(self.subtitle, loc="left", fontsize=9, color=FAINT)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _falls(self):
        """Whether the upper right corner is free: all curves end low."""
        return max(float(accuracy[-1]) for _, accuracy, _, _ in self.curves.values()) < 0.6


def norm_symbol(norm):
    """The norm as people write it."""
    return {"linf": "l∞", "l2": "l2", "l1": "l1"}.get(norm, norm)

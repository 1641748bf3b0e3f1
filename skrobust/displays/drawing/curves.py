"""Accuracy against eps, drawn from plain arrays."""

import numpy as np

from .style import FAINT, GRID, drawing, line_style, model_colors


def norm_symbol(norm):
    """Symbol of a norm."""
    return {"linf": "l∞", "l2": "l2", "l1": "l1"}.get(norm, norm)


def curves_of_report(report):
    """Arguments of `draw_curves` from a `RobustnessReport`: the worst-case accuracy of each model."""
    n_attacks = max((len(trials) for trials in report.trials.values()), default=0)
    attacks = "one attack" if n_attacks == 1 else f"worst of {n_attacks} attacks per image"
    return {
        "curves": {model: report.curve(model) for model in report.models},
        "norm": report.norm,
        "baseline": report.baseline,
        "chance": float(np.unique(report.y, return_counts=True)[1].max() / report.n_samples),
        "subtitle": f"{attacks}, n = {report.n_samples}",
    }


def draw_curves(ax, curves, *, norm="linf", baseline=None, chance=None, subtitle="", quantity="accuracy under attack"):
    """Draw one curve for each model, with its confidence band; arguments as of `RobustnessCurveDisplay`.

    Returns the axes, those of a new figure for ``ax=None``, and the lines by model.
    """
    with drawing() as plt:
        if ax is None:
            _, ax = plt.subplots(figsize=(5.6, 3.7), layout="constrained")
        colors = model_colors(curves, baseline)
        lines = {}
        if chance is not None:
            ax.axhline(100 * chance, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=1)
            ax.annotate(
                "always the most frequent class",
                (0, 100 * chance),
                xycoords=("axes fraction", "data"),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=8,
                color=FAINT,
            )
        for index, (name, (eps, accuracy, low, high)) in enumerate(curves.items()):
            band = 100 * np.asarray(low), 100 * np.asarray(high)
            ax.fill_between(eps, *band, color=colors[name], alpha=0.14, linewidth=0)
            (lines[name],) = ax.plot(
                eps,
                100 * np.asarray(accuracy),
                color=colors[name],
                linestyle=line_style(index),
                linewidth=2,
                marker="o",
                markersize=4,
                label=name,
                zorder=3,
            )
        ax.set(xlabel=f"eps ({norm_symbol(norm)})", ylabel=f"{quantity}, %", ylim=(0, 103))
        ax.set_xlim(left=0)
        ax.locator_params(axis="x", nbins=5)
        ax.set_axisbelow(True)
        ax.grid(axis="y", color=GRID, linewidth=0.8)
        ax.tick_params(length=0)
        upper_right_is_free = max(float(accuracy[-1]) for _, accuracy, _, _ in curves.values()) < 0.6
        ax.legend(loc="upper right" if upper_right_is_free else "lower left", handlelength=2.6)
        if subtitle:
            ax.set_title(subtitle, loc="left", fontsize=9, color=FAINT)
    return ax, lines

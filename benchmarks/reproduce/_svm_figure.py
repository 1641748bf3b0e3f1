"""The picture of sparsifying_frontend_svm.py: figure 6 of the paper, with what is left of it under stronger attacks."""

import matplotlib.pyplot as plt

INK, FAINT, GRID, GREY = "#22262c", "#6b727d", "#e4e7eb", "#8a8f98"
# The published attacks share one hue, from light to dark; what overturns them is the other.
STYLES = {
    "semi-white box": ("#9cc3e6", "-", "o"),
    "white box": ("#4d92cf", "-", "s"),
    "iterated projections, paper": ("#1f6fb2", (0, (4, 1.5)), "^"),
    "iterated projections, code": ("#123f66", (0, (1.2, 1.4)), "v"),
    "worst case": ("#c8572a", "-", "D"),
}
LABELS = {"worst case": "worst case per image,\nall attacks", "undefended": "undefended, C = 1"}
TUNED = {
    "haar, tuned": ("#2a8c6a", "-", "haar front end, tuned"),
    "db5, tuned": ("#7b5aa6", (0, (5, 1.5)), "db5 front end, tuned"),
    "undefended, l1, tuned": ("#3d434b", (0, (1.2, 1.4)), "undefended, l1 penalty, tuned"),
    "undefended, tuned": (GREY, (0, (5, 1.5, 1.2, 1.5)), "undefended, l2 penalty, tuned"),
}
LOOK = {
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def draw(content, undefended):
    """Three panels: accuracy over rho, over eps, and of what was tuned for accuracy under attack.

    Parameters
    ----------
    content : dict
        As saved in the JSON.
    undefended : str
        Name of the undefended SVM in it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with plt.rc_context(LOOK):
        figure, panels = plt.subplots(1, 3, figsize=(14.4, 4.6), sharey=True, layout="constrained")
        over_rho(panels[0], content)
        over_eps(panels[1], content, undefended)
        tuned(panels[2], content)
        panels[0].set(ylabel="accuracy, %", ylim=(0, 102))
        for panel in panels:
            panel.set_axisbelow(True)
            panel.grid(axis="y", color=GRID, linewidth=0.8)
            panel.tick_params(length=0)
    return figure


def over_rho(panel, content):
    rows = content["curve_over_rho"]
    for name, (color, line, marker) in STYLES.items():
        x, y = [100 * row["rho"] for row in rows], [100 * row[name] for row in rows]
        panel.plot(x, y, color=color, linestyle=line, marker=marker, markersize=4, linewidth=1.8)
    paper = [value for value in content["paper"]["db5"][1:3]]
    panel.plot([2, 2], paper, linestyle="none", marker="*", markersize=12, color="#e0b020", markeredgecolor=INK,
               markeredgewidth=0.6, zorder=5, label="printed in the paper")  # fmt: skip
    panel.set(xlabel="sparsity rho, % of the coefficients", xlim=(0, None))
    panel.legend(loc="lower left")
    title(panel, "db5 front end, C = 1, eps = 0.1", "over the sparsity (figure 6a)", content)


def over_eps(panel, content, undefended):
    rows = content["curve_over_eps"]
    for name, (color, line, marker) in (STYLES | {undefended: (GREY, "-", ".")}).items():
        x, y = [row["eps"] for row in rows], [100 * row[name] for row in rows]
        panel.plot(x, y, color=color, linestyle=line, marker=marker, markersize=4, linewidth=1.8,
                   label=LABELS.get(name, name))  # fmt: skip
    panel.set(xlabel="eps (l∞, images in [0, 1])", xlim=(0, None))
    panel.legend(loc="lower left", bbox_to_anchor=(0.21, 0.04))
    title(panel, f"db5 front end, C = 1, rho = {100 * content['rho']:g} %", "over the attack (figure 6b)", content)


def tuned(panel, content):
    models = content["worst_case"]["models"]
    for name, (color, line, label) in TUNED.items():
        one = models[name]
        low, high = ([100 * value for value in one[end]] for end in ("low", "high"))
        panel.fill_between(one["eps"], low, high, color=color, alpha=0.13, linewidth=0)
        panel.plot(one["eps"], [100 * a for a in one["accuracy"]], color=color, linestyle=line, marker="o",
                   markersize=4, linewidth=2, label=label)  # fmt: skip
    panel.set(xlabel="eps (l∞, images in [0, 1])", xlim=(0, None))
    panel.legend(loc="lower left")
    title(panel, "tuned for accuracy under attack at eps = 0.1", "worst case per image, 95 % intervals", content)


def title(panel, first, second, content):
    panel.set_title(first, loc="left", fontsize=11, fontweight="bold", pad=20)
    n = content["worst_case"]["n"]
    panel.annotate(f"{second}, n = {n}", (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
                   fontsize=9, color=FAINT)  # fmt: skip

"""The picture of layered_mnist.py: the paper's curves under FGSM, the same networks under PGD, and what was scouted."""

import matplotlib.pyplot as plt
import numpy as np
from _svm_figure import GRID, INK, LOOK

HUES = {"L-THR": "#c8572a", "L-BP": "#1f6fb2"}
ATTACKS = {"fgsm": ((0, (4, 1.5)), "o", "FGSM"), "pgd": ("-", "D", "PGD, worst case")}


def draw(content):
    """Three panels: accuracy over eps, lead of L-BP over L-THR over eps, scouted networks at one eps.

    Parameters
    ----------
    content : dict
        As saved in the JSON.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with plt.rc_context(LOOK):
        figure, panels = plt.subplots(1, 3, figsize=(14.4, 4.8), layout="constrained", width_ratios=(1, 1, 1.15))
        seeds = complete_seeds(content)
        curves(panels[0], content, seeds)
        leads(panels[1], content, seeds)
        scouted(panels[2], content)
        for panel in panels[:2]:
            panel.set_xlabel("eps (l-infinity, pixels in [0, 1])")
            panel.grid(axis="y", color=GRID, linewidth=0.8)
        for panel in panels:
            panel.set_axisbelow(True)
            panel.tick_params(length=0)
    return figure


def complete_seeds(content):
    """Seeds of which both networks met all attacks."""
    last = str(content["settings"]["transfer_eps"][-1])
    networks = content["results"]["comparison"]
    return [
        s
        for s, both in networks.items()
        if len(both) == 2 and all(last in n.get("transfer", {}) for n in both.values())
    ]


def accuracies(content, seeds, name, attack):
    """eps, and accuracies of shape (n_seeds, n_eps) in percent, clean images first."""
    radii, rows = content["settings"][f"{attack}_eps"], []
    for seed in seeds:
        network = content["results"]["comparison"][seed][name]
        found = [network[attack][str(eps)] for eps in radii]
        if attack == "pgd":
            found = [list(told["after"].values())[-1] for told in found]
        rows.append([network["clean_on_attacked"], *found])
    return [0, *radii], 100 * np.array(rows)


def curves(panel, content, seeds):
    for name, hue in HUES.items():
        for attack, (line, marker, label) in ATTACKS.items():
            eps, values = accuracies(content, seeds, name, attack)
            style = {"color": hue, "linestyle": line, "marker": marker, "markersize": 4}
            panel.plot(eps, values.mean(0), label=f"{name}, {label}", **style)
            panel.fill_between(eps, values.min(0), values.max(0), color=hue, alpha=0.15, linewidth=0)
    panel.set(ylabel="accuracy, %", ylim=(0, 102))
    panel.set_title(f"Mean and range of {len(seeds)} seeds", fontsize=10.5, loc="left")
    panel.legend()


def leads(panel, content, seeds):
    highest = 0.0
    for attack, (line, marker, label) in ATTACKS.items():
        eps, thresholding = accuracies(content, seeds, "L-THR", attack)
        lead = accuracies(content, seeds, "L-BP", attack)[1] - thresholding
        panel.plot(eps, lead.mean(0), color=INK, linestyle=line, label=f"{label}, mean")
        inside = INK if attack == "pgd" else "none"
        panel.plot(
            np.tile(eps, (len(lead), 1)), lead, marker, color=INK, markerfacecolor=inside, markersize=4.5, alpha=0.6
        )
        highest = max(highest, lead.max())
    panel.axhline(0, color=INK, linewidth=0.8)
    panel.set(ylabel="lead of L-BP over L-THR, points")
    panel.set_ylim(top=1.3 * highest + 1)  # room for the legend
    panel.set_title("The same images; each mark one seed", fontsize=10.5, loc="left")
    panel.legend()


def scouted(panel, content):
    rows = {name: row for name, row in content["results"].get("scouting", {}).items() if "attacked" in row}
    (eps,) = content["settings"]["scouting"]["eps"]
    for row_number, (name, row) in enumerate(rows.items()):
        after = row["attacked"][str(eps)]
        hue = HUES[name.split(",")[0]]
        panel.barh(row_number, 100 * after["FGSM"], height=0.62, color=hue, alpha=0.3)
        panel.barh(row_number, 100 * list(after.values())[-1], height=0.62, color=hue)
    panel.set_yticks(range(len(rows)), list(rows))
    panel.invert_yaxis()
    panel.set(xlim=(0, 100), xlabel=f"accuracy at eps {eps}, %")
    told = content["settings"]["scouting"]
    panel.set_title(f"Scouting ({told['n_train']} images): FGSM pale, PGD full", fontsize=10.5, loc="left")

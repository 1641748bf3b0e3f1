"""The picture and the page of layered_cifar10.py."""

import numpy as np

COLOURS = {
    "L-THR": "black",
    "L-THR-res": "grey",
    "L-BP": "tab:orange",
    "L-BP-res": "gold",
    "DP": "tab:blue",
    "DP-res": "tab:cyan",
}
READING = "## Discussion"


def rows_of(content, experiment):
    """(name, iterations, list of what was found for each seed) of each network, few iterations first."""
    rows = {}
    for by_name in content["results"].get(experiment, {}).values():
        for key, found in by_name.items():
            rows.setdefault(key, []).append(found)
    return sorted(((*_split(key), found) for key, found in rows.items()), key=lambda row: row[1])


def _split(key):
    name, steps = key.rsplit(", ", 1)
    return name, int(steps)


def draw(content, path):
    """Unfolded networks against eps on the left, blocks against iterations on the right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings = content["settings"]
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 3.8), constrained_layout=True)
    for name, _, found in rows_of(content, "unfolded"):
        colour = COLOURS[name]
        radii = [0, *settings["fgsm_eps"]]
        axes[0].plot(radii, [_mean(found, e, "FGSM") for e in radii], "--o", color=colour, label=f"{name}, FGSM")
        radii = [0, *settings["pgd_eps"]]
        axes[0].plot(radii, [_mean(found, e, "PGD") for e in radii], "-s", color=colour, label=f"{name}, PGD")
    axes[0].set(xlabel="eps × 255", ylabel="accuracy in %", title="unfolded network")
    eps = settings["pgd_eps"][-1]
    iterations = settings["blocks"]["iterations"]
    for axis, attack in zip(axes[1:], ("FGSM", "PGD"), strict=True):
        for name, _, found in [row for row in rows_of(content, "blocks") if row[1] == 0]:
            axis.axhline(_mean(found, eps, attack), color=COLOURS[name], linestyle=":", label=name)
        for name in ("L-BP", "L-BP-res", "DP", "DP-res"):
            found = {steps: f for n, steps, f in rows_of(content, "blocks") if n == name}
            steps = [n for n in iterations if n in found]
            axis.plot(steps, [_mean(found[n], eps, attack) for n in steps], "-o", color=COLOURS[name], label=name)
        axis.set(
            xlabel="iterations", xticks=iterations, title=f"blocks, {attack}, eps = {eps}/255", ylabel="accuracy in %"
        )
    for axis in axes:
        axis.legend(fontsize=7)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mean(found, eps, attack):
    """Mean over seeds, in %; clean accuracy on the attacked images for eps = 0."""
    return 100 * float(np.mean([_value(one["attacked"], eps, attack) for one in found]))


def _value(attacked, eps, attack):
    if eps == 0:
        return attacked["clean"]
    if attack == "FGSM":
        return attacked["FGSM"][str(eps)]
    return attacked["PGD"][str(eps)]["PGD, margin"]


def write_page(content, page, picture):
    """Tables of all figures; what was written by hand under the last heading stays."""
    settings = content["settings"]
    earlier = page.read_text(encoding="utf8") if page.exists() else ""
    reading = earlier[earlier.index(READING) :] if READING in earlier else ""
    unfolded, blocks = settings["unfolded"], settings["blocks"]
    lines = [
        "# Layered pursuits on CIFAR-10",
        "",
        "```",
        "python benchmarks/reproduce/layered_cifar10.py --data-home DIR --models DIR" + _flag(content["form"]),
        "```",
        "",
        f"writes `benchmarks/results/{picture.replace('.png', '.json')}`, this page and its picture. **Form: "
        f"{content['form']}**, on {content['device']}: {settings['n_train']} training images, seeds "
        f"{', '.join(map(str, settings['seeds']))}; FGSM on the first {settings['n_test']} test images, PGD on the "
        f"first {settings['n_test_pgd']}; l∞, white box, through all iterations and the head. PGD has "
        f"{settings['n_iter']} steps from one random start on cross-entropy and as many on margins, on images "
        "that survive FGSM. "
        "Accuracies in %, eps in units of 1/255, no adversarial training.",
        "",
        f"![accuracy](../../benchmarks/results/{picture})",
        "",
        "## Unfolded: three pursued layers, then a CNN",
        "",
        f"{', '.join(map(str, unfolded['n_components']))} atoms of 4×4, stride 2; three convolutions of "
        f"{', '.join(map(str, unfolded['head']))} channels and a linear layer behind them; {unfolded['n_epochs']} "
        f"epochs; L-BP: {unfolded['max_iter']} iterations a layer. L-THR is a CNN.",
        "",
        *_table(content, "unfolded", settings),
        "",
        "## Blocks: all layers pursued",
        "",
        f"Three blocks of {2 * blocks['depth']} layers, {blocks['width']}, {2 * blocks['width']} and "
        f"{4 * blocks['width']} atoms of 3×3; {blocks['n_epochs']} epochs. L-THR is the feed-forward network, DP deep "
        "pursuit; -res: with residual connections.",
        "",
        *_table(content, "blocks", settings),
        "",
    ]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines) + (reading and "\n" + reading), encoding="utf8")


def _flag(form):
    return "" if form == "reduced" else f" --{form}"


def _table(content, experiment, settings):
    columns = [f"FGSM {e}" for e in settings["fgsm_eps"]] + [f"PGD {e}" for e in settings["pgd_eps"]]
    lines = [
        f"| network | iterations | training | clean, {settings['n_test_clean']} images | " + " | ".join(columns) + " |",
        "|---" * (4 + len(columns)) + "|",
    ]
    for name, steps, found in rows_of(content, experiment):
        cells = [
            _mean_and_range([one["training"]["accuracy"][-1] for one in found]),
            _mean_and_range([one["clean"] for one in found]),
            *(_mean_and_range([_value(one["attacked"], e, "FGSM") for one in found]) for e in settings["fgsm_eps"]),
            *(_mean_and_range([_value(one["attacked"], e, "PGD") for one in found]) for e in settings["pgd_eps"]),
        ]
        lines.append(f"| {name} | {steps} | " + " | ".join(cells) + " |")
    return lines


def _mean_and_range(shares):
    """Mean in %, with the spread over seeds where there are several."""
    mean = f"{100 * np.mean(shares):.1f}"
    return mean if len(shares) == 1 else f"{mean} ± {100 * np.std(shares, ddof=1):.1f}"

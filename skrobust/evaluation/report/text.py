"""The report as plain text."""

from .trials import WORST


def summary_table(report):
    """Accuracy under the worst case of all attacks, one line per model and eps."""
    lines = [("model", "clean", "attacked", "interval", "eps", "attack", "threat model", "n", "seed")]
    for row in report.rows:
        if row["attack"] == WORST:
            n_attacks = len(report.trials[row["model"]])
            attack = f"worst of {n_attacks} per image" if n_attacks > 1 else report.trials[row["model"]][0].name
            lines.append((*_figures(row), attack, row["threat_model"], str(row["n"]), _text(row["seed"])))
    return table(lines, right=(1, 2, 3, 4, 7, 8))


def full_table(report):
    """All figures, one line each."""
    head = ("model", "clean", "attacked", "interval", "eps", "attack", "threat model", "steps", "gradient", "n", "seed")
    lines = [head]
    for row in report.rows:
        if row["attack"] != "none":
            attack = (row["attack"], row["threat_model"], steps(row), _text(row["gradient"]))
            lines.append((*_figures(row), *attack, str(row["n"]), _text(row["seed"])))
    return table(lines, right=(1, 2, 3, 4, 9, 10))


def corruption_lines(report):
    """Accuracy on corrupted images, one line per model and corruption, and their mean; none without corruptions."""
    lines = [("model", "clean", "corrupted", "interval", "corruption", "n", "seed")]
    for model in report.models:
        rows = [row for row in report.rows if row["threat_model"] == "corruption" and row["model"] == model]
        for row in rows:
            lines.append((*_figures(row)[:-1], row["attack"], str(row["n"]), _text(row["seed"])))
        if len(rows) > 1:
            mean = sum(row["accuracy"] for row in rows) / len(rows)
            lines.append((model, percent(rows[0]["clean_accuracy"]), percent(mean), "", f"mean of {len(rows)}", "", ""))
    return ["", table(lines, right=(1, 2, 3, 5, 6))] if len(lines) > 1 else []


def verdict_lines(report):
    """The verdict of every masking check with its evidence, one line each, warnings first; none without checks."""
    lines = []
    for model, verdicts in report.checks.items():
        lines += ["", f"Signs of masking in “{model}”:"]
        lines += [f"- {verdict}" for verdict in sorted(verdicts, key=lambda verdict: not verdict.fired)]
    return lines


def _figures(row):
    interval = f"{100 * row['ci_low']:.1f}–{100 * row['ci_high']:.1f}"
    eps = "" if row["eps"] is None else f"{row['eps']:.4g}"
    return row["model"], percent(row["clean_accuracy"]), percent(row["accuracy"]), interval, eps


def _text(value):
    return "" if value is None else str(value)


def percent(share):
    """A share as per cent with one decimal."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def steps(row):
    """Steps and restarts of an attack, as text."""
    if row["attack"] == WORST or row["n_iter"] is None:
        return ""
    return f"{row['n_iter']} × {row['n_restarts']}" if (row["n_restarts"] or 1) > 1 else str(row["n_iter"])


def table(lines, right=()):
    """Rows of strings as an aligned table, with the first row as header; columns `right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def laid_out(line):
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([laid_out(lines[0]), "  ".join("─" * w for w in widths), *map(laid_out, lines[1:])])

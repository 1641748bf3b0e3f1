"""Sentences that compare a model with the baseline."""

from skrobust.displays.drawing.curves import norm_symbol

from .text import percent


def comparison_sentence(report, model, eps):
    """Compare `model` with the report's baseline at one eps of the report's grid, or 0.

    The wording follows the paired confidence interval: "better" or "worse" only if it excludes 0.
    """
    other = report.baseline
    difference, low, high = report.compare(model, other, eps)
    accuracy, baseline_accuracy = accuracy_at(report, model, eps), accuracy_at(report, other, eps)
    setting = "without attack" if eps == 0 else f"at eps = {eps:.4g} ({norm_symbol(report.norm)})"
    figures = (
        f"{percent(accuracy)} against {percent(baseline_accuracy)}, a difference of {points(difference)} points "
        f"({100 * report.confidence:.0f}\N{NO-BREAK SPACE}% interval {points(low)} to {points(high)}, "
        f"n = {report.n_samples})"
    )
    if low > 0:
        return f"“{model}” is better than “{other}” {setting}: {figures}."
    if high < 0:
        return f"“{model}” is worse than “{other}” {setting}: {figures}."
    return f"“{model}” is no better than “{other}” {setting}, within the confidence interval: {figures}."


def overall_sentence(report, model):
    """The eps at which `model` is better or worse than the report's baseline, or not significantly different."""
    groups = {"better": [], "worse": [], "no difference that these images could show": []}
    for eps in (0.0, *report.eps.tolist()):
        _, low, high = report.compare(model, report.baseline, eps)
        word = "better" if low > 0 else "worse" if high < 0 else "no difference that these images could show"
        groups[word].append(f"{eps:.4g}")
    parts = "; ".join(f"{word} at eps = {_listed(values)}" for word, values in groups.items() if values)
    confidence = f"paired {100 * report.confidence:.0f}\N{NO-BREAK SPACE}% intervals"
    return f"“{model}” beside “{report.baseline}”: {parts} ({confidence})."


def _listed(values):
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} and {values[-1]}"


def accuracy_at(report, model, eps):
    """Accuracy under the worst attack at `eps`."""
    if eps == 0:
        return float(report.clean_right(model).mean())
    return float(report.worst_right(model)[report.index_of(eps)].mean())


def points(share):
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}".replace("-", "\N{MINUS SIGN}")

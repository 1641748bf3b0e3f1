"""Certified accuracy of the demo's models beside that under attack, and the conclusion."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Proved:
    """Which test images are certified, for the models that have a certificate, (n_eps, n_samples) each; and whether
    every image without certificate can be misclassified.
    """

    certified: dict
    is_exact: dict

    def texts(self, report):
        """One line per model, for the settings of the report, by its name there."""
        from skrobust.evaluation.report.text import percent

        lines = {}
        for name, masks in self.certified.items():
            figures = [f"{percent(mask.mean())} at {eps:.4g}" for eps, mask in zip(report.eps, masks, strict=True)]
            meaning = "exact worst case" if self.is_exact[name] else "lower bound"
            lines[f"certified accuracy, {name}"] = f"{', '.join(figures)} ({meaning})"
        return lines

    def rows(self, eps):
        """One dict per model and eps: model, eps, certified accuracy (a share of the images) and is_exact."""
        return [
            {"model": name, "eps": float(radius), "accuracy": float(mask.mean()), "is_exact": bool(self.is_exact[name])}
            for name, masks in self.certified.items()
            for radius, mask in zip(eps, masks, strict=True)
        ]


def prove(models, X, y, eps):
    """Certify each of `models` that has a certificate, at every eps; returns a `Proved`."""
    from skrobust.certificates import NoCertificateError, certify

    certified, is_exact = {}, {}
    for name, model in models.items():
        try:
            certificates = [certify(model, X, y, radius, radius=False) for radius in eps]
        except NoCertificateError:
            continue
        certified[name] = np.array([certificate.certified for certificate in certificates])
        is_exact[name] = certificates[0].is_exact
    return Proved(certified, is_exact)


def bounds_table(report, proved):
    """Certified and attacked accuracy side by side; the worst-case accuracy lies between them."""
    from skrobust.evaluation.report.text import percent, table

    lines = [("model", "eps", "certified", "attacked", "worst case")]
    for name in report.models:
        for k, (eps, right) in enumerate(zip(report.eps, report.worst_right(name), strict=True)):
            attacked = percent(right.mean())
            if name not in proved.certified:
                lines.append((name, f"{eps:.4g}", "", attacked, "at most as attacked; no certificate is known"))
                continue
            certified = percent(proved.certified[name][k].mean())
            worst_case = "as certified" if proved.is_exact[name] or certified == attacked else "between the two"
            lines.append((name, f"{eps:.4g}", certified, attacked, worst_case))
    return table(lines, right=(1, 2, 3))


def what_helped(report, proved, eps):
    """Sentences: which models are better than the baseline at `eps`, under attack and certified.

    A model helped, or harmed, if the paired interval of its accuracy under attack minus the baseline's excludes 0.
    """
    from skrobust.evaluation import paired_difference_interval
    from skrobust.evaluation.report.comparison import points

    k, other = report.index_of(eps), report.baseline
    no_difference = "made no difference that these images could show"
    groups = {"helped": [], "did harm": [], no_difference: []}
    proofs = []
    for name in report.models:
        if name == other:
            continue
        difference, low, high = report.compare(name, other, eps)
        entry = f"“{name}” ({points(difference)} points under attack"
        if name in proved.certified and other in proved.certified:
            certified, baseline_certified = proved.certified[name][k], proved.certified[other][k]
            if proved.is_exact[name]:  # lower bounds cannot be compared
                entry += f", {points(certified.mean() - baseline_certified.mean())} certified"
            _, least, _ = paired_difference_interval(certified, report.worst_right(other)[k], report.confidence)
            if least > 0:
                proofs.append(
                    f"More images are certified for “{name}” than survive the attacks on “{other}”: this advantage "
                    "does not depend on the choice of attacks."
                )
        effect = "helped" if low > 0 else "did harm" if high < 0 else no_difference
        groups[effect].append(f"{entry})")
    occurring = {effect: " and ".join(names) for effect, names in groups.items() if names}
    sentences = [f"At eps = {eps:.4g}, {names} {effect}." for effect, names in occurring.items()]
    if not groups["helped"]:
        sentences.insert(0, f"At eps = {eps:.4g}, nothing helped.")
    return sentences + proofs

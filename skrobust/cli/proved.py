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
        """One line a model, by what it is called among the report's settings."""
        from skrobust.evaluation.report.text import percent

        found = {}
        for name, masks in self.certified.items():
            figures = [f"{percent(mask.mean())} at {eps:.4g}" for eps, mask in zip(report.eps, masks, strict=True)]
            kind = "exact worst case" if self.is_exact[name] else "lower bound"
            found[f"certified accuracy, {name}"] = f"{', '.join(figures)} ({kind})"
        return found


def prove(models, X, y, eps):
    """Certify each of `models` that has a certificate, at every eps; returns a `Proved`."""
    from skrobust.certificates import NoCertificateError, certify

    certified, is_exact = {}, {}
    for name, model in models.items():
        try:
            found = [certify(model, X, y, radius, radius=False) for radius in eps]
        except NoCertificateError:
            continue
        certified[name] = np.array([certificate.certified for certificate in found])
        is_exact[name] = found[0].is_exact
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
            known = "as certified" if proved.is_exact[name] or certified == attacked else "between the two"
            lines.append((name, f"{eps:.4g}", certified, attacked, known))
    return table(lines, right=(1, 2, 3))


def what_helped(report, proved, eps):
    """Sentences: which models are better than the baseline at `eps`, under attack and certified.

    A model helped, or harmed, if the paired interval of its accuracy under attack minus the baseline's excludes 0.
    """
    from skrobust.evaluation import paired_difference_interval
    from skrobust.evaluation.report.comparison import points

    k, other = report.index_of(eps), report.baseline
    groups = {"helped": [], "did harm": [], "made no difference that these images could show": []}
    proofs = []
    for name in report.models:
        if name == other:
            continue
        difference, low, high = report.compare(name, other, eps)
        told = f"“{name}” ({points(difference)} points under attack"
        if name in proved.certified and other in proved.certified:
            mine, theirs = proved.certified[name][k], proved.certified[other][k]
            if proved.is_exact[name]:  # lower bounds cannot be compared
                told += f", {points(mine.mean() - theirs.mean())} certified"
            _, least, _ = paired_difference_interval(mine, report.worst_right(other)[k], report.confidence)
            if least > 0:
                proofs.append(
                    f"More images are proved right for “{name}” than the attacks leave of “{other}”: that lead does "
                    "not rest on the choice of attacks."
                )
        word = "helped" if low > 0 else "did harm" if high < 0 else list(groups)[2]
        groups[word].append(f"{told})")
    found = {word: " and ".join(names) for word, names in groups.items() if names}
    sentences = [f"At eps = {eps:.4g}, {names} {word}." for word, names in found.items()]
    if not groups["helped"]:
        sentences.insert(0, f"At eps = {eps:.4g}, nothing helped.")
    return sentences + proofs

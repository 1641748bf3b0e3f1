"""The report: results with their settings, and output as text, data frame, JSON, HTML and plot."""

import json
from dataclasses import dataclass, field

import numpy as np

from skrobust.evaluation.scoring.intervals import paired_difference_interval, wilson_interval
from skrobust.signals import documented_like, write_atomically

from .text import corruption_lines, full_table, summary_table, verdict_lines
from .trials import WORST, position_in_grid

# Settings of an attack that have their own column.
_IN_COLUMNS = {"name", "threat_model", "norm", "n_iter", "n_restarts", "gradient", "seed"}


@dataclass
class RobustnessReport:
    """Accuracy under attack, with threat model and settings; returned by `robustness_report`.

    Attributes
    ----------
    models : tuple of str
        Names of the models, in order.
    baseline : str or None
        The model with which the others are compared.
    norm : str
    eps : ndarray of shape (n_eps,)
        Ascending, positive.
    y : ndarray of shape (n_samples,)
    clean : dict of str to ndarray of shape (n_samples,)
        Predictions of each model without attack.
    clean_seconds : dict of str to float
        Seconds it took.
    trials : dict of str to list of Trial
        Results of each attack on each model.
    corrupted : dict of str to list of (dict, ndarray of bool, float)
        Settings of a corruption, whether each corrupted image is classified correctly, and the seconds it took.
    examples : Examples or None
        Images for galleries.
    checks : dict of str to list of Verdict
        Masking checks of each model.
    confidence : float
    focus_eps : float or None
        The eps of the conclusions and the gallery.
    settings, versions : dict
    """

    models: tuple
    baseline: str | None
    norm: str
    eps: np.ndarray
    y: np.ndarray
    clean: dict
    trials: dict
    clean_seconds: dict = field(default_factory=dict)
    corrupted: dict = field(default_factory=dict)
    examples: object = None
    checks: dict = field(default_factory=dict)
    confidence: float = 0.95
    focus_eps: float | None = None
    settings: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)

    @property
    def n_samples(self):
        """Number of test images."""
        return len(self.y)

    def clean_right(self, model):
        """For each image, whether `model` is correct without attack."""
        return self.clean[self._checked(model)] == self.y

    def worst_right(self, model):
        """For each eps and image, whether it survives every attack.

        Returns
        -------
        ndarray of bool of shape (n_eps, n_samples)
            Monotone in eps: a perturbation that succeeds at a smaller eps is admissible at a larger one.
        """
        right = np.tile(self.clean_right(model), (len(self.eps), 1))
        for trial in self.trials[model]:
            right &= trial.right
        return right

    def worst_predicted(self, model):
        """For each eps and image, the prediction for the first successful attack (else the correct label).

        Returns
        -------
        ndarray of shape (n_eps, n_samples)
        """
        predicted = self.clean[self._checked(model)].copy()
        rows = []
        for k in range(len(self.eps)):
            for trial in self.trials[model]:
                newly_broken = (predicted == self.y) & ~trial.right[k]
                predicted[newly_broken] = trial.predicted[k][newly_broken]
            rows.append(predicted.copy())
        return np.array(rows)

    def curve(self, model, attack=None):
        """Accuracy against eps, from eps = 0 on.

        Parameters
        ----------
        model : str
        attack : int or None, default=None
            Position in ``trials[model]``; None: the worst case per image over all attacks.

        Returns
        -------
        eps, accuracy, low, high : ndarray of shape (n_eps + 1,)
            With the ends of Wilson's interval.
        """
        right = self.worst_right(model) if attack is None else self.trials[model][attack].right
        n_correct = [int(self.clean_right(model).sum()), *right.sum(axis=1).tolist()]
        ends = np.array([wilson_interval(n, self.n_samples, self.confidence) for n in n_correct])
        return np.concatenate([[0.0], self.eps]), np.array(n_correct) / self.n_samples, ends[:, 0], ends[:, 1]

    def compare(self, model, other, eps):
        """Accuracy of `model` minus that of `other` under their worst attacks at `eps`, on the same images.

        Returns
        -------
        difference, low, high : float
            With the ends of the paired interval.
        """
        return paired_difference_interval(self._right_at(model, eps), self._right_at(other, eps), self.confidence)

    @property
    def rows(self):
        """One dict per figure, with the keys of a row of `to_frame`."""
        rows = []
        for model in self.models:
            clean = float(self.clean_right(model).mean())
            none = {"name": "none", "threat_model": "none"}
            rows.append(self._row(model, none, 0.0, self.clean_right(model), self.clean_seconds.get(model, 0.0)))
            for trial in self.trials[model]:
                for k, eps in enumerate(self.eps):
                    rows.append(self._row(model, trial.settings, eps, trial.right[k], trial.seconds[k]))
            if self.trials[model]:
                right = self.worst_right(model)
                seconds = sum(trial.seconds for trial in self.trials[model])
                overall = {"name": WORST, "threat_model": self._strongest_knowledge(model)}
                overall["seed"] = self.settings.get("random_state")
                for k, eps in enumerate(self.eps):
                    rows.append(self._row(model, overall, eps, right[k], seconds[k]))
            for settings, right, seconds in self.corrupted.get(model, ()):
                rows.append(self._row(model, settings, None, right, seconds))
            for row in rows:
                if row["model"] == model:
                    row["clean_accuracy"] = clean
        return rows

    def to_frame(self):
        """The figures as a pandas DataFrame, one row per figure.

        Returns
        -------
        pandas.DataFrame
            Columns model, attack, threat_model, norm, eps, accuracy, ci_low, ci_high, clean_accuracy, n, n_iter,
            n_restarts, gradient, settings (other parameters of the attack), seed, seconds.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_frame needs pandas: pip install 'skrobust[plot]'.", name="pandas") from error
        return pd.DataFrame(self.rows)

    def to_json(self, path=None):
        """The figures, verdicts, settings and versions as JSON.

        Parameters
        ----------
        path : str, path-like or None, default=None
            File to write, whole or not at all; None: return the text.

        Returns
        -------
        str or pathlib.Path
        """
        content = {
            "skrobust": self.versions.get("skrobust"),
            "norm": self.norm,
            "eps": [0.0, *self.eps.tolist()],
            "n": self.n_samples,
            "confidence": self.confidence,
            "models": list(self.models),
            "baseline": self.baseline,
            "rows": self.rows,
            "attacks": {model: [trial.settings for trial in self.trials[model]] for model in self.models},
            "checks": {model: [verdict.as_dict() for verdict in verdicts] for model, verdicts in self.checks.items()},
            "image_quality": self.examples.quality if self.examples is not None else [],
            "settings": self.settings,
            "versions": self.versions,
        }
        text = json.dumps(content, indent=2, default=_plain)
        return text if path is None else write_atomically(path, text + "\n")

    @documented_like(to_json, sections=("Returns",))
    def to_html(self, path=None):
        """The report as one self-contained HTML file: curves, table, gallery, verdicts, settings."""
        from .html import render

        text = render(self)
        return text if path is None else write_atomically(path, text)

    def plot(self, ax=None):
        """Draw accuracy against eps, one curve for each model, as `skrobust.displays.RobustnessCurveDisplay` does.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from skrobust.displays.drawing.curves import curves_of_report, draw_curves

        return draw_curves(ax, **curves_of_report(self))[0]

    def summary(self):
        """The worst-per-image figures as a table in plain text.

        ``print(report)`` adds the accuracy on corrupted images and the masking checks' verdicts.
        """
        return summary_table(self)

    def to_text(self):
        """All figures, one line each, as a table in plain text."""
        return full_table(self)

    def conclusions(self):
        """Sentences that compare each model with the baseline.

        Two per model: the accuracies at `focus_eps`, and the eps at which the model is better or worse, that is, where
        the paired confidence interval of the difference excludes 0.

        Returns
        -------
        list of str
            Empty without a baseline.
        """
        from .comparison import comparison_sentence, overall_sentence

        if self.baseline is None:
            return []
        sentences = []
        for name in self.models:
            if name != self.baseline:
                sentences.append(comparison_sentence(self, name, self.focus_eps or 0.0))
                sentences.append(overall_sentence(self, name))
        return sentences

    def warnings(self):
        """Warnings of the masking checks, one line per model.

        Returns
        -------
        list of str
            Empty if no checks were run.
        """
        lines = []
        for model, verdicts in self.checks.items():
            fired = [verdict.check for verdict in verdicts if verdict.fired]
            run = sum(verdict.status != "not run" for verdict in verdicts)
            lines.append(f"“{model}”: {'; '.join(fired) if fired else 'no warning'} ({run} checks)")
        return lines

    def __str__(self):
        return "\n".join([self.summary(), *corruption_lines(self), *verdict_lines(self)])

    def __repr__(self):
        return (
            f"RobustnessReport(models={list(self.models)}, norm={self.norm!r}, eps={self.eps.tolist()}, "
            f"n_samples={self.n_samples})"
        )

    def _row(self, model, settings, eps, right, seconds=0.0):
        low, high = wilson_interval(int(right.sum()), self.n_samples, self.confidence)
        adversary = settings["threat_model"] not in ("none", "corruption")
        return {
            "model": model,
            "attack": settings["name"],
            "threat_model": settings["threat_model"],
            "norm": self.norm if adversary else None,
            "eps": None if eps is None else float(eps),
            "accuracy": float(right.mean()),
            "ci_low": low,
            "ci_high": high,
            "clean_accuracy": None,
            "n": self.n_samples,
            "n_iter": settings.get("n_iter"),
            "n_restarts": settings.get("n_restarts"),
            "gradient": settings.get("gradient"),
            "settings": ", ".join(f"{key}={value!r}" for key, value in settings.items() if key not in _IN_COLUMNS),
            "seed": settings.get("seed"),
            "seconds": round(float(seconds), 6),
        }

    def _strongest_knowledge(self, model):
        threat_models = {trial.settings["threat_model"] for trial in self.trials[model]}
        for threat_model in ("white box", "semi-white box", "transfer", "black box"):
            if threat_model in threat_models:
                return threat_model
        return "none"

    def _right_at(self, model, eps):
        if eps == 0:
            return self.clean_right(model)
        return self.worst_right(model)[self.index_of(eps)]

    def index_of(self, eps):
        """Position of `eps` in the grid."""
        position = position_in_grid(eps, self.eps)
        if position is None:
            raise ValueError(f"eps={eps!r} is not in the report, whose eps are {[0.0, *self.eps.tolist()]}.")
        return position

    def _checked(self, model):
        if model not in self.clean:
            raise ValueError(f"The report has no model {model!r}; it has {list(self.models)}.")
        return model


def _plain(value):
    """Values that JSON does not support, as plain Python."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return repr(value)

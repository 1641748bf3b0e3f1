"""Confusion matrices before and after an attack."""

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils.multiclass import unique_labels

from skrobust.displays.drawing.curves import norm_symbol
from skrobust.displays.drawing.style import INK, drawing
from skrobust.evaluation.scoring.robust import predicted_labels

from .base import Display


class ConfusionUnderAttackDisplay(Display):
    """Confusion matrices on clean and on attacked images, side by side on one scale.

    Create it with `from_estimator` or `from_report`.

    Parameters
    ----------
    clean, attacked : ndarray of shape (n_classes, n_classes)
        Share of the images of each true class (rows) with each predicted class (columns).
    labels : ndarray of shape (n_classes,)
    title : str, default="attacked"
        Title of the second matrix.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib.axes.Axes
    """

    def __init__(self, clean, attacked, labels, *, title="attacked"):
        self.clean = clean
        self.attacked = attacked
        self.labels = labels
        self.title = title

    @classmethod
    def from_estimator(cls, estimator, X, y, attack, *, figure=None):
        """Attack `estimator` on `X` and draw both matrices.

        Parameters
        ----------
        estimator : fitted classifier
        X, y : array-like
        attack : attack or Corruption
        """
        y = np.asarray(y)
        attacked = predicted_labels(estimator, attack.perturb(estimator, X, y))
        settings = attack.describe() if hasattr(attack, "describe") else {"name": type(attack).__name__}
        title = settings["name"]
        if settings.get("eps") is not None:
            title = f"{title}, eps = {settings['eps']:.4g} ({norm_symbol(settings['norm'])})"
        return cls._from_predictions(y, predicted_labels(estimator, X), attacked, title).plot(figure=figure)

    @classmethod
    def from_report(cls, report, *, model=None, eps=None, figure=None):
        """Matrices of one model of a `RobustnessReport` under its worst attacks.

        Parameters
        ----------
        model : str or None, default=None
            None: the first.
        eps : float or None, default=None
            None: ``report.focus_eps``.
        """
        model = report.models[0] if model is None else model
        index = report.index_of(report.focus_eps if eps is None else eps)
        title = f"worst attack, eps = {report.eps[index]:.4g} ({norm_symbol(report.norm)})"
        attacked = report.worst_predicted(model)[index]
        return cls._from_predictions(report.y, report.clean[model], attacked, title).plot(figure=figure)

    @classmethod
    def _from_predictions(cls, y, clean, attacked, title):
        labels = unique_labels(y, clean, attacked)
        matrices = [confusion_matrix(y, predicted, labels=labels, normalize="true") for predicted in (clean, attacked)]
        return cls(*matrices, labels, title=title)

    def plot(self, figure=None):
        """Draw both matrices."""
        n_classes = len(self.labels)
        with drawing() as plt:
            if figure is None:
                figure = plt.figure(figsize=(8.2, 4.1), layout="constrained")
            axes = figure.subplots(1, 2, sharey=True)
            for ax, matrix, title in zip(axes, (self.clean, self.attacked), ("clean", self.title), strict=True):
                image = ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
                ax.set_xticks(range(n_classes), [str(label) for label in self.labels])
                ax.set_yticks(range(n_classes), [str(label) for label in self.labels])
                ax.tick_params(length=0)
                for side in ax.spines.values():
                    side.set_visible(False)
                ax.set_title(title, loc="left")
                ax.set_xlabel("predicted class")
                if n_classes <= 12:
                    _write_shares(ax, matrix)
            axes[0].set_ylabel("true class")
            figure.colorbar(
                image, ax=list(axes), shrink=0.82, pad=0.015, label="share of the true class"
            ).outline.set_visible(False)
        self.figure_, self.axes_ = figure, axes
        return self


def _write_shares(ax, matrix):
    for (row, column), share in np.ndenumerate(matrix):
        if share >= 0.005:
            color = "white" if share > 0.55 else INK
            ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=color)

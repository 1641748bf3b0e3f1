"""Clean, attacked and restored images side by side, with predictions."""

import numpy as np

from skrobust.displays.drawing.curves import norm_symbol
from skrobust.displays.drawing.style import FAINT, INK, RIGHT, WRONG, drawing, model_colors
from skrobust.evaluation.report.run import robustness_report

from .base import Display


class PerturbationGalleryDisplay(Display):
    """Images before attack, after it, and after the front end, with predictions.

    Create it with `from_estimator` or `from_report`.

    Parameters
    ----------
    examples : Examples
        The images of a report, ``report.examples``.
    baseline : str or None, default=None

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_views, n_shown)
    """

    def __init__(self, examples, *, baseline=None):
        self.examples = examples
        self.baseline = baseline

    @classmethod
    def from_estimator(cls, estimator, X, y, attack, *, n_examples=8, figure=None, **report_parameters):
        """Attack `estimator` on `X` with one attack, at its own eps, and show some of the images.

        Other parameters are those of `robustness_report`.
        """
        options = {"checks": False, "n_examples": n_examples, **report_parameters}
        report = robustness_report(estimator, X, y, eps=attack.eps, attacks=attack, **options)
        return cls.from_report(report, figure=figure)

    @classmethod
    def from_report(cls, report, *, figure=None):
        """The example images of a `RobustnessReport`."""
        if report.examples is None:
            raise ValueError(
                "The report has no images: X has no image layout (set image_shape), n_examples is 0, or no image "
                "is classified correctly by all models."
            )
        return cls(report.examples, baseline=report.baseline).plot(figure=figure)

    def plot(self, figure=None):
        """Draw the gallery."""
        examples = self.examples
        rows = list(examples.rows())
        n_images = len(examples.truth)
        colors = model_colors([view.model for view in examples.views], self.baseline)
        with drawing() as plt:
            if figure is None:
                figure = plt.figure(figsize=(1.0 * n_images + 1.9, 1.22 * len(rows) + 0.35), layout="constrained")
            axes = figure.subplots(len(rows), n_images, squeeze=False)
            for (label, model, images, predictions), row_axes in zip(rows, axes, strict=True):
                for ax, image, predicted, truth in zip(row_axes, images, predictions, examples.truth, strict=True):
                    _show(ax, image, examples.value_range)
                    color = INK if model is None else RIGHT if predicted == truth else WRONG
                    ax.set_xlabel(str(predicted), fontsize=9, color=color, labelpad=2)
                row_axes[0].set_ylabel(
                    label, rotation=0, ha="right", va="center", labelpad=8, color=colors.get(model, INK), fontsize=9
                )
            title = f"eps = {examples.eps:.4g} ({norm_symbol(examples.norm)}); under each image: the prediction"
            figure.suptitle(title, fontsize=9, color=FAINT, x=0.01, ha="left")
        self.figure_, self.axes_ = figure, axes
        return self


def _show(ax, image, value_range):
    low, high = value_range
    scaled = np.clip((image - low) / (high - low), 0, 1)
    ax.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)

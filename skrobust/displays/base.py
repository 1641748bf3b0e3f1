"""Base class of the displays."""

from skrobust.signals.docstrings import complete_docstring, complete_methods


class Display:
    """Base of the displays: figures of measurements, drawn when a ``from_...`` method creates them.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        The figure.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        complete_docstring(cls, [Display.__doc__], sections=())
        complete_methods(cls, common="plot")

    def plot(self, ax=None, *, axes=None, figure=None):
        """Draw.

        Parameters
        ----------
        estimator : estimator
            Fitted; a classifier or a Pipeline where it is attacked.
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Test images.
        y : array-like of shape (n_samples,)
            Their true labels.
        report : RobustnessReport
            As `skrobust.evaluation.robustness_report` returns it.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw. None: a new figure.
        axes : array of matplotlib.axes.Axes or None, default=None
            Where to draw, one for each panel. None: a new figure.
        figure : matplotlib.figure.Figure or None, default=None
            Where to draw. None: a new figure.

        Returns
        -------
        object
            The display.
        """
        raise NotImplementedError

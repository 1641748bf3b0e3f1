"""Displays of the coherence of layered dictionaries, and of the reconstruction errors of layered pursuits."""

import copy

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skrobust.dictionaries import layered_coherence, pursuit_trace
from skrobust.dictionaries.measures.trace import trace_of
from skrobust.displays.drawing.style import GRID, INK, MODEL_COLORS, drawing, line_style, model_colors
from skrobust.operators import LayeredDictionary
from skrobust.signals import is_tensor

from .base import Display

LEAST_ERROR = 1e-4
"""Lower end of the axis of relative errors, because those of exact reconstructions are rounding errors."""


class CoherenceDisplay(Display):
    """Mutual coherence, frame potential and Welch bound of each layer and of the structured dictionary, as bars.

    Create it with `from_dictionary` or `from_estimator`.

    Parameters
    ----------
    measures : dict of str to LayeredCoherence
        Each gets a group of bars under its name; the bars of the layers are those of the first.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    bars_ : dict of str to matplotlib.container.BarContainer
        "mutual coherence" and "frame potential".
    bounds_ : matplotlib.collections.LineCollection

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skrobust.displays import CoherenceDisplay
    >>> from skrobust.operators import ConvolutionalOperator, LayeredDictionary
    >>> rng = np.random.default_rng(0)
    >>> first = ConvolutionalOperator(rng.normal(size=(4, 3, 1)), (12, 1), padding="circular")
    >>> second = ConvolutionalOperator(rng.normal(size=(6, 3, 4)), first.code_shape, padding="circular")
    >>> display = CoherenceDisplay.from_dictionary(LayeredDictionary([first, second]))
    >>> [label.get_text() for label in display.ax_.get_xticklabels()]
    ['layer 1', 'layer 2', 'all layers']
    """

    def __init__(self, measures):
        self.measures = measures

    @classmethod
    def from_dictionary(cls, layers, *, ax=None):
        """Measure a structured dictionary; one with skip connections also without them.

        Parameters
        ----------
        layers : LayeredDictionary
        """
        if not layers.is_chain:
            measures = {
                "all layers,\nchain": layered_coherence(LayeredDictionary(layers.operators)),
                "all layers,\nwith skips": layered_coherence(layers),
            }
        else:
            measures = {"all layers": layered_coherence(layers)}
        return cls(measures).plot(ax=ax)

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Measure the dictionaries of a fitted layered coder.

        Parameters
        ----------
        estimator : LayeredThresholding, LayeredBasisPursuit, DeepPursuit or MultilayerPursuit
        """
        return cls.from_dictionary(_layers_of(estimator, cls), ax=ax)

    def plot(self, ax=None):
        """Draw the bars."""
        first = next(iter(self.measures.values()))
        n_layers = len(first.layer_welch_bound)
        names = [*(f"layer {k + 1}" for k in range(n_layers)), *self.measures]
        heights = {
            "mutual coherence": [*first.layer_mutual_coherence, *(m.mutual_coherence for m in self.measures.values())],
            "frame potential": [*first.layer_frame_potential, *(m.frame_potential for m in self.measures.values())],
        }
        bounds = [*first.layer_welch_bound, *(m.welch_bound for m in self.measures.values())]
        # Leave a gap between the layers and the structured dictionary.
        positions = np.arange(len(names)) + 0.4 * (np.arange(len(names)) >= n_layers)
        with drawing() as plt:
            if ax is None:
                _, ax = plt.subplots(figsize=(1.9 + 0.95 * len(names), 3.6), layout="constrained")
            self.bars_ = {}
            for (label, values), shift, color in zip(
                heights.items(), (-0.18, 0.18), (MODEL_COLORS[0], MODEL_COLORS[1]), strict=True
            ):
                self.bars_[label] = ax.bar(positions + shift, values, 0.34, color=color, label=label, zorder=2)
                for x, value in zip(positions + shift, values, strict=True):
                    ax.annotate(
                        f"{value:.2g}",
                        (x, value),
                        xytext=(0, 2),
                        textcoords="offset points",
                        ha="center",
                        fontsize=7.5,
                        color=INK,
                    )
            self.bounds_ = ax.hlines(
                bounds, positions - 0.37, positions + 0.37, color=INK, linewidth=1.4, label="Welch bound", zorder=3
            )
            ax.set_xticks(positions, names)
            ax.set(ylim=(0, 1.08), ylabel="inner products of unit columns")
            ax.set_axisbelow(True)
            ax.grid(axis="y", color=GRID, linewidth=0.8)
            ax.tick_params(length=0)
            ax.legend(
                loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.2, columnspacing=1.0, fontsize=9
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self


class PursuitTraceDisplay(Display):
    """Reconstruction errors of layered pursuits against their iterations: one panel per layer, and one for the signal.

    Curves are means over samples, on a logarithmic scale. A pursuit without iterations is drawn as a level line.

    Parameters
    ----------
    traces : dict of str to PursuitTrace

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_layers + 1,)
        Of the layers, and of the signal reconstructed from the deepest codes.
    lines_ : dict of str to list of matplotlib.lines.Line2D
        One line per panel.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import DeepPursuit, LayeredBasisPursuit
    >>> from skrobust.displays import PursuitTraceDisplay
    >>> X = load_digits().images[:60] / 16
    >>> deep = DeepPursuit((6, 8), kernel_size=3, n_epochs=1, random_state=0).fit(X)
    >>> cascade = LayeredBasisPursuit(dictionaries=deep.components_).fit(X)
    >>> display = PursuitTraceDisplay.from_estimator({"L-BP": cascade, "deep": deep}, X, iterations=(0, 2, 8))
    >>> display.traces["deep"].errors.shape, len(display.axes_)
    ((3, 60, 2), 3)
    """

    def __init__(self, traces):
        self.traces = traces

    @classmethod
    def from_pursuit(cls, pursuit, X, layers, alpha, *, iterations=range(11), axes=None, **parameters):
        """Run one or more pursuits for each number of iterations and draw their errors.

        Parameters
        ----------
        pursuit : callable, or dict of str to callable
            As for `skrobust.dictionaries.pursuit_trace`.
        X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        layers : LayeredDictionary
        alpha : float or sequence
        iterations : iterable of int, default=range(11)
        **parameters
            Further parameters of the pursuits.
        """
        pursuits = pursuit if isinstance(pursuit, dict) else {pursuit.__name__: pursuit}
        iterations = list(iterations)
        traces = {
            name: pursuit_trace(function, X, layers, alpha, iterations=iterations, **parameters)
            for name, function in pursuits.items()
        }
        return cls(traces).plot(axes)

    @classmethod
    def from_estimator(cls, estimator, X, *, iterations=range(11), axes=None):
        """Code X with each number of iterations in place of ``max_iter`` and draw the errors.

        Parameters
        ----------
        estimator : fitted layered coder, or dict of str to fitted layered coder
            Without `tol`. They need not have the same dictionaries, but the same number of layers.
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        iterations : iterable of int, default=range(11)
        """
        estimators = estimator if isinstance(estimator, dict) else {type(estimator).__name__: estimator}
        iterations = list(iterations)
        return cls({name: cls._trace(coder, X, iterations) for name, coder in estimators.items()}).plot(axes)

    @classmethod
    def _trace(cls, coder, X, iterations):
        layers = _layers_of(coder, cls)
        values = coder._read_signals(X, reset=False).values
        if is_tensor(values):
            values = values.detach()
        parameters = coder.get_params(deep=False)
        if parameters.get("tol") is not None:
            raise ValueError(f"tol={parameters['tol']!r}: traces use fixed numbers of iterations; set tol=None.")
        if "max_iter" not in parameters:
            return trace_of(lambda _: coder.encode(X), values, layers, [0])
        # A shallow copy keeps the fitted attributes.
        return trace_of(lambda n: copy.copy(coder).set_params(max_iter=n).encode(X), values, layers, iterations)

    def plot(self, axes=None):
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of matplotlib.axes.Axes or None, default=None
            One per layer and one for the signal. None: a new figure.
        """
        n_panels = next(iter(self.traces.values())).errors.shape[2] + 1
        with drawing() as plt:
            is_own_figure = axes is None
            if is_own_figure:
                _, axes = plt.subplots(
                    1, n_panels, figsize=(1.2 + 2.1 * n_panels, 3.0), sharey=True, squeeze=False, layout="constrained"
                )
            self.axes_ = np.ravel(axes)
            if len(self.axes_) != n_panels:
                raise ValueError(f"axes has {len(self.axes_)} entries for {n_panels} panels.")
            colors = model_colors(self.traces)
            self.lines_ = {name: [] for name in self.traces}
            last = max(int(trace.iterations[-1]) for trace in self.traces.values())
            for panel, ax in enumerate(self.axes_):
                for index, (name, trace) in enumerate(self.traces.items()):
                    errors = trace.signal_errors if panel == n_panels - 1 else trace.errors[:, :, panel]
                    iterations, means = trace.iterations, errors.mean(axis=1)
                    is_level = len(iterations) == 1 and last > 0
                    if is_level:
                        iterations, means = [0, last], np.repeat(means, 2)
                    (line,) = ax.plot(
                        iterations,
                        means,
                        color=colors[name],
                        linestyle=line_style(index),
                        linewidth=1.8,
                        marker=None if is_level else "o",
                        markersize=3,
                        label=name,
                        zorder=3,
                    )
                    self.lines_[name].append(line)
                ax.set_title("signal, from the deepest" if panel == n_panels - 1 else f"layer {panel + 1}", loc="left")
                ax.set(xlabel="iterations")
                ax.set_yscale("log")
                ax.set_axisbelow(True)
                ax.grid(axis="y", color=GRID, linewidth=0.8)
                ax.tick_params(length=0, which="both")
                ax.locator_params(axis="x", integer=True, nbins=5)
            for ax in self.axes_:  # after all curves are drawn, because the panels share their scale
                ax.set_ylim(bottom=max(ax.get_ylim()[0], LEAST_ERROR))
            self.axes_[0].set_ylabel("relative error")
            self.figure_ = self.axes_[0].figure
            if is_own_figure:
                lines = [lines[0] for lines in self.lines_.values()]
                self.figure_.legend(lines, self.lines_, loc="outside upper center", ncols=len(lines), handlelength=2.6)
            else:
                self.axes_[0].legend(handlelength=2.6)
        return self


def _layers_of(estimator, display):
    """The structured dictionary of a fitted layered coder."""
    check_is_fitted(estimator)
    layers = getattr(estimator, "layers_", None)
    if not isinstance(layers, LayeredDictionary):
        raise TypeError(f"{display.__name__} needs a fitted layered coder, got {type(estimator).__name__}.")
    return layers

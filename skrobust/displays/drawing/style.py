"""Common style of all figures: a model has the same colour throughout."""

from contextlib import contextmanager

BASELINE_COLOR = "#8a8f98"
MODEL_COLORS = ("#1f6fb2", "#c8572a", "#2a8c6a", "#7b5aa6", "#b08a1e", "#b5456f")
INK, FAINT, GRID = "#22262c", "#6b727d", "#e4e7eb"
RIGHT, WRONG = "#2a7d4f", "#b3261e"
_LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.4)), (0, (5, 1.5, 1.2, 1.5)))

_PARAMETERS = {
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "svg.fonttype": "path",
    # Deterministic output: the same figure gives the same bytes.
    "svg.hashsalt": "skrobust",
}


@contextmanager
def drawing():
    """matplotlib.pyplot in our style; an error that says what to install if it is missing."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Plots need matplotlib: pip install 'skrobust[plot]'.", name="matplotlib") from error
    with plt.rc_context(_PARAMETERS):
        yield plt


def model_colors(models, baseline=None):
    """Colour of each model by its index; the baseline is grey."""
    others = [name for name in models if name != baseline]
    colors = {name: MODEL_COLORS[i % len(MODEL_COLORS)] for i, name in enumerate(others)}
    return {name: BASELINE_COLOR if name == baseline else colors[name] for name in models}


def line_style(index):
    """Dash pattern of the model with this index, so that curves also differ without colour."""
    return _LINES[index % len(_LINES)]

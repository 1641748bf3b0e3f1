"""Settings of the demo: front ends, and sizes, radii and grids for each data set."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Recipe:
    """Settings of the demo for one data set.

    Attributes
    ----------
    eps : tuple of float
        l-infinity radii of the attacks.
    tune_eps : float
        The radius for tuning all models.
    n_train, n_test : int or None
        Number of images; None: all.
    fractions : tuple of float
        Sparsities K/N in the grids of front ends.
    """

    eps: tuple
    tune_eps: float
    n_train: int | None
    n_test: int | None
    fractions: tuple


RECIPES = {
    "digits": Recipe((0.05, 0.1, 0.15, 0.2), 0.1, None, None, (0.1, 0.2, 0.3, 0.5, 0.8)),
    "mnist": Recipe((0.05, 0.1, 0.15, 0.2), 0.1, 4000, 500, (0.02, 0.035, 0.05, 0.1, 0.2)),
    "fashion-mnist": Recipe((0.02, 0.05, 0.1, 0.2), 0.05, 4000, 500, (0.02, 0.05, 0.1, 0.2, 0.4)),
    "cifar10": Recipe((1 / 255, 2 / 255, 4 / 255, 8 / 255), 2 / 255, 3000, 500, (0.02, 0.05, 0.1, 0.2, 0.4)),
}

UNDEFENDED = "undefended"
CS_OF_DEFENDED = (0.003, 0.03, 0.3)


@dataclass(frozen=True)
class FrontEnd:
    """An entry of the demo.

    Attributes
    ----------
    name : str
        Name of the defended Pipeline in the report.
    make : callable
        ``make(image_shape)`` returns the unfitted front end or coder.
    grid : callable
        ``grid(recipe)`` returns the values to try, by parameter of the front end.
    """

    name: str
    make: object
    grid: object


def _wavelet(image_shape):
    from skrobust import WaveletSparsifier

    color_space = "ycbcr" if len(image_shape) == 3 else None
    return WaveletSparsifier("db5", clip=(0, 1), color_space=color_space, image_shape=image_shape)


def _polarizing(image_shape):
    from skrobust import PolarizingCoder

    return PolarizingCoder(image_shape=image_shape)


# To add a front end or coder to the demo, add an entry here.
FRONT_ENDS = [
    # None is the deepest level at which all sizes halve exactly.
    FrontEnd(
        "wavelet front end",
        _wavelet,
        lambda recipe: {"n_nonzero_coefs": list(recipe.fractions), "level": [1, None]},
    ),
    FrontEnd("polarizing coder", _polarizing, lambda recipe: {"n_thresholds": [1, 2, 3], "eps": [recipe.tune_eps]}),
]


def classifier(seed):
    """The classifier used alone and behind every front end."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=300, tol=1e-3, random_state=seed)


def candidates(image_shape, recipe, seed):
    """Unfitted Pipelines and their grids by name; the undefended one comes last.

    The undefended one has as many values of C as the largest grid of a defended one has settings, over a wider range.
    """
    from sklearn.pipeline import Pipeline

    models = {}
    for entry in FRONT_ENDS:
        pipeline = Pipeline([("frontend", entry.make(image_shape)), ("classifier", classifier(seed))])
        grid = {f"frontend__{parameter}": values for parameter, values in entry.grid(recipe).items()}
        models[entry.name] = (pipeline, {**grid, "classifier__C": list(CS_OF_DEFENDED)})
    n_settings = max(math.prod(len(values) for values in grid.values()) for _, grid in models.values())
    Cs = np.logspace(-4, 2, n_settings).tolist()
    models[UNDEFENDED] = (Pipeline([("classifier", classifier(seed))]), {"classifier__C": Cs})
    return models

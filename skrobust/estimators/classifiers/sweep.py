"""Accuracy and residuals of a classifier at several sparsities, on corrupted images."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from skrobust.bridge import as_module
from skrobust.signals import batch_slices
from skrobust.signals.tensors import is_tensor

from .sparse_step import SparseModules

N_VALUES = 15
"""Values of the default range: as in the paper, alpha goes from that of training to 15 times it."""
COPIES = 32
"""Memory per image inside a classifier, in images, by which batches are sized."""
LARGEST_BATCH = 256


@dataclass(frozen=True)
class SparsitySweep:
    """Accuracy against sparsity, for images corrupted at several levels.

    Attributes
    ----------
    param_name : str
        "alpha" or "n_nonzero_coefs".
    values : ndarray of shape (n_values,)
        Values of the parameter.
    base : float
        Its value in the classifier, at which residuals are measured.
    names : list of str
        What corrupts the images, level by level.
    residuals : ndarray of shape (n_levels,)
        Root mean square of the residual, averaged over layers and images.
    accuracy : ndarray of shape (n_levels, n_values)
    n_samples : int
        Images at each level.
    """

    param_name: str
    values: np.ndarray
    base: float
    names: list
    residuals: np.ndarray
    accuracy: np.ndarray
    n_samples: int

    @property
    def best(self):
        """Value of highest accuracy at each level; among equals that nearest to the middle of them."""
        middles = [np.median(self.values[row == row.max()]) for row in self.accuracy]
        return np.array(
            [
                min(self.values[row == row.max()], key=lambda value: abs(value - middle))
                for row, middle in zip(self.accuracy, middles, strict=True)
            ]
        )

    def line(self):
        """Intercept and slope of the least-squares line through best values against residuals."""
        return fitted_line(self.residuals, self.best)


def fitted_line(residuals, values):
    """Intercept and slope by least squares; slope 0 if all residuals are equal."""
    if np.ptp(residuals) == 0:
        return float(np.mean(values)), 0.0
    slope, intercept = np.polyfit(residuals, values, 1)
    return float(intercept), float(slope)


def default_range(sparse):
    """Values of the parameter that are tried: codes from as sparse as in training to much sparser."""
    if sparse.attribute == "alpha":
        return sparse.base * np.linspace(1, N_VALUES, N_VALUES)
    return sparse.base * np.geomspace(1 / 8, 1, N_VALUES)


def sparsity_sweep(estimator, X, y, corruptions, *, param_name=None, param_range=None, verbose=0):
    """Accuracy of a fitted classifier at several sparsities, on corrupted images.

    Parameters
    ----------
    estimator : classifier, Pipeline or torch.nn.Module
        Fitted.
    X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        Clean images.
    y : array-like of shape (n_samples,)
        Their labels.
    corruptions : sequence of object
        One per level, each with ``perturb(model, X, y)``: a `skrobust.evaluation.Corruption`, or an attack, which
        attacks `estimator` as it is. None stands for clean images.
    param_name : str or None, default=None
        As for `skrobust.AdaptiveSparsity`.
    param_range : array-like or None, default=None
        As for `skrobust.AdaptiveSparsity`.
    verbose : int, default=0
        1: show a progress bar.

    Returns
    -------
    SparsitySweep

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import WaveletSparsifier
    >>> from skrobust.attacks import RandomNoise
    >>> from skrobust.estimators import sparsity_sweep
    >>> X, y = load_digits(return_X_y=True)
    >>> model = make_pipeline(
    ...     WaveletSparsifier("haar", n_nonzero_coefs=0.5, image_shape=(8, 8)), LogisticRegression()
    ... ).fit(X / 16, y)
    >>> sweep = sparsity_sweep(model, X[:100] / 16, y[:100], [None, RandomNoise(eps=0.3, random_state=0)])
    >>> sweep.accuracy.shape, bool(sweep.residuals[1] > sweep.residuals[0])
    ((2, 15), True)
    """
    module = as_module(estimator, dtype="float32" if getattr(X, "dtype", None) == np.float32 else "float64")
    sparse = SparseModules(module, estimator, param_name)
    values = default_range(sparse) if param_range is None else np.unique(np.asarray(param_range, dtype=float))
    if not values.size:
        raise ValueError("param_range is empty.")
    sparse.check(values)
    if not len(corruptions):
        raise ValueError("corruptions is empty: give one for each level of noise.")
    labels = np.asarray(y)
    residuals, accuracy = np.empty(len(corruptions)), np.empty((len(corruptions), len(values)))
    with tqdm(total=accuracy.size, disable=not verbose, desc="sparsities") as bar, torch.no_grad():
        for level, corruption in enumerate(corruptions):
            if corruption is None:
                corrupted = X
            else:
                with torch.enable_grad():
                    corrupted = corruption.perturb(estimator, X, y)
            residuals[level] = float(
                torch.cat([sparse.residuals(module, part) for part in batches_of(corrupted)]).double().mean()
            )
            for index, value in enumerate(values):
                right = []
                for part in batches_of(corrupted):
                    with sparse.set_to(torch.full((len(part),), float(value), dtype=part.dtype, device=part.device)):
                        right.append(module.predict(part))
                accuracy[level, index] = np.mean(np.concatenate(right) == labels)
                bar.update()
    names = ["clean" if one is None else _name(one) for one in corruptions]
    return SparsitySweep(sparse.attribute, values, sparse.base, names, residuals, accuracy, len(labels))


def batches_of(X):
    """Batches of X as tensors."""
    X = X if is_tensor(X) else torch.as_tensor(np.ascontiguousarray(X))
    for batch in batch_slices(len(X), COPIES * X[0].numel() * X.element_size(), LARGEST_BATCH):
        yield X[batch]


def _name(corruption):
    return corruption.describe()["name"] if hasattr(corruption, "describe") else type(corruption).__name__

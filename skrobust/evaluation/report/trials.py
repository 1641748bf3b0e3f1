"""One attack on one model over a grid of eps: result per image, and validation of the perturbations."""

import time
from dataclasses import dataclass, field

import numpy as np

from skrobust.evaluation.scoring.robust import predicted_labels

from .per_image import at_radius, for_images

WORST = "worst per image"

# Gradients that an attack with gradient="worst" tries behind most front ends, for the progress bar.
_N_GRADIENTS = 3


@dataclass
class Trial:
    """Results of one attack on one model.

    Attributes
    ----------
    model : str
        Name of the attacked model.
    settings : dict
        ``attack.describe()``, without eps.
    eps : ndarray of shape (n_eps,)
        Ascending, positive.
    right : ndarray of bool of shape (n_eps, n_samples)
        Whether an image survived this attack at this eps *and at all smaller ones*, whose perturbations are also
        admissible at the larger eps.
    predicted : ndarray of shape (n_eps, n_samples)
        Prediction for the attacked image; if wrong, that at the smallest successful eps.
    seconds : ndarray of shape (n_eps,)
    witnesses : ndarray of shape (n_eps, n_witnesses, ...)
        The attacked images of the samples available to galleries.
    """

    model: str
    settings: dict
    eps: np.ndarray
    right: np.ndarray
    predicted: np.ndarray
    seconds: np.ndarray
    witnesses: np.ndarray = field(repr=False)

    @property
    def name(self):
        return self.settings["name"]


def run_trial(name, model, X, y, attack, eps, *, clean, witnesses, on_step=None):
    """Attack `model` at every eps, ascending, each time only the surviving images; returns a `Trial`.

    The attack's eps is replaced by each of `eps`; an array is scaled. `clean` are the model's predictions without
    attack, `witnesses` the samples whose attacked images are stored. `on_step` is called with the number of attacked
    images after each eps.
    """
    predicted, right = clean.copy(), clean == y
    images = X[witnesses].copy()
    history = {"right": [], "predicted": [], "seconds": [], "witnesses": []}
    for value in eps:
        index = np.flatnonzero(right)
        started = time.perf_counter()
        if index.size:
            attack_here = for_images(at_radius(attack, value), index, X)
            attacked = np.asarray(attack_here.perturb(model, X[index], y[index]))
            check_admissible(attack_here, X[index], attacked)
            predicted[index] = predicted_labels(model, attacked)
            right[index] = predicted[index] == y[index]
            _, positions, sources = np.intersect1d(witnesses, index, return_indices=True)
            images[positions] = attacked[sources]
        history["seconds"].append(time.perf_counter() - started)
        history["right"].append(right.copy())
        history["predicted"].append(predicted.copy())
        history["witnesses"].append(images.copy())
        if on_step is not None:
            on_step(len(index))
    arrays = {key: np.array(values) for key, values in history.items()}
    return Trial(model=name, settings=settings_of(attack), eps=np.asarray(eps, dtype=float), **arrays)


def passes_per_image(attack, n_classes):
    """Approximate number of passes through the model per image, relative to those of other attacks."""
    n_passes = attack.n_passes(n_classes) if hasattr(attack, "n_passes") else getattr(attack, "n_iter", None) or 1
    return n_passes * (_N_GRADIENTS if getattr(attack, "gradient", None) == "worst" else 1)


def position_in_grid(eps, grid):
    """Position of `eps` in a grid, up to rounding, or None."""
    positions = np.flatnonzero(np.isclose(grid, eps, rtol=1e-9, atol=0))
    return int(positions[0]) if positions.size else None


def settings_of(attack):
    """The settings reported with every result of `attack`; eps has its own column."""
    settings = dict(attack.describe()) if hasattr(attack, "describe") else {"name": type(attack).__name__}
    eps = settings.pop("eps", None)
    if isinstance(eps, str):  # an array
        settings["eps_pattern"] = eps
    settings.setdefault("threat_model", getattr(attack, "threat_model", "white box"))
    if settings.get("loss", "cross_entropy") != "cross_entropy":
        settings["name"] = f"{settings['name']}, {settings['loss']} loss"
    if "random_state" in settings:
        settings["seed"] = settings.pop("random_state")
    return settings


def check_admissible(attack, X, attacked):
    """Raise an error if an attack, set up for these images, leaves its ball, box or mask, or changes the shape."""
    name = type(attack).__name__
    if attacked.shape != X.shape:
        raise ValueError(f"{name}.perturb returned shape {attacked.shape} for X of shape {X.shape}.")
    if not np.isfinite(attacked).all():
        raise ValueError(f"{name}.perturb returned NaN or infinity.")
    # Allow for rounding of images to float32.
    rounding = 1e-6 if attacked.dtype == np.float32 or X.dtype == np.float32 else 1e-9
    delta = attacked.astype(np.float64) - X
    _check_ball(attack, delta, rounding)
    clip, mask = getattr(attack, "clip", None), getattr(attack, "mask", None)
    if clip is not None:
        low, high = (np.asarray(bound) for bound in clip)
        outside = (attacked < np.minimum(low, X) - rounding) | (attacked > np.maximum(high, X) + rounding)
        if outside.any():
            shape = np.broadcast_shapes(low.shape, high.shape)
            described = f"arrays of shape {shape}" if shape else attack.clip
            raise ValueError(
                f"{name} left its box: clip={described}, but attacked images span {attacked.min():.6g} to "
                f"{attacked.max():.6g}; {outside.any(axis=tuple(range(1, X.ndim))).sum()} of {len(X)} lie outside."
            )
    if mask is not None:
        moved = np.abs(np.where(np.asarray(mask), 0, delta)).max()
        if moved > rounding:
            raise ValueError(f"{name} left its mask: a feature that may not change moved by {moved:.6g}.")


def _check_ball(attack, delta, rounding):
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[attack.norm]
    n_features = delta[0].size
    slack = rounding * (1 if order == np.inf else np.sqrt(n_features) if order == 2 else n_features)
    eps = np.asarray(attack.eps, dtype=float)
    if eps.ndim == 1 and len(eps) == len(delta):
        eps = eps.reshape(-1, *[1] * (delta.ndim - 1))  # one per image
    if order == np.inf:
        excess = np.abs(delta) - eps
    else:
        lengths = np.linalg.norm(delta.reshape(len(delta), -1), ord=order, axis=1)
        excess = lengths - np.broadcast_to(eps, (len(delta), *[1] * (delta.ndim - 1))).ravel()
    if excess.max() > slack:
        largest = float(np.max(eps))
        raise ValueError(
            f"{type(attack).__name__} left its ball: an image moved by {largest + excess.max():.6g} in {attack.norm}, "
            f"eps is {largest:.6g}. Its figures would mean nothing."
            if eps.ndim == 0
            else f"{type(attack).__name__} left its ball: an image moved by {excess.max():.6g} in {attack.norm} more "
            "than its eps. Its figures would mean nothing."
        )

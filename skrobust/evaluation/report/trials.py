"""One attack on one model over a grid of eps: what each image suffers, and whether the attack kept to its rules."""

import time
from dataclasses import dataclass, field

import numpy as np
from sklearn.base import clone

from skrobust.evaluation.scoring.robust import predicted_labels


@dataclass
class Trial:
    """What one attack did to one model.

    Attributes
    ----------
    model : str
        Name of the model that was judged.
    settings : dict
        ``attack.describe()``, without eps.
    eps : ndarray of shape (n_eps,)
        Ascending, positive.
    right : ndarray of bool of shape (n_eps, n_samples)
        Whether an image survived this attack at this eps *and at all smaller ones*: what breaks an image within a
        small ball lies in every larger one, so the larger ball admits it too.
    predicted : ndarray of shape (n_eps, n_samples)
        The model's answer to the attacked image: where it is wrong, at the smallest eps that made it so.
    seconds : ndarray of shape (n_eps,)
    witnesses : ndarray of shape (n_eps, n_witnesses, ...)
        The attacked images of the few samples that galleries show.
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
    """Attack `model` at every eps, each time only the images that are still right.

    Parameters
    ----------
    name : str
    model : fitted classifier
    X, y : ndarray
    attack : attack
        Its eps is replaced by each of `eps`.
    eps : ndarray of shape (n_eps,)
        Ascending, positive.
    clean : ndarray of shape (n_samples,)
        The model's answers without attack.
    witnesses : ndarray of int
        Samples whose attacked images are kept.
    on_step : callable or None
        Called after each eps.

    Returns
    -------
    Trial
    """
    predicted, right = clean.copy(), clean == y
    shown = X[witnesses].copy()
    history = {"right": [], "predicted": [], "seconds": [], "witnesses": []}
    for value in eps:
        left = np.flatnonzero(right)
        started = time.perf_counter()
        if left.size:
            attacked = np.asarray(clone(attack).set_params(eps=float(value)).perturb(model, X[left], y[left]))
            check_admissible(attack, X[left], attacked, value)
            predicted[left] = predicted_labels(model, attacked)
            right[left] = predicted[left] == y[left]
            kept, where, source = np.intersect1d(witnesses, left, return_indices=True)
            shown[where] = attacked[source]
        history["seconds"].append(time.perf_counter() - started)
        history["right"].append(right.copy())
        history["predicted"].append(predicted.copy())
        history["witnesses"].append(shown.copy())
        if on_step is not None:
            on_step()
    arrays = {key: np.array(values) for key, values in history.items()}
    return Trial(model=name, settings=settings_of(attack), eps=np.asarray(eps, dtype=float), **arrays)


def settings_of(attack):
    """The settings that stand beside every figure of `attack`; eps has a column of its own."""
    described = dict(attack.describe()) if hasattr(attack, "describe") else {"name": type(attack).__name__}
    described.pop("eps", None)
    described.setdefault("threat_model", getattr(attack, "threat_model", "white box"))
    if described.get("loss", "cross_entropy") != "cross_entropy":
        described["name"] = f"{described['name']}, {described['loss']} loss"
    if "random_state" in described:
        described["seed"] = described.pop("random_state")
    return described


def check_admissible(attack, X, attacked, eps):
    """Refuse figures of an attack that leaves its ball or box, or that changes shape.

    Raises
    ------
    ValueError
        Naming the attack, the distance found and the one allowed.
    """
    name = type(attack).__name__
    if attacked.shape != X.shape:
        raise ValueError(f"{name}.perturb returned shape {attacked.shape} for X of shape {X.shape}.")
    if not np.isfinite(attacked).all():
        raise ValueError(f"{name}.perturb returned NaN or infinity.")
    # What float32 loses when an image is handed through it is no breach.
    rounding = 1e-6 if attacked.dtype == np.float32 or X.dtype == np.float32 else 1e-9
    delta = (attacked.astype(np.float64) - X).reshape(len(X), -1)
    order = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}[attack.norm]
    farthest = float(np.linalg.norm(delta, ord=order, axis=1).max())
    slack = rounding * (1 if order == np.inf else np.sqrt(delta.shape[1]) if order == 2 else delta.shape[1])
    if farthest > eps + slack:
        raise ValueError(
            f"{name} left its ball: an image moved by {farthest:.6g} in {attack.norm}, eps is {eps:.6g}. "
            "Its figures would mean nothing."
        )
    if getattr(attack, "clip", None) is not None:
        low, high = attack.clip
        outside = (attacked < np.minimum(low, X) - rounding) | (attacked > np.maximum(high, X) + rounding)
        if outside.any():
            raise ValueError(
                f"{name} left its box: clip={attack.clip}, but attacked images span "
                f"{attacked.min():.6g} to {attacked.max():.6g}."
            )

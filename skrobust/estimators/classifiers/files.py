"""Fitted classifiers as files: weights as safetensors, settings as JSON."""

import json
import pathlib

import numpy as np
from safetensors.torch import load_file
from safetensors.torch import save as tensors_as_bytes

from skrobust.attacks.core.base import Attack
from skrobust.signals import write_atomically
from skrobust.signals.layout import SignalLayout

from .network import build_network

FORMAT = 1
_WEIGHTS, _SETTINGS = "weights.safetensors", "settings.json"
_NOT_WRITTEN = ("adversary", "augment", "checkpoint", "random_state", "class_weight")
"""Parameters that only training uses, and which may not be plain values."""


def save(estimator, folder):
    """Write a fitted classifier; see `TorchClassifier.save`."""
    if estimator.front_end_ is not None:
        raise ValueError(
            "A TorchClassifier with a front_end cannot be saved in this form. Save it with skops or joblib, or put the "
            "front end in front of it in a Pipeline."
        )
    parameters = {name: _plain(name, value) for name, value in estimator.get_params(deep=False).items()}
    layout = estimator._layout
    settings = {
        "format": FORMAT,
        "parameters": {name: value for name, value in parameters.items() if name not in _NOT_WRITTEN},
        "classes": estimator.classes_.tolist(),
        "classes_dtype": estimator.classes_.dtype.str,
        "grid": list(layout.grid),
        "n_channels": layout.n_channels,
        "takes_rows": estimator.takes_rows_,
        "history": estimator.history_,
    }
    if estimator.classes_.dtype.kind not in "iufbU":
        raise ValueError(f"classes_ of dtype {estimator.classes_.dtype} cannot be written as JSON. Encode the labels.")
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in estimator.network_.state_dict().items()}
    # The settings come last: a folder without them is incomplete.
    write_atomically(folder / _WEIGHTS, tensors_as_bytes(tensors))
    write_atomically(folder / _SETTINGS, json.dumps(settings, indent=1))


def load(cls, folder, module):
    """Read a classifier; see `TorchClassifier.load`."""
    folder = pathlib.Path(folder)
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf8"))
        file_format = settings["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{str(folder)!r} holds no saved TorchClassifier: {error}.") from error
    if file_format != FORMAT:
        raise ValueError(f"{str(folder)!r} has format {file_format!r}, this version reads {FORMAT}.")
    parameters = settings["parameters"]
    if module is not None:
        parameters["module"] = module
    elif not isinstance(parameters["module"], str):
        raise ValueError("This classifier was not built from a name: pass its class or an instance as module.")
    for name in ("normalize", "image_shape"):
        if isinstance(parameters[name], list):
            parameters[name] = tuple(parameters[name])
    estimator = cls(**parameters)
    estimator.classes_ = np.asarray(settings["classes"], dtype=settings["classes_dtype"])
    layout = SignalLayout(tuple(settings["grid"]), settings["n_channels"])
    estimator._layout, estimator.n_features_in_ = layout, layout.n_features
    estimator.takes_rows_, estimator.front_end_ = settings["takes_rows"], None
    estimator.history_ = settings["history"]
    estimator.n_epochs_ = len(estimator.history_)
    shape = (layout.n_features,) if estimator.takes_rows_ else layout.canonical_shape
    tensors = load_file(folder / _WEIGHTS)
    scaling = tensors["mean"], tensors["std"]
    network = build_network(estimator.module, estimator.module_options or {}, len(estimator.classes_), shape, scaling)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"The weights in {str(folder)!r} do not fit the network: {error}") from error
    estimator.network_ = network.eval().requires_grad_(False)
    return estimator


def _plain(name, value):
    """A parameter as JSON holds it; None for modules and what only training uses."""
    if name in _NOT_WRITTEN or isinstance(value, Attack) or (name == "module" and not isinstance(value, str)):
        return None
    if name == "device":
        return str(value)
    if name == "normalize" and isinstance(value, (tuple, list)):
        return [np.asarray(part).tolist() for part in value]
    try:
        json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"{name}={value!r} cannot be written as JSON: {error}. Use plain numbers and strings."
        ) from error
    return value

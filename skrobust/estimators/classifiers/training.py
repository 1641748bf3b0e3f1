"""The training of one `TorchClassifier`: objective, held-out samples and checkpoint, for the loop of `skrobust.nn`."""

import warnings

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from torch import nn

from skrobust.attacks.core.base import Attack
from skrobust.bridge import as_module
from skrobust.nn import IntervalBound
from skrobust.nn.training import CrossEntropy, Mart, RandomShift, Recipe, Trades, TrainingCheckpoint, train_network
from skrobust.signals.arrays import label_indices
from skrobust.signals.fingerprint import fingerprint

from .adversary import LARGEST_DROP, TrainingAdversary, accuracy_of, accuracy_under, is_single_step, stronger
from .network import build_network, feature_scaling

_HELD_OUT = 0.1
"""Share of the samples held out if `patience` is set and `validation_fraction` is not."""
_N_ATTACKED = 256
"""Samples attacked after each epoch, at most."""
_NOT_IN_IDENTITY = ("verbose", "device", "checkpoint", "warm_start", "max_epochs", "random_state")


class Training:
    """One call of `fit`.

    Parameters
    ----------
    estimator : TorchClassifier
        With `classes_` and a fitted `front_end_`.
    X : ndarray of float32 of shape (n_samples, n_features) or (n_samples, height, width, n_channels)
    y : ndarray of int64 of shape (n_samples,)
    seed : int
    one_epoch : bool
        Train for one epoch at a constant rate, without held-out samples and checkpoint.
    """

    def __init__(self, estimator, X, y, seed, *, one_epoch):
        self.estimator, self.seed, self.one_epoch = estimator, seed, one_epoch
        self.generator = torch.Generator().manual_seed(seed)
        self.device = _device(estimator.device)
        self.X, self.y = X, y
        self.X_held_out = self.y_held_out = None
        fraction = estimator.validation_fraction
        if fraction is None and estimator.patience is not None:
            fraction = _HELD_OUT
        if fraction is not None and not one_epoch:
            self._hold_out(fraction)
        self._check_adversary()

    def new_network(self):
        """A network with initial weights, for samples behind the front end."""
        estimator, shape = self.estimator, self.X.shape[1:]
        seen = self.X
        if estimator.front_end_ is not None:
            seen = np.asarray(estimator.front_end_.transform(self.X), dtype=np.float32).reshape(self.X.shape)
        scaling = feature_scaling(estimator.normalize, seen)
        return build_network(estimator.module, estimator.module_options or {}, len(estimator.classes_), shape, scaling)

    def run(self, network, optimizer_state):
        """Train a network in place; returns the history and the state of the optimiser."""
        estimator = self.estimator
        trained, X = self._with_front_end(network.requires_grad_(True))
        recipe = self._recipe()
        checkpoint = None
        if estimator.checkpoint is not None and not self.one_epoch:
            checkpoint = TrainingCheckpoint(estimator.checkpoint, self._identity(network))
        history, state = train_network(
            trained.to(self.device),
            X,
            self.y,
            objective=self._objective(),
            recipe=recipe,
            generator=self.generator,
            augment=self._augmentation(),
            validate=self._validation(),
            checkpoint=checkpoint,
            optimizer_state=optimizer_state,
            device=self.device,
            name=type(estimator).__name__,
            verbose=estimator.verbose,
        )
        return history, state

    def _with_front_end(self, network):
        """What is trained, and on which samples: through the front end only if these change in training."""
        estimator = self.estimator
        if estimator.front_end_ is None:
            return network, self.X
        if estimator.adversary is None and estimator.augment is None and self.X_held_out is None:
            defended = np.asarray(estimator.front_end_.transform(self.X), dtype=np.float32)
            return network, defended.reshape(self.X.shape)
        front = as_module(estimator.front_end_, dtype=torch.float32, device=self.device)
        return _Defended(front, network, self.X.shape[1:]), self.X

    def _recipe(self):
        estimator = self.estimator
        patience = estimator.patience
        if self._checks_single_steps and patience is None:
            patience = estimator.max_epochs  # keeps the best parameters, and never stops
        return Recipe(
            learning_rate=float(estimator.lr),
            optimizer=estimator.optimizer,
            momentum=estimator.momentum,
            weight_decay=estimator.weight_decay,
            schedule=None if self.one_epoch else estimator.schedule,
            batch_size=int(estimator.batch_size),
            max_epochs=1 if self.one_epoch else int(estimator.max_epochs),
            patience=None if self.one_epoch else patience,
            max_gradient_norm=estimator.max_gradient_norm,
            precision=estimator.precision,
        )

    def _objective(self):
        estimator, options = self.estimator, {}
        if estimator.certified is not None:
            return estimator.certified
        if estimator.class_weight is not None:
            weight = _class_weights(estimator.class_weight, estimator.classes_, self.y)
            options["class_weight"] = torch.as_tensor(weight, dtype=torch.float32, device=self.device)
        if estimator.loss != "mart":
            options["label_smoothing"] = float(estimator.label_smoothing)
        if estimator.adversary is None:
            return CrossEntropy(**options)
        loss = "kl" if estimator.loss == "trades" else None
        warm_up = 0.0 if self.one_epoch else estimator.adversary_warm_up
        perturb = TrainingAdversary(estimator.adversary, self.generator, loss, warm_up)
        if estimator.loss == "cross_entropy":
            return CrossEntropy(perturb, **options)
        return (Mart if estimator.loss == "mart" else Trades)(perturb, beta=estimator.beta, **options)

    def _augmentation(self):
        augment = self.estimator.augment
        if augment is None or callable(augment):
            return augment
        if self.X.ndim != 4:
            raise ValueError(f"augment={augment!r} needs images: set image_shape, or pass X as images.")
        return RandomShift(max(1, min(self.X.shape[1:3]) // 8), mirror=augment == "mirror_shift")

    def _hold_out(self, fraction):
        try:
            self.X, self.X_held_out, self.y, self.y_held_out = train_test_split(
                self.X, self.y, test_size=fraction, random_state=self.seed, stratify=self.y
            )
        except ValueError as error:
            raise ValueError(
                f"validation_fraction={fraction} of {len(self.y)} samples cannot be held out: {error} Lower or raise "
                "validation_fraction, or set patience=None and validation_fraction=None."
            ) from error

    def _check_adversary(self):
        estimator = self.estimator
        adversary = estimator.adversary
        if adversary is None and estimator.loss != "cross_entropy":
            raise ValueError(f"loss={estimator.loss!r} needs an adversary, such as skrobust.attacks.PGD(eps=0.1).")
        if adversary is not None and not isinstance(adversary, Attack):
            raise ValueError(
                f"adversary must be an attack of skrobust.attacks or None, got {type(adversary).__name__}."
            )
        if estimator.certified is not None:
            self._check_certified()
        self._checks_single_steps = adversary is not None and is_single_step(adversary) and not self.one_epoch

    def _check_certified(self):
        estimator = self.estimator
        if not isinstance(estimator.certified, IntervalBound):
            raise ValueError(
                f"certified must be a skrobust.nn.IntervalBound or None, got {type(estimator.certified).__name__}."
            )
        defaults = {"adversary": None, "front_end": None, "class_weight": None, "loss": "cross_entropy"}
        for name, value in {**defaults, "label_smoothing": 0}.items():
            if getattr(estimator, name) != value:
                raise ValueError(
                    f"certified does not go with {name}={getattr(estimator, name)!r}: set {name}={value!r}."
                )

    def _validation(self):
        """What is measured after each epoch, or None."""
        adversary, measures = self.estimator.adversary, []
        if self.X_held_out is not None:
            X, y = self.X_held_out, self.y_held_out
            measures.append(lambda network: {"validation_accuracy": accuracy_of(network, X, y)})
            if adversary is not None:
                few = slice(_N_ATTACKED)
                measures.append(
                    lambda network: {"validation_robust_accuracy": accuracy_under(adversary, network, X[few], y[few])}
                )
        if self._checks_single_steps:
            measures.append(_SingleStepCheck(adversary, self.X[:_N_ATTACKED], self.y[:_N_ATTACKED]))
        if not measures:
            return None
        return lambda network: {key: value for measure in measures for key, value in measure(network).items()}

    def _identity(self, network):
        """What determines the result of the training besides the number of epochs."""
        estimator = self.estimator
        settings = {
            name: value if isinstance(value, (bool, int, float, str, type(None))) else fingerprint(value)
            for name, value in estimator.get_params(deep=False).items()
            if name not in _NOT_IN_IDENTITY
        }
        has_end = estimator.schedule in ("cosine", "one_cycle")
        return {
            **settings,
            "max_epochs": int(estimator.max_epochs) if has_end else None,
            "random_state": None if estimator.random_state is None else self.seed,
            "network": fingerprint(list(network.state_dict().values())) if estimator.random_state is not None else None,
            "X and y": fingerprint([self.X, self.y]),
        }


class _Defended(nn.Module):
    """A front end and a network as one module."""

    def __init__(self, front, network, sample_shape):
        super().__init__()
        self.front, self.network, self.sample_shape = front, network, sample_shape

    def forward(self, X):
        return self.network(self.front(X).reshape(-1, *self.sample_shape))


class _SingleStepCheck:
    """Accuracy under several steps of a network trained on single steps, and the end of its training if that falls."""

    def __init__(self, adversary, X, y):
        self.attack, self.X, self.y, self.best = stronger(adversary), X, y, 0.0

    def __call__(self, network):
        accuracy = accuracy_under(self.attack, network, self.X, self.y)
        falls = accuracy < self.best - LARGEST_DROP
        self.best = max(self.best, accuracy)
        if falls:
            warnings.warn(
                f"Catastrophic overfitting: the accuracy under {self.attack.n_iter} steps of PGD fell from "
                f"{self.best:.1%} to {accuracy:.1%}. Training ends with the best parameters. Take an adversary of "
                "several steps, a smaller step_size, or fewer epochs.",
                RuntimeWarning,
                stacklevel=2,
            )
        return {"multi_step_accuracy": accuracy, "stop": falls}


def _class_weights(class_weight, classes, indices):
    """Weight of each class."""
    if isinstance(class_weight, dict):
        positions = label_indices(np.asarray(list(class_weight)), classes)
        if (positions < 0).any():
            raise ValueError(
                f"class_weight has the keys {list(class_weight)}, which must be among the labels {classes}."
            )
        weights = np.ones(len(classes))
        weights[positions] = list(class_weight.values())
        return weights
    return compute_class_weight(class_weight, classes=np.arange(len(classes)), y=indices)


def _device(device):
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is no device of torch: {error}") from error

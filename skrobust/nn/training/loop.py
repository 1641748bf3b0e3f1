"""The one training loop: epochs of stochastic gradient descent, with checkpoints and early stopping, on skorch."""

import contextlib
import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn
from tqdm import tqdm

from skrobust.nn.layered import LayeredPursuit

from .schedules import rate_factor

_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class Recipe:
    """Settings of a training that do not depend on the data.

    Parameters
    ----------
    learning_rate : float
    optimizer : {"sgd", "adam", "adamw"}, default="sgd"
    momentum : float, default=0.9
        Of "sgd".
    weight_decay : float, default=0.0
        For parameters with two axes or more: not for offsets, thresholds and batch normalisation.
    schedule : {None, "cosine", "one_cycle"} or int, default=None
        Learning rate: constant, cosine decay to zero, linear rise and fall, or divided by ten every so many epochs.
    batch_size : int, default=64
    max_epochs : int, default=10
    patience : int or None, default=None
        Stop after that many epochs without a better validation score, and keep the best parameters.
    max_gradient_norm : float or None, default=None
        Longer gradients are scaled to this norm.
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16": mixed precision, parameters stay in float32.
    """

    learning_rate: float
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str | int | None = None
    batch_size: int = 64
    max_epochs: int = 10
    patience: int | None = None
    max_gradient_norm: float | None = None
    precision: str = "float32"


def train_network(
    network,
    X,
    y,
    *,
    objective,
    recipe,
    generator,
    augment=None,
    validate=None,
    checkpoint=None,
    optimizer_state=None,
    device="cpu",
    name="train_network",
    verbose=0,
):
    """Train a network in place.

    Parameters
    ----------
    network : torch.nn.Module
        Maps a batch to scores.
    X : ndarray of shape (n_samples, ...)
    y : ndarray of int64 of shape (n_samples,)
    objective : callable
        ``objective(network, X, y, progress)`` returns loss and scores, such as `CrossEntropy`. If it has a method
        ``prepare(network)``, that is called before the first step, unless training resumes.
    recipe : Recipe
    generator : torch.Generator
        For the order of samples and the augmentation. Layers that draw random numbers use torch's own generator.
    augment : callable or None, default=None
        ``augment(X, generator)`` changes a batch.
    validate : callable or None, default=None
        ``validate(network)``, called after each epoch, returns a dict of numbers for the history. The last one is the
        validation score: higher is better. A warning may end the training: with the key "stop", whose value is true.
    checkpoint : TrainingCheckpoint or None, default=None
        Written after each epoch; if it exists, training resumes from it.
    optimizer_state : dict or None, default=None
        State of an earlier call, with which the optimiser goes on.
    device : str or torch.device, default="cpu"
    name : str, default="train_network"
        In the progress bar.
    verbose : int, default=0
        1: a progress bar of the epochs.

    Returns
    -------
    history : list of dict
        Mean loss and accuracy on the training batches of each epoch, and what `validate` returned.
    optimizer_state : dict

    Raises
    ------
    ValueError
        If the loss is not finite, or the checkpoint is unreadable or of another training.
    """
    net = _Net(
        network,
        objective=objective,
        precision=recipe.precision,
        criterion=nn.CrossEntropyLoss,
        optimizer=_OPTIMIZERS[recipe.optimizer],
        **({"optimizer__momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}),
        lr=recipe.learning_rate,
        max_epochs=recipe.max_epochs,
        batch_size=recipe.batch_size,
        iterator_train=_Batches,
        iterator_train__generator=generator,
        iterator_train__augment=augment,
        train_split=None,
        callbacks__print_log=None,
        verbose=0,
        device=device,
    )
    state = None if checkpoint is None else checkpoint.read(max_epochs=recipe.max_epochs)
    if state is None and hasattr(objective, "prepare"):
        objective.prepare(network)
    net.initialize()
    net.optimizer_ = _optimizer(net.module_, recipe)
    progress = _Progress(recipe, generator, validate, checkpoint, math.ceil(len(X) / recipe.batch_size))
    if optimizer_state is not None:
        net.optimizer_.load_state_dict(optimizer_state)
    if state is not None:
        progress.restore(net, state)
    net.callbacks_ = [("progress", progress)]
    bar = tqdm(desc=name, initial=progress.n_epochs, total=recipe.max_epochs, unit="epoch", disable=not verbose)
    with bar as progress.bar:
        net.notify("on_train_begin", X=X, y=y)
        while progress.n_epochs < recipe.max_epochs and not progress.stopped:
            net.fit_loop(X, y, epochs=1)
        net.notify("on_train_end", X=X, y=y)
    progress.finish(net)
    for module in net.module_.modules():
        if isinstance(module, LayeredPursuit):
            module.settle()
    return progress.history, net.optimizer_.state_dict()


class _Net(NeuralNet):
    """A skorch net whose loss is that of an objective."""

    def __init__(self, *args, objective, precision, **kwargs):
        super().__init__(*args, **kwargs)
        self.objective, self.precision = objective, precision
        self.share_done = 0.0

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        X, y = (part.to(self.device) for part in batch)
        autocast = contextlib.nullcontext()
        if self.precision == "bfloat16":
            autocast = torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16)
        with autocast:
            loss, scores = self.objective(self.module_, X, y, self.share_done)
        loss.backward()
        return {"loss": loss, "y_pred": scores.detach()}

    def get_dataset(self, X, y=None):
        return X if isinstance(X, _Samples) else _Samples(X, y)


class _Samples(Dataset):
    """Arrays as tensors that share their memory, for batches by index."""

    def __init__(self, X, y):
        super().__init__(X, y)
        self.tensors = torch.from_numpy(np.ascontiguousarray(X)), torch.from_numpy(np.ascontiguousarray(y))


class _Batches:
    """Batches in random order. One index a batch, where a DataLoader would collect single samples."""

    def __init__(self, samples, batch_size, generator, augment):
        self.samples, self.batch_size, self.generator, self.augment = samples, batch_size, generator, augment

    def __len__(self):
        return math.ceil(len(self.samples) / self.batch_size)

    def __iter__(self):
        X, y = self.samples.tensors
        for rows in torch.randperm(len(X), generator=self.generator).split(self.batch_size):
            batch = X[rows]
            yield batch if self.augment is None else self.augment(batch, self.generator), y[rows]


class _Progress(Callback):
    """Everything that changes in the course of a training besides parameters: rate, history, best state, checkpoint."""

    def __init__(self, recipe, generator, validate, checkpoint, steps_per_epoch):
        self.recipe, self.generator, self.validate, self.checkpoint = recipe, generator, validate, checkpoint
        self.steps_per_epoch = steps_per_epoch
        self.history, self.best, self.stopped = [], None, False

    @property
    def n_epochs(self):
        return len(self.history)

    def on_epoch_begin(self, net, **kwargs):
        self.step = self.n_epochs * self.steps_per_epoch
        self.n_seen = self.n_correct = self.total_loss = 0

    def on_batch_begin(self, net, training, **kwargs):
        recipe, n_steps = self.recipe, self.recipe.max_epochs * self.steps_per_epoch
        for group in net.optimizer_.param_groups:
            factor = rate_factor(recipe.schedule, self.step, n_steps, self.steps_per_epoch)
            group["lr"] = recipe.learning_rate * factor
        net.share_done = self.step / n_steps
        self.step += 1

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if self.recipe.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(net.module_.parameters(), self.recipe.max_gradient_norm)

    def on_batch_end(self, net, batch, loss, y_pred, training, **kwargs):
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss is {loss.item()} in epoch {self.n_epochs + 1}: the learning rate "
                f"{self.recipe.learning_rate} is too high for this network and these data. Lower it, or scale X."
            )
        # `torch.autocast` caches half-precision copies of the old parameters.
        torch.clear_autocast_cache()
        y = batch[1].to(y_pred.device)
        self.n_seen += len(y)
        self.n_correct += int((y_pred.argmax(1) == y).sum())
        self.total_loss += loss.item() * len(y)

    def on_epoch_end(self, net, **kwargs):
        entry = {"loss": self.total_loss / self.n_seen, "accuracy": self.n_correct / self.n_seen}
        if self.validate is not None:
            entry |= self.validate(net.module_)
            self.stopped = entry.pop("stop", False)
        self.history.append(entry)
        self._compare(net, entry)
        self.bar.update()
        shown = [f"{key.replace('_', ' ')} {value:.4g}" for key, value in entry.items()]
        self.bar.set_postfix_str(", ".join(shown), refresh=False)
        if self.checkpoint is not None:
            self.checkpoint.write(
                {
                    "network": net.module_.state_dict(),
                    "optimizer": net.optimizer_.state_dict(),
                    "generator": self.generator.get_state(),
                    "torch_generator": torch.get_rng_state(),
                    "history": self.history,
                    "best": self.best,
                    "stopped": self.stopped,
                }
            )

    def _compare(self, net, entry):
        """Keep the parameters of the best epoch so far, and stop if it is too long ago."""
        if self.recipe.patience is None:
            return
        score = list(entry.values())[-1]
        if self.best is None or score > self.best["score"]:
            self.best = {"score": score, "epoch": self.n_epochs, "state": copy.deepcopy(net.module_.state_dict())}
        self.stopped |= self.n_epochs - self.best["epoch"] >= self.recipe.patience

    def restore(self, net, state):
        """Continue from a checkpoint."""
        net.module_.load_state_dict(state["network"])
        net.optimizer_.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_generator"])
        self.history, self.best, self.stopped = state["history"], state["best"], state["stopped"]

    def finish(self, net):
        """The best parameters, if they were kept."""
        if self.best is not None:
            net.module_.load_state_dict(self.best["state"])


def _optimizer(network, recipe):
    """The optimiser; parameters with fewer than two axes do not decay."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    options = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    return _OPTIMIZERS[recipe.optimizer](groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **options)

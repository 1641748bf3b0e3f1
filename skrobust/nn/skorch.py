"""The skorch network that trains a `LayeredClassifier`. Imported only for training."""

import math

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn
from tqdm import tqdm

from .regularizers import incoherence_penalty, parseval_penalty


class _LayeredNet(NeuralNetClassifier):
    """Cross-entropy plus the penalties on the atoms."""

    def __init__(self, *args, incoherence=0.0, parseval=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.incoherence, self.parseval = incoherence, parseval

    def get_loss(self, y_pred, y_true, X=None, training=False):
        loss = super().get_loss(y_pred, y_true, X, training)
        pursuit = self.module_.pursuit
        if self.incoherence:
            layers = zip(pursuit.atoms, pursuit.stride, pursuit.code_shapes, strict=True)
            incoherence = sum(incoherence_penalty(atoms, stride, shape[:-1]) for atoms, stride, shape in layers)
            loss = loss + self.incoherence * incoherence
        if self.parseval:
            loss = loss + self.parseval * sum(parseval_penalty(atoms) for atoms in pursuit.atoms)
        return loss


class _LearningRate(Callback):
    """The learning rate as a function of the number of steps, without state."""

    def __init__(self, learning_rate, schedule):
        self.learning_rate, self.schedule = learning_rate, schedule

    def on_epoch_begin(self, net, dataset_train, **kwargs):
        self._steps_per_epoch = math.ceil(len(dataset_train) / net.batch_size)
        self._step = len(net.module_.history) * self._steps_per_epoch

    def on_batch_begin(self, net, training, **kwargs):
        factor = 1.0
        if self.schedule == "cosine":
            factor = (1 + math.cos(math.pi * self._step / (net.max_epochs * self._steps_per_epoch))) / 2
        elif self.schedule is not None:
            factor = 0.1 ** (self._step // self._steps_per_epoch // self.schedule)
        for group in net.optimizer_.param_groups:
            group["lr"] = self.learning_rate * factor
        self._step += 1


class _Bounds(Callback):
    """Raises an error if the loss is not finite."""

    def on_batch_end(self, net, loss, training, **kwargs):
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss is {loss.item()} in epoch {len(net.module_.history) + 1}: learning_rate="
                f"{net.optimizer_.defaults['lr']} is too high for these atoms. Lower it, or scale X or the atoms."
            )
        # `torch.autocast` caches half-precision copies of the old parameters.
        torch.clear_autocast_cache()


class _History(Callback):
    """Mean loss and accuracy of each epoch, shown in the progress bar."""

    def __init__(self, bar):
        self.bar = bar

    def on_epoch_begin(self, net, **kwargs):
        self._n = self._right = self._loss = 0

    def on_batch_end(self, net, batch, loss, y_pred, training, **kwargs):
        y = batch[1].to(y_pred.device)
        self._n += len(y)
        self._right += int((y_pred.argmax(1) == y).sum())
        self._loss += loss.item() * len(y)

    def on_epoch_end(self, net, **kwargs):
        means = {"loss": self._loss / self._n, "accuracy": self._right / self._n}
        net.module_.history.append(means)
        self.bar.update()
        self.bar.set_postfix_str(f"loss {means['loss']:.4g}, accuracy {means['accuracy']:.2%}", refresh=False)


class _SaveCheckpoint(Callback):
    """Writes the state needed for the next epoch to the checkpoint."""

    def __init__(self, checkpoint, generator):
        self.checkpoint, self.generator = checkpoint, generator

    def on_epoch_end(self, net, **kwargs):
        self.checkpoint.write(
            {
                "classifier": net.module_.state_dict(),
                "optimizer": net.optimizer_.state_dict(),
                "generator": self.generator.get_state(),
                "history": net.module_.history,
            }
        )


def layered_net(
    classifier,
    generator,
    n_epochs,
    *,
    device,
    batch_size,
    learning_rate,
    momentum,
    weight_decay,
    schedule,
    incoherence,
    parseval,
):
    """A skorch classifier around `classifier`, ready for its first step."""
    undecayed = ("pursuit.thresholds*", "*.betas.*", "pursuit.gains*", "pursuit.offsets*")
    net = _LayeredNet(
        classifier,
        incoherence=incoherence,
        parseval=parseval,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=momentum,
        optimizer__weight_decay=weight_decay,
        optimizer__param_groups=[(pattern, {"weight_decay": 0.0}) for pattern in undecayed],
        lr=learning_rate,
        max_epochs=n_epochs,
        batch_size=batch_size,
        iterator_train__shuffle=True,
        iterator_train__generator=generator,
        train_split=None,
        classes=list(range(classifier.head.out_features)),
        callbacks=[_LearningRate(learning_rate, schedule), _Bounds()],
        callbacks__print_log=None,
        verbose=0,
        device=device,
    )
    return net.initialize()


def resume(net, state):
    """Restore network, optimiser and sample order from a checkpoint."""
    net.module_.load_state_dict(state["classifier"])
    net.optimizer_.load_state_dict(state["optimizer"])
    net.get_params_for("iterator_train")["generator"].set_state(state["generator"])
    net.module_.history[:] = state["history"]


def run_epochs(net, X, y, checkpoint, verbose):
    """Train to ``max_epochs``; unlike skorch's methods, let KeyboardInterrupt through."""
    done = len(net.module_.history)
    with tqdm(desc="train_layered", initial=done, total=net.max_epochs, unit="epoch", disable=not verbose) as bar:
        net.callbacks_ += [("history", _History(bar))]
        if checkpoint is not None:
            generator = net.get_params_for("iterator_train")["generator"]
            net.callbacks_ += [("checkpoint", _SaveCheckpoint(checkpoint, generator))]
        net.module_.train()
        net.notify("on_train_begin", X=X, y=y)
        net.fit_loop(X, y, epochs=net.max_epochs - done)
        net.notify("on_train_end", X=X, y=y)

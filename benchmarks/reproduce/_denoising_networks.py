"""The MLP and the ConvNet of "Denoising dictionary learning against adversarial perturbations", table 3."""

import pathlib

import torch
from skorch import NeuralNetClassifier
from torch import nn

from skrobust.nn import make_network


class OnRows(nn.Module):
    """A named network on rows of square images of one channel."""

    def __init__(self, name, n_features):
        super().__init__()
        self.side = round(n_features**0.5)
        self.network = make_network(name, n_classes=10, image_shape=(self.side, self.side))

    def forward(self, X):
        return self.network(X.reshape(-1, 1, self.side, self.side))


NETWORKS = {"MLP": "dictionary_mlp", "ConvNet": "dictionary_convnet"}
"""Name of each network in `skrobust.nn`."""


def trained_network(name, X, y, *, epochs, folder):
    """The network as a skorch classifier, trained with Adam or loaded from `folder`; an epoch at a time is kept.

    Parameters
    ----------
    name : {"MLP", "ConvNet"}
    X : ndarray of float32, of shape (n_samples, n_features)
    y : ndarray of int64
    epochs : int
    folder : path-like
    """
    net = NeuralNetClassifier(
        OnRows,
        module__name=NETWORKS[name],
        module__n_features=X.shape[1],
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=64,
        max_epochs=1,
        train_split=None,
        iterator_train__shuffle=True,
        classes=list(range(10)),
        verbose=0,
    )
    folder = pathlib.Path(folder)
    states = [folder / f"{name}_{len(X)}x{X.shape[1]}_epoch{epoch}.pt" for epoch in range(1, epochs + 1)]
    done = max((epoch for epoch, state in enumerate(states, 1) if state.exists()), default=0)
    torch.manual_seed(done)
    net.initialize()
    if done:
        net.load_params(f_params=states[done - 1], f_optimizer=states[done - 1].with_suffix(".adam"))
    for state in states[done:]:
        net.partial_fit(X, y)
        folder.mkdir(parents=True, exist_ok=True)
        net.save_params(f_params=state, f_optimizer=state.with_suffix(".adam"))
    return net

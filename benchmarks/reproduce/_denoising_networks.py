"""The MLP and the ConvNet of "Denoising dictionary learning against adversarial perturbations", table 3."""

import pathlib

import torch
from skorch import NeuralNetClassifier
from torch import nn


class _Images(nn.Module):
    """Rows as square images of one channel."""

    def forward(self, X):
        side = round(X[0].numel() ** 0.5)
        return X.reshape(-1, 1, side, side)


class TableMLP(nn.Sequential):
    """Takes images as rows; the widths are the paper's for MNIST, and follow the number of pixels elsewhere."""

    def __init__(self, n_features=784):
        super().__init__(
            nn.Dropout(0.5),
            nn.BatchNorm1d(n_features),
            nn.Linear(n_features, n_features),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.BatchNorm1d(n_features),
            nn.Linear(n_features, 256),
            nn.ReLU(),
            nn.Linear(256, 10),
        )


class TableConvNet(nn.Sequential):
    """Takes images as rows. The table names neither padding nor activations: "same" and ReLU, without which six
    convolutions and two poolings would not fit into 28 pixels."""

    def __init__(self, n_features=784):
        quarter = round(n_features**0.5) // 4
        super().__init__(
            _Images(),
            nn.Dropout(0.5),
            *_convolution(1, 32),
            *_convolution(32, 32),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            *_convolution(32, 64),
            *_convolution(64, 64),
            nn.MaxPool2d(2),
            *_convolution(64, 128),
            *_convolution(128, 256),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(256 * quarter**2, 512),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(512, 10),
        )


def _convolution(n_in, n_out):
    return nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()


NETWORKS = {"MLP": TableMLP, "ConvNet": TableConvNet}


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
        NETWORKS[name],
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

"""The torch CNN that benchmarks attack: two convolutions, trained on MNIST with skorch, kept in a folder."""

import pathlib

import torch
from skorch import NeuralNetClassifier
from torch import nn

from skrobust.datasets import load_mnist


class TwoConvolutions(nn.Sequential):
    """Takes images as rows, (height, width) or (1, height, width); returns logits."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, X):
        return super().forward(X.reshape(-1, 1, 28, 28))


def trained_network(folder, data_home=None):
    """The skorch classifier, trained in two epochs (20 s) or loaded from `folder`: 98 % on the test images."""
    state = pathlib.Path(folder) / "mnist_two_convolutions.pt"
    net = NeuralNetClassifier(
        TwoConvolutions,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=128,
        max_epochs=2,
        train_split=None,
        iterator_train__shuffle=True,
        classes=list(range(10)),
        verbose=0,
    )
    if state.exists():
        net.initialize()
        net.load_params(f_params=state)
        return net
    X, y = load_mnist(data_home, return_X_y=True)
    torch.manual_seed(0)
    net.fit(X, y)
    state.parent.mkdir(parents=True, exist_ok=True)
    net.save_params(f_params=state)
    return net

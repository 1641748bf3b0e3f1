"""Coherence of the layers of a network, against products of shifted atoms."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from skrobust.dictionaries import mutual_coherence, network_coherence, welch_bound
from skrobust.nn import CSCLayer, LayeredPursuit, make_network


def slow_products(atoms, stride):
    """Normalised inner products of all pairs of different atoms at all shifts that overlap."""
    (height, width), products = atoms.shape[1:3], []
    atoms = atoms / np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))
    for dy, dx in itertools.product(range(1 - height, height), range(1 - width, width)):
        if dy % stride[0] or dx % stride[1]:
            continue
        fixed = atoms[:, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        shifted = atoms[:, max(-dy, 0) : height - max(dy, 0), max(-dx, 0) : width - max(dx, 0)]
        gram = fixed.reshape(len(atoms), -1) @ shifted.reshape(len(atoms), -1).T
        products += list(gram[~np.eye(len(atoms), dtype=bool)] if dy == dx == 0 else gram.ravel())
    return np.array(products)


@pytest.mark.parametrize("stride", [1, 2, (1, 3), 4])
def test_equals_products_of_shifted_atoms(stride):
    torch.manual_seed(0)
    layer = CSCLayer(2, 6, (3, 4), stride).double()
    (row,) = network_coherence(nn.Sequential(nn.ReLU(), layer))
    ((atoms, strides),) = layer.dictionaries()
    products = slow_products(atoms, strides)
    assert (row.name, row.n_components) == ("1", 6)
    assert row.mutual_coherence == pytest.approx(np.abs(products).max(), rel=1e-9)
    assert row.frame_potential == pytest.approx(np.sqrt((products**2).mean()), rel=1e-9)
    assert row.welch_bound <= row.frame_potential
    if stride == 1:
        assert row.mutual_coherence == pytest.approx(mutual_coherence(atoms))
        assert welch_bound(atoms.shape) <= row.mutual_coherence


def test_one_row_per_layer():
    network = make_network("deep_pursuit_residual", n_classes=3, image_shape=(16, 16, 3), width=2)
    rows = network_coherence(network)
    assert [row.name for row in rows] == [f"pursuit.{j}" for j in range(1, 7)]
    assert [row.n_components for row in rows] == [2, 2, 4, 4, 8, 8]
    rng = np.random.default_rng(0)
    alone = LayeredPursuit([rng.normal(size=(3, 4, 1))], (9, 1))  # 1-D
    assert [row.name for row in network_coherence(alone)] == [""]
    everywhere = make_network("sdnet18_all", n_classes=3, image_shape=(32, 32, 3), width=2)
    assert len(network_coherence(everywhere)) == 20


def test_networks_without_dictionaries_are_refused():
    with pytest.raises(ValueError, match="Linear has no CSCLayer and no LayeredPursuit"):
        network_coherence(nn.Linear(2, 2))

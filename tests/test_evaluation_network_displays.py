"""Class activation maps: their mean is the score, and what the display draws and refuses."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from skrobust.displays import ActivationMapDisplay
from skrobust.nn import ImageNetwork, make_network

mpl.use("Agg")


def network(name="sdnet18", shape=(16, 16, 3), **options):
    torch.manual_seed(0)
    return ImageNetwork(make_network(name, n_classes=4, image_shape=shape, **options), 0.5, 0.25)


def test_maps_show_what_the_class_sees():
    """The mean of a map is the score of its class without the bias."""
    model, rng = network("resnet32", width=4), np.random.default_rng(0)
    views = {"clean": rng.random((2, 16, 16, 3)), "attacked": rng.random((2, 16, 16, 3))}
    display = ActivationMapDisplay.from_estimator(model, views, [1, 3])
    assert model.training  # as before
    with torch.no_grad():
        for name, images in views.items():
            scores = model.eval()(torch.as_tensor(images, dtype=torch.float32))
            expected = (scores - model.network[-1].bias)[[0, 1], [1, 3]]
            # Bilinear enlargement by a whole factor keeps the mean, up to the edges.
            np.testing.assert_allclose(display.maps[name].mean(axis=(1, 2)), expected, rtol=1e-4, atol=1e-5)
            assert (display.predictions[name] == scores.argmax(1).numpy()).all()
    assert display.axes_.shape == (2, 2) and display.axes_[0, 1].get_title(loc="left") == "attacked"
    assert display.maps["clean"].shape == (2, 16, 16)


def test_grey_images_and_sparse_networks():
    display = ActivationMapDisplay.from_estimator(
        network(shape=(16, 16), width=4), {"clean": np.ones((1, 16, 16))}, [0]
    )
    assert len(display.figure_.axes) == 1


def test_bad_input():
    X = np.zeros((2, 16, 16, 3))
    with pytest.raises(ValueError, match="has no class activation maps"):
        ActivationMapDisplay.from_estimator(nn.Linear(2, 2), {"clean": X}, [0, 1])
    with pytest.raises(ValueError, match="y must hold one class index for each of the 2 images"):
        ActivationMapDisplay.from_estimator(network(width=4), {"clean": X}, [0])
    with pytest.raises(ValueError, match="views must hold images of one shape"):
        ActivationMapDisplay.from_estimator(network(width=4), {"clean": X, "other": X[:1]}, [0, 1])

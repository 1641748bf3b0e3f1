"""Networks of the paper on the stability of layered pursuits [1]_, as L-THR (a CNN) or L-BP.

References
----------
.. [1] Y. Romano, A. Aberdam, J. Sulam, M. Elad, "Adversarial noise attacks of deep learning architectures: stability
   analysis via sparse-modeled signals", J. Math. Imaging Vis. 2020.
"""

import math

from torch import nn

from .pursuit import PursuitNetwork, random_pursuit
from .registry import register_network


@register_network
def stability_mnist(n_classes, image_shape, *, n_components=(64, 128, 512), max_iter=4, **pursuit):
    """Three layers of 6x6, 6x6 and 4x4 atoms with strides 2, 2 and 1, and a linear layer.

    ``max_iter=0`` is L-THR, more is L-BP; `pursuit` are parameters of `LayeredPursuit`.
    """
    plan = list(zip(n_components, (6, 6, 4), strict=True))
    layers = random_pursuit(image_shape, plan, pursuit="basis", stride=(2, 2, 1), max_iter=max_iter, **pursuit)
    return PursuitNetwork(layers, nn.Sequential(nn.Flatten(), nn.Linear(math.prod(layers.code_shapes[-1]), n_classes)))


@register_network
def stability_cifar(
    n_classes, image_shape, *, n_components=(32, 64, 128), head=(256, 512, 512), max_iter=6, learn_steps=True, **pursuit
):
    """Three layers of 4x4 atoms with stride 2, then three 3x3 convolutions and a linear layer.

    ``max_iter=0`` is L-THR, more is L-BP. The paper does not state the widths of the head.
    """
    settings = {"padding": "same", "stride": 2, "max_iter": max_iter, "learn_steps": learn_steps, **pursuit}
    layers = random_pursuit(image_shape, [(n, 4) for n in n_components], pursuit="basis", **settings)
    channels, convolutions = n_components[-1], []
    for n in head:
        convolutions += [nn.Conv2d(channels, n, 3, padding=1), nn.ReLU()]
        channels = n
    n_features = math.prod(layers.code_shapes[-1][:2]) * channels
    return PursuitNetwork(layers, nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(n_features, n_classes)))

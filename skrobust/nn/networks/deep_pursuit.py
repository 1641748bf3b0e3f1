"""Networks of the paper on deep pursuit [1]_: 6 n layers, as a chain, with residual or with dense connections.

References
----------
.. [1] G. Cazenavette, C. Murdock, S. Lucey, "Architectural adversarial robustness: the case for deep pursuit",
   CVPR 2021.
"""

from torch import nn

from .pursuit import PursuitNetwork, random_pursuit
from .registry import register_network


def _network(n_classes, image_shape, skip, width, depth, pursuit, max_iter, settings):
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth!r}.")
    counts = [n for n in (width, 2 * width, 4 * width) for _ in range(2 * depth)]
    strides = [2 if j in (2 * depth, 4 * depth) else 1 for j in range(6 * depth)]
    settings = {"learn_steps": True, "batch_norm": True, **settings}
    layers = random_pursuit(
        image_shape,
        [(n, 3) for n in counts],
        pursuit=pursuit,
        padding="same",
        stride=strides,
        skip=skip,
        max_iter=max_iter,
        **settings,
    )
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, n_classes))
    return PursuitNetwork(layers, head)


@register_network
def deep_pursuit_chain(n_classes, image_shape, *, width=8, depth=1, pursuit="deep", max_iter=4, **settings):
    """Three blocks of `depth` units of two 3x3 layers of width, 2 width and 4 width atoms; the mean over 2x2 regions.

    `pursuit` is "thresholding" (feed-forward), "basis" (L-BP) or "deep"; `settings` are parameters of `LayeredPursuit`.
    Batch norm keeps the statistics of the feed-forward pass.
    """
    return _network(n_classes, image_shape, None, width, depth, pursuit, max_iter, settings)


@register_network
def deep_pursuit_residual(n_classes, image_shape, *, width=8, depth=1, pursuit="deep", max_iter=4, **settings):
    """The chain with a connection from the input of each unit to its second layer, without parameters.

    The codes of layer k enter the target of layer j: layers (j, k) are (2, 0), (4, 2), (6, 4) and so on, with the image
    as layer 0.
    """
    return _network(n_classes, image_shape, "residual", width, depth, pursuit, max_iter, settings)


@register_network
def deep_pursuit_dense(n_classes, image_shape, *, width=8, depth=1, pursuit="deep", max_iter=4, **settings):
    """The chain with learned connections between all layers that are not neighbours."""
    return _network(n_classes, image_shape, "dense", width, depth, pursuit, max_iter, settings)

"""Networks of the paper on sparsifying front ends [1]_.

References
----------
.. [1] S. Gopalakrishnan, Z. Marzi, U. Madhow, R. Pedarsani, "Robust adversarial learning via sparsifying front ends",
   arXiv 1810.10625, 2018.
"""

import math

from torch import nn

from .registry import register_network


@register_network
def front_end_2_layers(n_classes, image_shape, *, width=10):
    """One hidden layer of 10 units, for two digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), width), nn.ReLU(), nn.Linear(width, n_classes))


@register_network
def front_end_4_layers(n_classes, image_shape, *, dropout=0.5):
    """Convolutions of 20 and 40 maps, 5x5, and two hidden layers of 1000 units with dropout, for ten digits.

    The paper does not state the padding: 2 before the first convolution, so that 1000 features are left of MNIST.
    """
    height, width, channels = image_shape
    rows, columns = ((n // 2 - 4) // 2 for n in (height, width))
    if min(rows, columns) < 1:
        raise ValueError(f"front_end_4_layers needs images of at least 12 x 12 pixels, got image_shape={image_shape}.")
    return nn.Sequential(
        nn.Conv2d(channels, 20, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 40, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(40 * rows * columns, 1000),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(1000, 1000),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(1000, n_classes),
    )

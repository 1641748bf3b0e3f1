"""`MultilayerPursuit`: codes of all layers that satisfy the multi-layer model exactly."""

from typing import ClassVar

from skrobust.pursuits import multilayer_pursuit
from skrobust.signals.parameters import parametrized

from .base import IterativeLayeredCoder


@parametrized
class MultilayerPursuit(IterativeLayeredCoder):
    """Multi-layer pursuit by projection: inner codes follow from the deepest.

    The codes satisfy ``w_{j-1} = B_j w_j`` and come near the minimum over the deepest of ``1/2 ||x - B_1 ... B_l
    w_l||^2 + sum_j alpha_j ||w_j||_1``, by ML-FISTA or ML-ISTA ([1]_). Errors do not add up from layer to layer.

    Parameters
    ----------
    alpha : float or sequence of float, default=0.1
        Penalties, >= 0: one for all layers, or one per layer.
    max_iter : int, default=20
        Iterations.
    momentum : bool, default=True
        ML-FISTA; False: ML-ISTA.

    See Also
    --------
    LayeredBasisPursuit : Layer after layer, each with an error of its own.
    DeepPursuit : All layers together, each with an error of its own.
    skrobust.nn.LayeredPursuit : The same as a torch module that learns.

    References
    ----------
    .. [1] J. Sulam, A. Aberdam, A. Beck, M. Elad, "On multi-layer basis pursuit, efficient algorithms and
       convolutional neural networks", IEEE TPAMI 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import MultilayerPursuit
    >>> X = load_digits().data[:100] / 16
    >>> coder = MultilayerPursuit((8, 16), kernel_size=(3, 4), image_shape=(8, 8), n_epochs=2, random_state=0).fit(X)
    >>> coder.transform(X).shape, coder.code_shapes_
    ((100, 144), [(6, 6, 8), (3, 3, 16)])
    >>> coder.get_feature_names_out()[17]
    'layer2_atom1_y0_x1'
    """

    _pursuit = "projection"

    skip: ClassVar[None] = None
    tol: ClassVar[None] = None

    def _pursue(self, values, layers, alphas, penalty, steps):
        return multilayer_pursuit(
            values,
            layers,
            alphas,
            penalty=penalty,
            positive=self.positive,
            max_iter=self.max_iter,
            momentum=self.momentum,
            step=steps,
            n_jobs=self.n_jobs,
        )

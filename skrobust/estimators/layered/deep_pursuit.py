"""`DeepPursuit`: the codes of all layers in one sparse coding problem."""

from skrobust.pursuits import deep_pursuit
from skrobust.signals.parameters import parametrized

from .base import IterativeLayeredCoder


@parametrized
class DeepPursuit(IterativeLayeredCoder):
    """Deep pursuit: all layers solve one sparse coding problem together.

    The codes minimise ``1/2 sum_j ||w_{j-1} - B_j w_j||^2 + sum_j alpha_j ||w_j||_1`` with w_0 the image ([1]_), by
    block coordinate descent: the update of each layer depends on the layer above it. Without sweeps it is
    `LayeredThresholding`.

    Parameters
    ----------
    max_iter : int, default=20
        Sweeps over the layers; with `tol` their maximum. The default may end 10 % above the minimum: set `tol`, or
        raise it to 50, for codes within 1 %.
    tol : float or None, default=None
        Relative duality gap of the whole problem. None: exactly `max_iter` sweeps; torch unrolls the same.
    momentum : bool, default=True
        Extrapolate as long as the objective does not rise.

    See Also
    --------
    LayeredBasisPursuit : Layer after layer, without feedback.
    MultilayerPursuit : Inner codes follow from the deepest exactly.
    skrobust.nn.LayeredPursuit : The same as a torch module that learns.

    References
    ----------
    .. [1] G. Cazenavette, C. Murdock, S. Lucey, "Architectural adversarial robustness: the case for deep pursuit",
       CVPR 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import DeepPursuit
    >>> X = load_digits().data[:100] / 16
    >>> coder = DeepPursuit((8, 16), kernel_size=(3, 4), image_shape=(8, 8), n_epochs=2, random_state=0).fit(X)
    >>> coder.transform(X).shape, coder.code_shapes_
    ((100, 144), [(6, 6, 8), (3, 3, 16)])
    >>> coder.get_feature_names_out()[17]
    'layer2_atom1_y0_x1'
    """

    _pursuit = "deep"

    def _pursue(self, values, layers, alphas, penalty, steps):
        return deep_pursuit(
            values,
            layers,
            alphas,
            penalty=penalty,
            positive=self.positive,
            max_iter=self.max_iter,
            tol=self.tol,
            extrapolate=self.momentum,
            step=steps,
            n_jobs=self.n_jobs,
        )

"""`LayeredBasisPursuit`: a cascade of basis pursuits."""

from skrobust.pursuits import layered_basis_pursuit
from skrobust.signals.parameters import parametrized

from .base import IterativeLayeredCoder


@parametrized
class LayeredBasisPursuit(IterativeLayeredCoder):
    """Layered basis pursuit: each layer solves a sparse coding problem.

    Layer j minimises ``1/2 ||w_{j-1} - B_j w||^2 + alpha_j ||w||_1`` with w_0 the image ([1]_, L-BP), by a fixed number
    of steps or to a duality gap. Without steps it is `LayeredThresholding`.

    Parameters
    ----------
    max_iter : int, default=20
        Steps per layer; with `tol` their maximum.
    tol : float or None, default=None
        Relative duality gap of each layer. None: exactly `max_iter` steps; torch unrolls the same.

    See Also
    --------
    LayeredThresholding : Without iterations.
    DeepPursuit : All layers solved together.
    skrobust.nn.LayeredPursuit : The same as a torch module that learns.

    References
    ----------
    .. [1] Y. Romano, A. Aberdam, J. Sulam, M. Elad, "Adversarial noise attacks of deep learning architectures:
       stability analysis via sparse-modeled signals", J. Math. Imaging Vis. 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import LayeredBasisPursuit
    >>> X = load_digits().data[:100] / 16
    >>> coder = LayeredBasisPursuit((8, 16), kernel_size=(3, 4), image_shape=(8, 8), n_epochs=2, random_state=0).fit(X)
    >>> coder.transform(X).shape, coder.code_shapes_
    ((100, 144), [(6, 6, 8), (3, 3, 16)])
    >>> coder.get_feature_names_out()[17]
    'layer2_atom1_y0_x1'
    """

    _pursuit = "basis"

    def _pursue(self, values, layers, alphas, penalty, steps):
        return layered_basis_pursuit(
            values,
            layers,
            alphas,
            penalty=penalty,
            positive=self.positive,
            max_iter=self.max_iter,
            tol=self.tol,
            momentum=self.momentum,
            step=steps,
            n_jobs=self.n_jobs,
        )

"""`LayeredThresholding`: one thresholded convolution a layer, a convolutional network's forward pass."""

from numpy.typing import ArrayLike

from skrobust.pursuits import layered_thresholding
from skrobust.signals.parameters import NON_NEGATIVE, parameter, parametrized

from .base import LayeredCoder


@parametrized
class LayeredThresholding(LayeredCoder):
    """Layered thresholding: each layer is one convolution and a shrinkage.

    Layer j finds ``w_j = S(B_j^T w_{j-1})`` with w_0 the image: the forward pass of a convolutional network with
    rectified linear units and biases ``-threshold`` ([1]_, L-THR).

    Parameters
    ----------
    threshold : float or sequence of float, default=0.1
        Thresholds, >= 0: one for all layers, or one per layer. Also the penalty of the codes in unsupervised learning.
    skip : {None, "residual", "dense"}, default=None
        Skip connections, which add earlier codes to the input of a layer; see `skrobust.operators.LayeredDictionary`.

    Attributes
    ----------
    thresholds_ : list
        Thresholds of the layers: numbers, or after supervised learning one per atom.

    See Also
    --------
    LayeredBasisPursuit : Each layer solved rather than thresholded.
    DeepPursuit : All layers solved together.
    skrobust.nn.LayeredPursuit : The same as a torch module that learns.

    References
    ----------
    .. [1] Y. Romano, A. Aberdam, J. Sulam, M. Elad, "Adversarial noise attacks of deep learning architectures:
       stability analysis via sparse-modeled signals", J. Math. Imaging Vis. 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import LayeredThresholding
    >>> X = load_digits().data[:100] / 16
    >>> coder = LayeredThresholding((8, 16), kernel_size=(3, 4), image_shape=(8, 8), n_epochs=2, random_state=0).fit(X)
    >>> coder.transform(X).shape, coder.code_shapes_
    ((100, 144), [(6, 6, 8), (3, 3, 16)])
    >>> coder.get_feature_names_out()[17]
    'layer2_atom1_y0_x1'
    """

    _pursuit = "thresholding"
    _alpha_name = "threshold"

    threshold: ArrayLike = parameter(0.1, NON_NEGATIVE, "array-like")
    skip: str | None = parameter(None, {"residual", "dense"})

    def _pursue(self, values, layers, alphas, penalty, steps):
        options = {"penalty": penalty, "positive": self.positive, "n_jobs": self.n_jobs}
        return layered_thresholding(values, layers, alphas, **options)

"""`LayeredThresholding`: one thresholded convolution a layer, a convolutional network's forward pass."""

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from skrobust.pursuits import layered_thresholding

from .base import LayeredCoder
from .parameters import document_parameters


@document_parameters
class LayeredThresholding(LayeredCoder):
    """Layered thresholding: each layer is one convolution and a shrinkage.

    Layer j finds ``w_j = S(B_j^T w_{j-1})`` with w_0 the image: the forward pass of a convolutional network with
    rectified linear units and biases ``-threshold`` ([1]_, L-THR).

    Parameters
    ----------
    threshold : float or sequence of float, default=0.1
        Thresholds, >= 0: one for all layers, or one per layer. Also the penalty of the codes in unsupervised learning.

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
    _strength = "threshold"

    _parameter_constraints = {
        **LayeredCoder._parameter_constraints,
        "threshold": [Interval(Real, 0, None, closed="left"), "array-like"],
        "skip": [None, StrOptions({"residual", "dense"})],
    }

    def __init__(
        self,
        n_components=(16, 32),
        *,
        kernel_size=5,
        stride=1,
        padding="valid",
        threshold=0.1,
        penalty="l1",
        skip=None,
        positive=True,
        learning="unsupervised",
        dictionaries=None,
        output="code",
        clip=None,
        per_layer=False,
        n_epochs=5,
        batch_size=None,
        training_params=None,
        image_shape=None,
        n_jobs=None,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self._keep_parameters(locals())

    def _pursue(self, values, layers, strengths, penalty, steps):
        options = {"penalty": penalty, "positive": self.positive, "n_jobs": self.n_jobs}
        return layered_thresholding(values, layers, strengths, **options)

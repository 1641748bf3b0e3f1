"""`LayeredThresholding`: one thresholded convolution a layer, a convolutional network's forward pass."""

from numbers import Real

from sklearn.utils._param_validation import Interval, StrOptions

from skrobust.bridge import register_module
from skrobust.pursuits import layered_thresholding

from ._layered import LayeredCoder


class LayeredThresholding(LayeredCoder):
    """Layered thresholding: each layer is one convolution and a shrinkage.

    Layer j finds ``w_j = S(B_j^T w_{j-1})`` with w_0 the image: the forward pass of a convolutional network with
    rectified linear units and biases ``-threshold`` ([1]_, L-THR).

    Parameters
    ----------
    n_components : int or sequence of int, default=(16, 32)
        Atoms, a number a layer; their count is that of the layers.
    kernel_size : int, None or sequence, default=5
        Of all layers, or one a layer: an int, a tuple of height and width, or None for atoms that cover the whole
        grid, a dense layer. Reduced where the layer's signal is smaller.
    stride : int or sequence of int, default=1
        Positions between atoms; one for all layers, or one a layer.
    padding : {"valid", "same", "full", "circular"}, default="valid"
        Where atoms may lie; see `skrobust.pursuits.ConvolutionalOperator`.
    threshold : float or sequence of float, default=0.1
        One for all layers, or one a layer, >= 0. Unsupervised learning takes it as the penalty of its codes, too.
    skip : {None, "residual", "dense"}, default=None
        Connections that add earlier codes to what a layer reads; see `skrobust.pursuits.LayeredDictionary`.
    positive : bool, default=True
        Codes >= 0.
    learning : {"unsupervised", "supervised"}, default="unsupervised"
        "unsupervised": layer by layer, each from the codes below it, by convolutional dictionary learning.
        "supervised": end to end, by back-propagation through the pursuit under a linear head; `fit` needs y then, and
        penalties are learned for each atom.
    dictionaries : list of array-like or None, default=None
        Atoms of each layer, ``(n_components, *kernel_size, n_channels)``, to use as they are; nothing is learned then.
    output : {"code", "reconstruction"}, default="code"
        "reconstruction": `transform` returns images, as a front end does.
    clip : tuple of (float, float) or None, default=None
        Lowest and highest value of reconstructions. Codes and `inverse_transform` are not clipped.
    per_layer : bool, default=False
        Codes of all layers, side by side, rather than of the last.
    n_epochs : int, default=5
        Passes over X in learning, for each layer or for all together.
    batch_size : int or None, default=None
        Images to an update of the atoms. None: all for "unsupervised", 64 for "supervised".
    training_params : dict or None, default=None
        Of supervised learning: further arguments of `skrobust.nn.train_layered` (``learning_rate``, ``parseval``,
        ``incoherence``, ``checkpoint``, ...) and of `skrobust.nn.LayeredPursuit` (``unit_norm``, ``batch_norm``,
        ``learn_steps``).
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images that come as rows of a 2-D X. None: rows are
        1-D signals.
    n_jobs : int or None, default=None
        Threads. None: what the environment allows. The result does not depend on it.
    device : str, torch.device or None, default=None
        Where `transform` runs on torch, and supervised learning. None: compiled kernels on the CPU.
    random_state : int, RandomState instance or None, default=None
        For the first atoms and the order of batches.
    verbose : int, default=0
        1: a line an epoch.

    Attributes
    ----------
    components_ : list of ndarray, ``(n_components, *kernel_size, n_channels)`` each
        Atoms of each layer.
    thresholds_ : list
        Thresholds of the layers: numbers, or after supervised learning one for each atom.
    layers_ : skrobust.pursuits.LayeredDictionary
        The atoms of all layers, with their connections, as one dictionary.
    code_shapes_ : list of tuple
        Codes of each layer as maps: ``(*positions, n_components)``.
    objectives_ : list of list of float
        Of unsupervised learning: mean objective of each layer and epoch.
    history_ : list of dict
        Of supervised learning: what was seen in each epoch.
    head_coef_, head_intercept_, head_classes_ : ndarray
        Of supervised learning: the linear head on the codes of the last layer, and the labels it tells apart.
    n_iter_ : int
        Epochs of learning.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when X has feature names.

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
    _penalty = "threshold"

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
        self.n_components = n_components
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.threshold = threshold
        self.skip = skip
        self.positive = positive
        self.learning = learning
        self.dictionaries = dictionaries
        self.output = output
        self.clip = clip
        self.per_layer = per_layer
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.training_params = training_params
        self.image_shape = image_shape
        self.n_jobs = n_jobs
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _pursue(self, values, layers, penalties, steps):
        return layered_thresholding(values, layers, penalties, positive=self.positive, n_jobs=self.n_jobs)


@register_module(LayeredThresholding)
def _as_module(estimator, conversion):
    from ._layered_torch import LayeredCoderModule

    return LayeredCoderModule(estimator, conversion.gradient)

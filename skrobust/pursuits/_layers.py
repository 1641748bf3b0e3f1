"""`LayeredDictionary`: dictionaries of dictionaries, with skip connections, as one structured linear map."""

import copy
import math

import numpy as np

from skrobust.signals import is_tensor

from ._conv_operator import ConvolutionalOperator
from ._largest_eigenvalue import of_products
from ._layered_kernels import half_squares_and_penalties
from ._skips import SkipConnection

LANCZOS_STEPS, LANCZOS_TOL = 300, 1e-3
"""Most Lanczos steps for the norm of the structured dictionary, and the relative excess at which they end."""


class LayeredDictionary:
    """A chain of convolutional dictionaries: the codes of a layer are the signals of the next.

    With w_0 = x and layers j = 1, ..., l, each layer's synthesis ``B_j w_j`` is to match its target ::

        t_j = w_{j-1} + sum_{k < j-1} C_jk w_k ,

    where the C_jk are skip connections. All layers together are one sparse coding problem with the structured
    dictionary of [1]_ (eq. 16 there, whose B_jk^T is C_jk here): its block row j is ``B_j`` on the diagonal and
    ``-C_jk`` (``-I`` for k = j - 1) left of it, and its signal is (x, C_20 x, ..., C_l0 x): zero beyond x where no
    connection begins at the data.

    Parameters
    ----------
    operators : sequence of ConvolutionalOperator
        The first one's signals are the data; each other one's signals have the code shape of the one before.
    skip : {None, "residual", "dense"} or dict, default=None
        "residual": ``C_jk = I`` from the input of each unit of two layers to its second: (2, 0), (4, 2), (6, 4), ...,
        as in the appendix of [1]_; the input of the first unit is the data, w_0 = x. "dense": from the codes of all
        earlier layers to each. Where shapes differ, the grid is subsampled and channels are cut or filled with zeros.
        A dict gives the matrices of single connections, ``{(j, k): (n_channels_to, n_channels_from)}`` with layers
        counted from 1 and the data as 0, or None for identity.

    Attributes
    ----------
    code_shapes : list of tuple
        ``(*positions, n_components)`` of each layer.
    skips : dict
        `SkipConnection` of (j, k) between codes, layers counted from 0.
    inputs : dict
        `SkipConnection` of j, the layers that read the data besides the codes below them.

    Raises
    ------
    ValueError
        If shapes or connections do not fit.

    References
    ----------
    .. [1] G. Cazenavette, C. Murdock, S. Lucey, "Architectural adversarial robustness: the case for deep pursuit",
       CVPR 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator, LayeredDictionary
    >>> first = ConvolutionalOperator(np.ones((2, 3, 1)), (6, 1), padding="valid")
    >>> second = ConvolutionalOperator(np.ones((4, 2, 2)), first.code_shape, padding="valid", stride=2)
    >>> layers = LayeredDictionary([first, second])
    >>> layers.code_shapes, layers.to_dense().shape
    ([(4, 2), (2, 4)], (14, 16))
    """

    def __init__(self, operators, skip=None):
        self.operators = list(operators)
        if not self.operators:
            raise ValueError("operators is empty: a layered dictionary needs at least one layer.")
        for j in range(1, len(self.operators)):
            above, below = self.operators[j].signal_shape, self.operators[j - 1].code_shape
            if tuple(above) != tuple(below):
                raise ValueError(
                    f"Layer {j + 1} reads signals of shape {tuple(above)}, but layer {j} has codes of shape "
                    f"{tuple(below)}."
                )
        connections = self._connections(skip)
        self.skips = {pair: connection for pair, connection in connections.items() if pair[1] >= 0}
        self.inputs = {to: connection for (to, source), connection in connections.items() if source < 0}
        self._known = {}

    @property
    def n_layers(self):
        """Layers."""
        return len(self.operators)

    @property
    def signal_shape(self):
        """Shape of one signal, ``(*grid, n_channels)``."""
        return tuple(self.operators[0].signal_shape)

    @property
    def code_shapes(self):
        """``(*positions, n_components)`` of each layer."""
        return [operator.code_shape for operator in self.operators]

    @property
    def is_chain(self):
        """Whether no connection skips a layer."""
        return not self.skips and not self.inputs

    def _connections(self, skip):
        shapes = [self.signal_shape, *self.code_shapes]
        if skip is None:
            pairs = {}
        elif skip == "residual":
            pairs = {(j, j - 2): None for j in range(2, self.n_layers + 1, 2)}
        elif skip == "dense":
            pairs = {(j, k): None for j in range(3, self.n_layers + 1) for k in range(1, j - 1)}
        elif isinstance(skip, dict):
            pairs = skip
            for j, k in pairs:
                if not 0 <= k < j - 1 < self.n_layers:
                    raise ValueError(
                        f"skip has the connection {(j, k)}, to layer {j} from layer {k}; it needs 0 <= k < j - 1 and "
                        f"j <= {self.n_layers}, where 0 is the data."
                    )
        else:
            raise ValueError(f"skip must be None, 'residual', 'dense' or a dict of connections, got {skip!r}.")
        # A connection ends at the target of layer j, which has the shape of the codes of layer j - 1.
        return {(j - 1, k - 1): SkipConnection(shapes[k], shapes[j - 1], matrix) for (j, k), matrix in pairs.items()}

    def target(self, j, X, codes):
        """What layer j (counted from 0) is to match: the codes below it, and what skip connections bring."""
        if j == 0:
            return X
        total = codes[j - 1]
        if j in self.inputs:
            total = total + self.inputs[j].apply(X)
        for (to, source), skip in self.skips.items():
            if to == j:
                total = total + skip.apply(codes[source])
        return total

    def along_data(self, X, residuals):
        """Inner product of the structured problem's signal, X and what connections bring of it, with residuals."""
        rest = sum(sums(residuals[j] * connection.apply(X)) for j, connection in self.inputs.items())
        return sums(residuals[0] * X) + rest

    def feedback(self, j, residuals):
        """Derivative of half the squared residuals of the later layers by the codes of layer j.

        Parameters
        ----------
        residuals : sequence
            ``t_m - B_m w_m`` of each layer; those of layers up to j are not used.
        """
        total = residuals[j + 1] if j + 1 < self.n_layers else None
        for (to, source), skip in self.skips.items():
            if source == j:
                total = total + skip.adjoint(residuals[to])
        return total

    def block_lipschitz(self, j):
        """Squared norm of block column j of the structured dictionary, or a bound on it from above.

        ``||B_j||^2 + 1 + sum_m ||C_mj||^2``, without the 1 for the last layer.
        """
        key = "block", j
        if key not in self._known:
            known = self.operators[j].lipschitz + (j + 1 < self.n_layers)
            self._known[key] = known + sum(s.norm**2 for (_, source), s in self.skips.items() if source == j)
        return self._known[key]

    def residuals(self, X, codes, *, n_jobs=None):
        """``t_j - B_j w_j`` of each layer."""
        return [
            self.target(j, X, codes) - synthesize(operator, codes[j], n_jobs)
            for j, operator in enumerate(self.operators)
        ]

    def correlate(self, residuals, *, n_jobs=None):
        """The adjoint of the structured dictionary: residuals of all layers to codes of all layers."""
        correlations = []
        for j, operator in enumerate(self.operators):
            inner = analyze(operator, residuals[j], n_jobs)
            back = self.feedback(j, residuals)
            correlations.append(inner if back is None else inner - back)
        return correlations

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of the codes of the last layer, through all dictionaries below it.

        With skip connections the codes of the layers in between are needed for what the connections brought.

        Parameters
        ----------
        codes : ndarray or Tensor of shape ``(n_samples, *code_shapes[-1])``, or list of one such a layer

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        """
        if not isinstance(codes, (list, tuple)):
            if not self.is_chain:
                raise ValueError("With skip connections, synthesize needs the codes of all layers, a list.")
            codes = [None] * (self.n_layers - 1) + [codes]
        below = codes[-1]
        for j in reversed(range(self.n_layers)):
            below = synthesize(self.operators[j], below, n_jobs)
            if j in self.inputs:
                below = below - self.inputs[j].apply(synthesize(self.operators[0], codes[0], n_jobs))
            for (to, source), skip in self.skips.items():
                if to == j:
                    below = below - skip.apply(codes[source])
        return below

    def objective(self, residuals, codes, penalties, *, n_jobs=None):
        """``1/2 sum_j ||t_j - B_j w_j||^2 + sum_j <penalties_j, |w_j|>`` of each sample, in double precision."""
        return sum(
            sums(left * left) / 2 + sums(abs(w) * penalty)
            if is_tensor(w)
            else half_squares_and_penalties(left, w, penalty, n_jobs)
            for left, w, penalty in zip(residuals, codes, penalties, strict=True)
        )

    @property
    def lipschitz(self):
        """Squared norm of the structured dictionary, or up to about one in a thousand more, by Lanczos steps."""
        if "whole" not in self._known:
            fixed = LayeredDictionary([_on_arrays(operator) for operator in self.operators])
            fixed.skips = {pair: skip.on_arrays() for pair, skip in self.skips.items()}
            X = np.zeros((1, *self.signal_shape))
            sizes = [math.prod(shape) for shape in self.code_shapes]

            def apply(flat):
                parts = np.split(flat, np.cumsum(sizes)[:-1])
                codes = [part.reshape(1, *shape) for part, shape in zip(parts, self.code_shapes, strict=True)]
                return -np.concatenate([w.ravel() for w in fixed.correlate(fixed.residuals(X, codes))])

            self._known["whole"] = of_products(apply, (sum(sizes),), n_steps=LANCZOS_STEPS, tol=LANCZOS_TOL)
        return self._known["whole"]

    def to_dense(self):
        """The structured dictionary as a matrix: codes of all layers, side by side, to all layers' signals.

        Returns
        -------
        ndarray of shape (sum of signal sizes of the layers, sum of code sizes)
        """
        sizes = [math.prod(shape) for shape in self.code_shapes]
        identity = np.eye(sum(sizes))
        parts = np.split(identity, np.cumsum(sizes)[:-1], axis=1)
        codes = [part.reshape(-1, *shape) for part, shape in zip(parts, self.code_shapes, strict=True)]
        residuals = self.residuals(np.zeros((len(identity), *self.signal_shape)), codes)
        return -np.concatenate([r.reshape(len(r), -1) for r in residuals], axis=1).T

    def on_tensors(self, like):
        """The dictionary on tensors of the dtype and on the device of `like`; it knows residuals and correlations."""
        layers = copy.copy(self)
        layers.operators = [operator.on_tensors(like) for operator in self.operators]
        return layers

    def __getstate__(self):
        return {**self.__dict__, "_known": {}}


def synthesize(operator, codes, n_jobs):
    """Synthesis of arrays on `n_jobs` threads, or of tensors."""
    return operator.synthesize(codes) if is_tensor(codes) else operator.synthesize(codes, n_jobs=n_jobs)


def analyze(operator, signals, n_jobs):
    """Analysis of arrays on `n_jobs` threads, or of tensors."""
    return operator.analyze(signals) if is_tensor(signals) else operator.analyze(signals, n_jobs=n_jobs)


def sums(values):
    """Sum over each sample in double precision: an array, or a tensor."""
    if is_tensor(values):
        return values.flatten(1).double().sum(1)
    return values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)


def _on_arrays(operator):
    if not is_tensor(operator.components):
        return operator
    return ConvolutionalOperator(
        operator.components.detach().cpu().double().numpy(),
        operator.signal_shape,
        padding=operator.padding,
        stride=operator.stride,
    )

"""`LayeredDictionary`: a chain of dictionaries with skip connections as one structured linear map."""

import math

import numpy as np

from skrobust.operators.base import Operator
from skrobust.signals import is_tensor
from skrobust.signals.arrays import sample_sums, zeros

from .skips import SkipConnection


class LayeredDictionary(Operator):
    """A chain of convolutional dictionaries: the codes of a layer are the signals of the next.

    With w_0 = x and layers j = 1, ..., l, each layer's synthesis ``B_j w_j`` approximates its target ::

        t_j = w_{j-1} + sum_{k < j-1} C_jk w_k ,

    where the C_jk are skip connections. All layers together are one sparse coding problem with the structured
    dictionary of [1]_ (eq. 16 there, whose B_jk^T is C_jk here): its block row j is ``B_j`` on the diagonal and
    ``-C_jk`` (``-I`` for k = j - 1) left of it, and its signal is (x, C_20 x, ..., C_l0 x), which is zero after
    x if no connection begins at the data. As an operator it is this dictionary: it maps the codes of all layers in
    one row (`stack` and `split`) to the signals of all layers in one row (`stacked_signals` for given data).

    Parameters
    ----------
    operators : sequence of ConvolutionalOperator
        The signals of the first are the data; those of the others have the code shape of the previous one.
    skip : {None, "residual", "dense"} or dict, default=None
        "residual": ``C_jk = I`` from the input of each two-layer unit to its second layer: (2, 0), (4, 2), (6, 4),
        ..., as in the appendix of [1]_; the input of the first unit is the data, w_0 = x. "dense": from the codes of
        all earlier layers to each layer. If shapes differ, the grid is subsampled and channels are cut or padded with
        zeros. A dict gives the matrices of single connections, ``{(j, k): matrix}`` of shape
        (n_channels_to, n_channels_from) or None for the identity, with layers counted from 1 and the data as 0.

    Attributes
    ----------
    data_shape : tuple of int
        ``(*grid, n_channels)`` of the data.
    code_shapes : list of tuple
        ``(*positions, n_components)`` of each layer.
    components : list of ndarray or Tensor
        Atoms of each layer.
    signal_shape, code_shape : tuple of int
        ``(n_values,)`` of the signals, and of the codes, of all layers together.
    lipschitz : float
        Upper bound on the squared norm of the structured dictionary: that of the matrix of the norms of its blocks.
    skips : dict
        `SkipConnection` of (j, k) between codes, layers counted from 0.
    inputs : dict
        `SkipConnection` of j, for layers that also read the data.

    Raises
    ------
    ValueError
        If shapes or connections are incompatible.

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

    @property
    def n_layers(self):
        """Number of layers."""
        return len(self.operators)

    @property
    def components(self):
        """Atoms of each layer."""
        return [operator.components for operator in self.operators]

    @property
    def data_shape(self):
        """Shape of the data, ``(*grid, n_channels)``."""
        return tuple(self.operators[0].signal_shape)

    @property
    def signal_shape(self):
        """``(n_values,)``, of the signals of all layers together."""
        return (sum(math.prod(operator.signal_shape) for operator in self.operators),)

    @property
    def code_shape(self):
        """``(n_values,)``, of the codes of all layers together."""
        return (sum(math.prod(shape) for shape in self.code_shapes),)

    @property
    def code_shapes(self):
        """``(*positions, n_components)`` of each layer."""
        return [operator.code_shape for operator in self.operators]

    @property
    def is_chain(self):
        """Whether no connection skips a layer."""
        return not self.skips and not self.inputs

    def _connections(self, skip):
        shapes = [self.data_shape, *self.code_shapes]
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
        # The target of layer j has the shape of the codes of layer j - 1.
        return {(j - 1, k - 1): SkipConnection(shapes[k], shapes[j - 1], matrix) for (j, k), matrix in pairs.items()}

    def target(self, j, X, codes):
        """Target of layer j (counted from 0): the codes below it plus those of skip connections."""
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
        """Inner product of the signal of the structured problem (X and its skip connections) with residuals."""
        rest = sum(sample_sums(residuals[j] * connection.apply(X)) for j, connection in self.inputs.items())
        return sample_sums(residuals[0] * X) + rest

    def feedback(self, j, residuals):
        """Derivative of half the squared residuals of the later layers with respect to the codes of layer j.

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
        """Squared norm of block column j of the structured dictionary, or an upper bound of it.

        ``||B_j||^2 + 1 + sum_m ||C_mj||^2``, without the 1 for the last layer.
        """
        squared_norm = self.operators[j].lipschitz + (j + 1 < self.n_layers)
        return squared_norm + sum(skip.norm**2 for (_, source), skip in self.skips.items() if source == j)

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
            own = analyze(operator, residuals[j], n_jobs)
            feedback = self.feedback(j, residuals)
            correlations.append(own if feedback is None else own - feedback)
        return correlations

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of all layers, in one row, of the codes of all layers in one row."""
        self._check_shape(codes, self.code_shape, "codes")
        parts = self.split(codes)
        no_data = zeros(codes, (codes.shape[0], *self.data_shape))
        return -stack(self.residuals(no_data, parts, n_jobs=n_jobs))

    def analyze(self, X, *, n_jobs=None):
        """The adjoint of `synthesize`."""
        self._check_shape(X, self.signal_shape, "X")
        return stack(self.correlate(split_rows(X, [op.signal_shape for op in self.operators]), n_jobs=n_jobs))

    def stacked_signals(self, X):
        """The signal of the structured problem, in one row: the data, and its images under skip connections."""
        parts = [X, *(zeros(X, (X.shape[0], *operator.signal_shape)) for operator in self.operators[1:])]
        for j, connection in self.inputs.items():
            parts[j] = connection.apply(X)
        return stack(parts)

    def split(self, codes):
        """Codes of each layer, ``(n_samples, *code_shape)``, from rows of the codes of all layers; reverses `stack`."""
        return split_rows(codes, self.code_shapes)

    def reconstruct(self, codes, *, n_jobs=None):
        """Data of the codes of the last layer, by the dictionaries of all layers.

        With skip connections, needs the codes of all layers.

        Parameters
        ----------
        codes : ndarray or Tensor of shape ``(n_samples, *code_shapes[-1])``, or list with one per layer

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *data_shape)``
        """
        if not isinstance(codes, (list, tuple)):
            if not self.is_chain:
                raise ValueError("With skip connections, reconstruct needs the codes of all layers, a list.")
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

    @property
    def lipschitz(self):
        """Squared norm of the matrix of the norms of all blocks: at least that of the structured dictionary."""
        norms = np.diag([operator.lipschitz**0.5 for operator in self.operators]) + np.eye(self.n_layers, k=-1)
        for pair, skip in self.skips.items():
            norms[pair] = skip.norm
        return float(np.linalg.norm(norms, 2)) ** 2 * (1 + 1e-12)

    def with_components(self, components):
        """The same layers and connections with other atoms.

        Parameters
        ----------
        components : sequence of array-like or Tensor
            One per layer.
        """
        if len(components) != self.n_layers:
            raise ValueError(f"components has {len(components)} entries for {self.n_layers} layers.")
        pairs = zip(self.operators, components, strict=True)
        other = LayeredDictionary([operator.with_components(atoms) for operator, atoms in pairs])
        other.skips, other.inputs = self.skips, self.inputs
        return other


def stack(parts):
    """Arrays or tensors of all layers in one row for each sample."""
    if not is_tensor(parts[0]):
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    import torch

    return torch.cat([part.flatten(1) for part in parts], dim=1)


def synthesize(operator, codes, n_jobs):
    """Synthesis of arrays on `n_jobs` threads, or of tensors."""
    return operator.synthesize(codes) if is_tensor(codes) else operator.synthesize(codes, n_jobs=n_jobs)


def analyze(operator, signals, n_jobs):
    """Analysis of arrays on `n_jobs` threads, or of tensors."""
    return operator.analyze(signals) if is_tensor(signals) else operator.analyze(signals, n_jobs=n_jobs)


def split_rows(rows, shapes):
    """Arrays or tensors of these shapes; reverses `stack`."""
    sizes = [math.prod(shape) for shape in shapes]
    parts = rows.split(sizes, dim=1) if is_tensor(rows) else np.split(rows, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]

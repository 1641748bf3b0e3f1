"""`ConvolutionalOperator`: signals from sparse maps by convolution with a few small atoms, and the adjoint."""

import math

import numpy as np

from skrobust.signals import is_tensor, kernel_threads
from skrobust.signals._tensors import kept_tensor

from ._conv_geometry import ConvolutionGeometry
from ._threads import on_threads

AT_A_TIME = 16
"""Atoms that direct convolution takes together; as many products are made where there are fewer."""

TRANSFORM_COST, PRODUCT_COST = 15, 32
"""Products of direct convolution in the time of one value of a transform, but for its logarithm, and of one product of
transforms. Of 108 operators, benchmarks/bench_large_atoms.py has none whose evaluation by this rule takes more than 1.5
times as long as the other."""


class ConvolutionalOperator:
    """A convolutional dictionary: every atom at every position.

    The synthesis is a convolution; the atom at position p begins at pixel ``p * stride - offset``::

        x[i] = sum_k sum_p D_k[i - (p * stride - offset)] z_k[p]

    The analysis is its adjoint, the correlation of the signal with each shifted atom. So no atom is ever flipped: an
    atom appears in the signal as it is stored.

    Parameters
    ----------
    components : array-like or Tensor of shape ``(n_components, *kernel_size, n_channels)``
        Atoms, of any norm. A tensor may require a gradient.
    signal_shape : tuple of int
        ``(length, n_channels)`` or ``(height, width, n_channels)``.
    padding : {"same", "full", "valid", "circular"}, default="same"
        "same": a position for each pixel, offset ``(k - 1) // 2``, so that atoms are centred (for even sizes as in
        torch); what lies beyond the edge is cut off. "full": every overlap with the signal, offset ``k - 1``.
        "valid": only atoms that lie inside. "circular": offset 0, atoms wrap around.
    stride : int or tuple of int, default=1
        Pixels between positions.
    evaluation : {"auto", "spatial", "fft"}, default="auto"
        Direct convolution, or fast Fourier transforms; "auto" compares their costs, and takes transforms for large
        atoms.

    Attributes
    ----------
    code_shape : tuple of int
        ``(*positions, n_components)``.
    lipschitz : float
        Squared norm of the synthesis, or a bound on it from above. Exact for "circular" where the stride divides the
        sizes: the largest eigenvalue over frequencies of D(w) D(w)^H, with the aliases of a stride stacked. Where
        signals or codes have up to 1200 values, or every atom covers the whole signal, the eigenvalue or up to one in a
        thousand more. Else that of a padded circle, which bounds it from above and is near for atoms that are small
        beside the grid; for larger ones improved by up to 40 Lanczos steps, whose bound holds but for a probability of
        1e-12.

    Raises
    ------
    ValueError
        If atoms, signals, padding and stride do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import ConvolutionalOperator
    >>> operator = ConvolutionalOperator(np.ones((1, 3, 1)), (5, 1))
    >>> codes = np.zeros((1, 5, 1))
    >>> codes[0, 2] = 2.0
    >>> operator.synthesize(codes)[0, :, 0]
    array([0., 2., 2., 2., 0.])
    >>> operator.analyze(operator.synthesize(codes))[0, :, 0]
    array([2., 4., 6., 4., 2.])
    """

    def __init__(self, components, signal_shape, *, padding="same", stride=1, evaluation="auto"):
        if not is_tensor(components):
            components = np.asarray(components)
            if np.iscomplexobj(components) or not np.isfinite(components).all():
                raise ValueError("components must be real and finite, got complex numbers, NaN or infinity.")
            if components.dtype != np.float32:
                components = components.astype(np.float64)
        signal_shape = tuple(int(n) for n in np.ravel(signal_shape))
        if len(signal_shape) not in (2, 3) or min(signal_shape) < 1:
            raise ValueError(
                f"signal_shape must be (length, n_channels) or (height, width, n_channels), got {signal_shape}."
            )
        if components.ndim != len(signal_shape) + 1 or components.shape[-1] != signal_shape[-1]:
            raise ValueError(
                f"components of shape {tuple(components.shape)} do not fit signals of shape {signal_shape}: they need "
                f"shape (n_components, *kernel_size, {signal_shape[-1]}) with {len(signal_shape) - 1} kernel sizes."
            )
        if math.prod(components.shape) == 0:
            raise ValueError(f"components of shape {tuple(components.shape)} are empty.")
        if evaluation not in ("auto", "spatial", "fft"):
            raise ValueError(f"evaluation must be 'auto', 'spatial' or 'fft', got {evaluation!r}.")
        self.components = components
        self.signal_shape = signal_shape
        self.padding = padding
        self.stride = stride
        self.evaluation = evaluation
        self.geometry = ConvolutionGeometry.of(signal_shape[:-1], components.shape[1:-1], padding, stride)
        self._tables = {}

    @property
    def code_shape(self):
        """``(*positions, n_components)``."""
        return (*self.geometry.code_grid, self.components.shape[0])

    @property
    def lipschitz(self):
        """Squared norm of the synthesis, or a bound on it from above."""
        if "lipschitz" not in self._tables:
            from ._conv_norm import squared_norm

            self._tables["lipschitz"] = squared_norm(self._as_array(np.float64), self.geometry)
        return self._tables["lipschitz"]

    @lipschitz.setter
    def lipschitz(self, value):
        self._tables["lipschitz"] = value

    @property
    def step(self):
        """``1 / lipschitz``: the longest step of proximal gradient descent that is safe; 1 where all atoms are zero."""
        return safe_step(self.lipschitz)

    @property
    def uses_fft(self):
        """Whether arrays are transformed rather than convolved directly."""
        if self.evaluation == "auto":
            from ._conv_spectrum import padded_sizes

            n_components, n_channels = self.components.shape[0], self.components.shape[-1]
            together = -(-n_components // AT_A_TIME) * AT_A_TIME
            direct = self.geometry.n_positions * math.prod(self.geometry.kernel_size) * n_channels * together
            size = math.prod(padded_sizes(self.geometry))
            transforms = TRANSFORM_COST * (n_components + n_channels) * math.log2(size)
            return direct >= size * (transforms + PRODUCT_COST * n_components * n_channels)
        return self.evaluation == "fft"

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of codes.

        Parameters
        ----------
        codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``
        n_jobs : int or None, default=None
            Threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *signal_shape)``
            float32 for float32, else float64.
        """
        codes = codes if is_tensor(codes) else _as_float(codes)
        self._check(codes, self.code_shape, "codes")
        if is_tensor(codes):
            return self.on_tensors(codes).synthesize(codes)
        if len(codes) == 0:
            return np.empty((0, *self.signal_shape), dtype=codes.dtype)
        if self.uses_fft:
            with kernel_threads(n_jobs):
                return self._spectrum(codes.dtype).synthesize(codes)
        from ._conv_evaluation import synthesize_signals

        plan, group, slabs, _ = self._evaluation(codes.dtype)
        signals = np.empty((len(codes), *self.signal_shape), dtype=codes.dtype)
        maps = flat_rows(codes), signals.reshape(len(codes), -1)
        with kernel_threads(n_jobs):
            how = {"n_pieces": -(-len(codes) // group), "work": self.products(codes)}
            on_threads(synthesize_signals, *maps, slabs, plan, group, **how)
        return signals

    def analyze(self, X, *, n_jobs=None):
        """Correlations of signals with every shifted atom: the adjoint of `synthesize`.

        Parameters
        ----------
        X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        n_jobs : int or None, default=None
            Threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *code_shape)``
        """
        X = X if is_tensor(X) else _as_float(X)
        self._check(X, self.signal_shape, "X")
        if is_tensor(X):
            return self.on_tensors(X).analyze(X)
        if len(X) == 0:
            return np.empty((0, *self.code_shape), dtype=X.dtype)
        if self.uses_fft:
            with kernel_threads(n_jobs):
                return self._spectrum(X.dtype).analyze(X)
        from ._conv_evaluation import analyze_signals

        plan, group, _, taps = self._evaluation(X.dtype)
        codes = np.empty((len(X), *self.code_shape), dtype=X.dtype)
        maps = flat_rows(X), codes.reshape(len(X), -1, self.code_shape[-1])
        with kernel_threads(n_jobs):
            how = {"n_pieces": -(-len(X) // group), "work": self.products(codes)}
            on_threads(analyze_signals, *maps, taps, plan, group, **how)
        return codes

    def products(self, codes):
        """Multiply-adds of all coefficients of an array of codes with the values of their atoms."""
        return codes.size * math.prod(self.components.shape[1:])

    def on_tensors(self, like):
        """The operator on tensors of the dtype and on the device of `like`.

        Returns
        -------
        TorchConvolution
            With the same `synthesize` and `analyze`; differentiable in its atoms where they are a tensor.
        """
        from ._conv_torch import TorchConvolution

        if is_tensor(self.components):
            return TorchConvolution(self.components.to(like), self.geometry, self.evaluation)
        components = kept_tensor(self._tables, ("tensor",), lambda: self.components, like)
        return TorchConvolution(components, self.geometry, self.evaluation)

    def descent_tables(self, weights, dtype):
        """What coordinate descent needs: plan, atoms in their forms with their squared norms, weights and inverses."""
        plan, vectors, columns = self._layout(dtype)
        norms = np.zeros(plan.padded_atoms, dtype=dtype)
        atoms = self._as_array(np.float64).reshape(plan.atoms, -1)
        norms[: plan.atoms] = (atoms * atoms).sum(axis=1)
        padded = np.full(plan.padded_atoms, np.inf, dtype=dtype)
        padded[: plan.atoms] = weights
        rates = np.zeros(plan.padded_atoms, dtype=dtype)
        rates[: plan.atoms] = 1 / np.asarray(weights)
        return plan, (vectors, columns, norms), padded, rates

    def __getstate__(self):
        return {**self.__dict__, "_tables": {}}

    def _check(self, values, shape, name):
        if tuple(values.shape[1:]) != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"{name} must have shape (n_samples, {expected}), got {tuple(values.shape)}.")

    def _as_array(self, dtype):
        if is_tensor(self.components):
            return self.components.detach().cpu().numpy().astype(dtype)
        return self.components.astype(dtype, copy=False)

    def _spectrum(self, dtype):
        key = "spectrum", np.dtype(dtype)
        if key not in self._tables:
            from ._conv_spectrum import Spectrum

            self._tables[key] = Spectrum(self._as_array(dtype), self.geometry)
        return self._tables[key]

    def _layout(self, dtype):
        """Plan of the kernels, and the atoms in their two forms."""
        key = "layout", np.dtype(dtype)
        if key not in self._tables:
            from ._conv_plan import atom_columns, atom_vectors, make_plan

            atoms = self._as_array(dtype)
            plan = make_plan(self.geometry, len(atoms), atoms.shape[-1], dtype)
            self._tables[key] = plan, atom_vectors(atoms, plan, dtype), atom_columns(atoms, plan, dtype)
        return self._tables[key]

    def _evaluation(self, dtype):
        """Plan of `analyze` and `synthesize`, signals at a time, and the atoms in their two forms."""
        key = "evaluation", np.dtype(dtype)
        if key not in self._tables:
            from ._conv_plan import atom_slabs, atom_taps, make_plan, signals_at_a_time

            atoms = self._as_array(dtype)
            plan = make_plan(self.geometry, len(atoms), atoms.shape[-1], dtype, blocks=False)
            group = signals_at_a_time(plan, dtype)
            self._tables[key] = plan, group, atom_slabs(atoms, plan, dtype), atom_taps(atoms, plan, dtype)
        return self._tables[key]


def safe_step(lipschitz):
    """``1 / lipschitz``, or 1 where that is no number: codes of a dictionary of zeros stay zero at any step."""
    return float(1 / lipschitz) if lipschitz > 1 / np.finfo(np.float64).max else 1.0


def flat_rows(values):
    """A row for each sample, as the kernels take them: contiguous, and writable, for they are compiled for that."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    return rows if rows.flags.writeable else rows.copy()


def _as_float(values):
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)

"""`ConvolutionalOperator`: convolution of sparse maps with small atoms, and its adjoint."""

import math

import numpy as np

from skrobust.kernels.threads import on_threads
from skrobust.operators.base import Operator
from skrobust.signals import is_tensor, kernel_threads
from skrobust.signals.tensors import kept_tensor

from .geometry import ConvolutionGeometry

AT_A_TIME = 16
"""Atoms that direct convolution processes together; fewer atoms cost as much."""

TRANSFORM_COST, PRODUCT_COST = 15, 32
"""Costs in products of direct convolution: of one value of a transform (times its logarithm), and of one product of
transforms. Fitted with benchmarks/bench_large_atoms.py: worst-case slowdown below 1.5x over 108 operators."""


class ConvolutionalOperator(Operator):
    """A convolutional dictionary: every atom at every position.

    The synthesis is a convolution; the atom at position p begins at pixel ``p * stride - offset``::

        x[i] = sum_k sum_p D_k[i - (p * stride - offset)] z_k[p]

    The analysis is its adjoint, the correlation of the signal with each shifted atom. Atoms are never flipped: they
    appear in the signal as stored.

    Parameters
    ----------
    components : array-like or Tensor of shape ``(n_components, *kernel_size, n_channels)``
        Atoms, of any norm. A tensor may require a gradient.
    signal_shape : tuple of int
        ``(length, n_channels)`` or ``(height, width, n_channels)``.
    padding : {"same", "full", "valid", "circular"} or int, default="same"
        "same": one position per pixel, offset ``(k - 1) // 2``, so that atoms are centred (even sizes as in torch);
        parts beyond the edge are cut off. "full": every overlap with the signal, offset ``k - 1``.
        "valid": only atoms inside the signal. "circular": offset 0, atoms wrap around. An integer, smaller than the
        kernel: offset `padding`, positions as of `torch.nn.Conv2d` with that padding.
    stride : int or tuple of int, default=1
        Pixels between positions.
    evaluation : {"auto", "spatial", "fft"}, default="auto"
        Direct convolution or fast Fourier transforms; "auto" takes the cheaper one, transforms for large atoms.

    Attributes
    ----------
    code_shape : tuple of int
        ``(*positions, n_components)``.
    lipschitz : float
        Squared norm of the synthesis, or an upper bound of it. Exact for "circular" if the stride divides the sizes:
        the largest eigenvalue over frequencies of D(w) D(w)^H, with the aliases of a stride stacked. At most 0.1 % too
        large if every atom covers the whole signal, or a Gram matrix of up to 1200 rows is cheap to form. Otherwise
        that of a circle that holds all pixels that atoms reach, a bound that is tight for atoms small compared with the
        grid. Lanczos steps tighten it; this bound fails with probability at most 1e-12.

    Raises
    ------
    ValueError
        If atoms, signals, padding and stride are incompatible.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.operators import ConvolutionalOperator
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
        signal_shape = signal_shape if isinstance(signal_shape, tuple) else np.ravel(signal_shape)
        signal_shape = tuple(int(n) for n in signal_shape)
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
        self._signal_shape = signal_shape
        self.padding = padding
        self.stride = stride
        self.evaluation = evaluation
        self.geometry = ConvolutionGeometry.of(signal_shape[:-1], components.shape[1:-1], padding, stride)
        self._tables = {}

    @property
    def signal_shape(self):
        """``(*grid, n_channels)``."""
        return self._signal_shape

    @property
    def code_shape(self):
        """``(*positions, n_components)``."""
        return (*self.geometry.code_grid, self.components.shape[0])

    @property
    def lipschitz(self):
        """Squared norm of the synthesis, or an upper bound of it."""
        if "lipschitz" not in self._tables:
            from .norm import squared_norm

            self._tables["lipschitz"] = squared_norm(self._as_array(np.float64), self.geometry)
        return self._tables["lipschitz"]

    @lipschitz.setter
    def lipschitz(self, value):
        self._tables["lipschitz"] = value

    @property
    def uses_fft(self):
        """Whether arrays are convolved by Fourier transforms."""
        if self.evaluation != "auto":
            return self.evaluation == "fft"
        if "uses_fft" not in self._tables:
            from .fft import padded_sizes

            n_components, n_channels = self.components.shape[0], self.components.shape[-1]
            together = -(-n_components // AT_A_TIME) * AT_A_TIME
            direct = self.geometry.n_positions * math.prod(self.geometry.kernel_size) * n_channels * together
            size = math.prod(padded_sizes(self.geometry))
            transforms = TRANSFORM_COST * (n_components + n_channels) * math.log2(size)
            self._tables["uses_fft"] = direct >= size * (transforms + PRODUCT_COST * n_components * n_channels)
        return self._tables["uses_fft"]

    def synthesize(self, codes, *, n_jobs=None):
        """Signals of codes.

        Parameters
        ----------
        codes : ndarray or Tensor of shape ``(n_samples, *code_shape)``
        n_jobs : int or None, default=None
            Number of threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *signal_shape)``
            float32 for float32, else float64.
        """
        codes = codes if is_tensor(codes) else _as_float(codes)
        self._check_shape(codes, self.code_shape, "codes")
        if is_tensor(codes):
            return self.on_tensors(codes).synthesize(codes)
        if len(codes) == 0:
            return np.empty((0, *self.signal_shape), dtype=codes.dtype)
        if self.uses_fft:
            with kernel_threads(n_jobs):
                return self.spectrum(codes.dtype).synthesize(codes)
        from .direct import synthesis_workspaces, synthesize_signals

        plan, group, starts, slabs, _ = self._evaluation(codes.dtype)
        signals = np.empty((len(codes), *self.signal_shape), dtype=codes.dtype)
        settings = flat_rows(codes), signals.reshape(len(codes), -1), slabs, starts, plan, group

        def synthesize(next_group):
            synthesize_signals(*settings, synthesis_workspaces(plan, group, codes.dtype), next_group)

        with kernel_threads(n_jobs):
            on_threads(synthesize, n_pieces=-(-len(codes) // group), work=self.products(codes))
        return signals

    def analyze(self, X, *, n_jobs=None):
        """Correlations of signals with every shifted atom: the adjoint of `synthesize`.

        Parameters
        ----------
        X : ndarray or Tensor of shape ``(n_samples, *signal_shape)``
        n_jobs : int or None, default=None
            Number of threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *code_shape)``
        """
        X = X if is_tensor(X) else _as_float(X)
        self._check_shape(X, self.signal_shape, "X")
        if is_tensor(X):
            return self.on_tensors(X).analyze(X)
        if len(X) == 0:
            return np.empty((0, *self.code_shape), dtype=X.dtype)
        if self.uses_fft:
            with kernel_threads(n_jobs):
                return self.spectrum(X.dtype).analyze(X)
        from .direct import analysis_workspace, analyze_signals

        plan, group, starts, _, taps = self._evaluation(X.dtype)
        codes = np.empty((len(X), *self.code_shape), dtype=X.dtype)
        settings = flat_rows(X), codes.reshape(len(X), -1), taps, starts, plan, group

        def analyze(next_group):
            analyze_signals(*settings, analysis_workspace(plan, group, X.dtype), next_group)

        with kernel_threads(n_jobs):
            on_threads(analyze, n_pieces=-(-len(X) // group), work=self.products(codes))
        return codes

    def products(self, codes):
        """Number of multiply-adds of all coefficients of an array of codes with the values of their atoms."""
        return codes.size * math.prod(self.components.shape[1:])

    def on_tensors(self, like):
        """The operator on tensors of the dtype and on the device of `like`.

        Returns
        -------
        TorchConvolution
            With the same `synthesize` and `analyze`; differentiable in its atoms if they are a tensor.
        """
        from .torch import TorchConvolution

        if is_tensor(self.components):
            return TorchConvolution(self.components.to(like), self.geometry, self.evaluation)
        components = kept_tensor(self._tables, ("tensor",), lambda: self.components, like)
        return TorchConvolution(components, self.geometry, self.evaluation)

    def with_components(self, components):
        """The same geometry with other atoms of the same shape."""
        return ConvolutionalOperator(
            components,
            self.signal_shape,
            padding=self.padding,
            stride=self.stride,
            evaluation=self.evaluation,
        )

    def descent_tables(self, weights, dtype):
        """Inputs of coordinate descent: plan, atoms in both layouts, squared norms, weights and inverse weights."""
        plan, vectors, columns = self._layout(dtype)
        norms = np.zeros(plan.padded_atoms, dtype=dtype)
        atoms = self._as_array(np.float64).reshape(plan.atoms, -1)
        norms[: plan.atoms] = (atoms * atoms).sum(axis=1)
        padded = np.full(plan.padded_atoms, np.inf, dtype=dtype)
        padded[: plan.atoms] = weights
        inv_weights = np.zeros(plan.padded_atoms, dtype=dtype)
        inv_weights[: plan.atoms] = 1 / np.asarray(weights)
        return plan, (vectors, columns, norms), padded, inv_weights

    def __getstate__(self):
        return {**self.__dict__, "_tables": {}}

    def _as_array(self, dtype):
        if is_tensor(self.components):
            return self.components.detach().cpu().numpy().astype(dtype)
        return self.components.astype(dtype, copy=False)

    def spectrum(self, dtype):
        """The operator on arrays of `dtype` by fast Fourier transforms."""
        key = "spectrum", np.dtype(dtype)
        if key not in self._tables:
            from .fft import Spectrum

            self._tables[key] = Spectrum(self._as_array(dtype), self.geometry)
        return self._tables[key]

    def _layout(self, dtype):
        """Plan of the kernels, and the atoms in both memory layouts."""
        key = "layout", np.dtype(dtype)
        if key not in self._tables:
            from .plan import atom_columns, atom_vectors, make_plan

            atoms = self._as_array(dtype)
            plan = make_plan(self.geometry, len(atoms), atoms.shape[-1], dtype)
            self._tables[key] = plan, atom_vectors(atoms, plan, dtype), atom_columns(atoms, plan, dtype)
        return self._tables[key]

    def _evaluation(self, dtype):
        """Plan of `analyze` and `synthesize`, signals per group, start of each position, atoms in both layouts."""
        key = "evaluation", np.dtype(dtype)
        if key not in self._tables:
            from .direct import position_starts
            from .plan import atom_slabs, atom_taps, make_plan, signals_at_a_time

            atoms = self._as_array(dtype)
            plan = make_plan(self.geometry, len(atoms), atoms.shape[-1], dtype, blocks=False)
            group = signals_at_a_time(plan, dtype)
            layouts = atom_slabs(atoms, plan, dtype), atom_taps(atoms, plan, dtype)
            self._tables[key] = plan, group, position_starts(plan, group), *layouts
        return self._tables[key]


def flat_rows(values):
    """One row per sample, contiguous and writable, as the kernels are compiled for."""
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    return rows if rows.flags.writeable else rows.copy()


def _as_float(values):
    values = np.asarray(values)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)

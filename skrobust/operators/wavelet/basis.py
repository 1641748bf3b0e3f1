"""Orthogonal wavelet bases, and the best approximation of signals by their K largest coefficients."""

import math
from numbers import Integral

import numpy as np
from sklearn.utils import check_array

from skrobust.kernels.threads import on_threads, threads_for
from skrobust.operators.base import Operator
from skrobust.signals import check_clip, clip_values, is_tensor, kernel_threads
from skrobust.signals.tensors import kept_tensor

from .plan import exact_levels, has_orthonormal_filters, max_levels, plan_wavelet

_BLOCK_BYTES = 1 << 16
"""Maximum number of pixels that a thread processes at a time."""

_BLOCKS = 4
"""Minimum number of blocks per thread, if there are enough images, to balance the work."""


class WaveletBasis(Operator):
    """The periodized orthogonal wavelet basis of signals on a grid.

    The transform is PyWavelets' ``mode="periodization"``, orthonormal if every size halves exactly. An odd size is
    extended by its last sample and cropped back; the transform is then not orthonormal.

    Parameters
    ----------
    wavelet : str or pywt.Wavelet
        An orthogonal wavelet.
    grid : tuple of int
        ``(length,)`` or ``(height, width)``.
    level : int or None, default=None
        Number of levels, reduced to what the smallest axis allows. None: the largest number at which every size halves
        exactly, at least 1.
    n_channels : int, default=1
        Channels of the signals of `signal_shape`. Each is transformed separately, so that methods accept any number.

    Attributes
    ----------
    signal_shape, code_shape : tuple of int
        ``(*grid, n_channels)`` and ``(n_channels, *shape)``.
    lipschitz : float
        Squared norm of the synthesis: 1 for orthonormal filters, whatever the grid, else a bound just above it.
    level : int
        Levels used.
    shape : tuple of int
        Shape of the coefficients of one channel, in the order of `pywt.coeffs_to_array`.
    is_orthonormal : bool

    Raises
    ------
    ValueError
        If the wavelet is unknown or not orthogonal, or another parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import WaveletBasis
    >>> basis = WaveletBasis("haar", (4,), level=1)
    >>> X = np.array([[3.0, 3.0, 1.0, -1.0]]).reshape(1, 4, 1)
    >>> basis.transform(X).round(3)
    array([[[4.243, 0.   , 0.   , 1.414]]])
    >>> basis.sparsify(X, [1]).ravel().round(3)
    array([3., 3., 0., 0.])
    """

    def __init__(self, wavelet, grid, level=None, n_channels=1):
        self.grid = _checked_grid(grid)
        if not isinstance(n_channels, Integral) or n_channels < 1:
            raise ValueError(f"n_channels must be an integer >= 1, got {n_channels!r}.")
        self.n_channels = int(n_channels)
        if level is None:
            level = exact_levels(self.grid)
        elif not isinstance(level, Integral) or level < 0:
            raise ValueError(f"level must be None or an integer >= 0, got {level!r}.")
        self.level = min(int(level), max_levels(self.grid))
        self.plan = plan_wavelet(wavelet, self.grid, self.level)
        self.shape = self.plan.shape
        self.is_orthonormal = self.plan.is_orthonormal
        self._torch = {}

    @property
    def signal_shape(self):
        """``(*grid, n_channels)``."""
        return (*self.grid, self.n_channels)

    @property
    def code_shape(self):
        """``(n_channels, *shape)``."""
        return (self.n_channels, *self.shape)

    @property
    def lipschitz(self):
        """Squared norm of the synthesis, or an upper bound of it."""
        if has_orthonormal_filters(self.plan.taps):  # cropping odd sizes does not increase the norm
            return 1.0
        axes, levels = range(len(self.grid)), range(self.level)
        norms = [np.linalg.norm(self.plan.synthesis_matrix(axis, level), 2) for axis in axes for level in levels]
        return float(np.prod(np.maximum(norms, 1)) ** 2 * (1 + 1e-12))

    @property
    def size(self):
        """Number of entries in the coefficients of one channel."""
        return math.prod(self.shape)

    @property
    def n_coefficients(self):
        """Coefficients of one channel that are not always zero: `size` minus the gaps between bands of odd sizes."""
        return self.plan.n_coefficients

    def analyze(self, X, *, n_jobs=None):
        """The adjoint of `synthesize`, which is `transform` if `is_orthonormal`.

        Parameters
        ----------
        X : array-like or Tensor of shape ``(n_samples, *grid, n_channels)``
        n_jobs : int or None, default=None
            Number of threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, n_channels, *shape)``
        """
        if self.is_orthonormal:
            return self.transform(X, n_jobs=n_jobs)
        from .adjoint import adjoint_of_synthesis

        return adjoint_of_synthesis(self.plan, self._checked(X, "X", "n_samples", *self.grid, "n_channels"))

    def transform(self, X, ks=None, *, n_jobs=None):
        """Coefficients of signals, all or the largest; `synthesize` is the inverse.

        Parameters
        ----------
        X : array-like or Tensor of shape ``(n_samples, *grid, n_channels)``
        ks : int, sequence of int or None, default=None
            Number of coefficients to keep per channel, one for all or one per channel; the others are zero. Magnitudes
            equal to within rounding are kept in the order of their position.
        n_jobs : int or None, default=None
            Number of threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, n_channels, *shape)``
            float32 for float32, else float64.

        Raises
        ------
        ValueError
            If `X` has another shape, or `ks` is not a valid number of coefficients.
        """
        X = self._checked(X, "X", "n_samples", *self.grid, "n_channels")
        ks = None if ks is None else self._checked_ks(ks, X.shape[-1])
        if is_tensor(X):
            from .torch import largest_mask

            coefficients = self.on_tensors(X).analyze(X)
            return coefficients if ks is None else coefficients * largest_mask(coefficients, ks.tolist())
        result = np.empty((X.shape[0], X.shape[-1], *self.shape), dtype=X.dtype)
        if not len(X):
            return result
        ks = np.zeros(X.shape[-1], dtype=np.int64) if ks is None else ks
        module, levels = self._kernels()
        options = levels, self._taps(X.dtype), ks, self._groups(ks)
        if len(self.grid) == 1:
            self._run(module.analyze_signals, X, (np.ascontiguousarray(X), result, *options), n_jobs)
        else:
            self._run(module.analyze_images, X, (X.ravel(), result.ravel(), X.shape, self.shape, *options), n_jobs)
        return result

    def synthesize(self, coefficients, *, n_jobs=None):
        """Signals of coefficients: the inverse of `transform`.

        Parameters
        ----------
        coefficients : array-like or Tensor of shape ``(n_samples, n_channels, *shape)``

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *grid, n_channels)``
            float32 for float32, else float64.

        Raises
        ------
        ValueError
            If `coefficients` have another shape.
        """
        coefficients = self._checked(coefficients, "coefficients", "n_samples", "n_channels", *self.shape)
        if is_tensor(coefficients):
            return self.on_tensors(coefficients).synthesize(coefficients)
        C = np.ascontiguousarray(coefficients)
        result = np.empty((C.shape[0], *self.grid, C.shape[1]), dtype=C.dtype)
        if not len(C):
            return result
        module, levels = self._kernels()
        options = levels, self._taps(C.dtype), *_limits(None, C.dtype)
        if len(self.grid) == 1:
            self._run(module.synthesize_signals, result, (C, result, *options), n_jobs)
        else:
            options = result.shape, self.shape, *options
            self._run(module.synthesize_images, result, (C.ravel(), result.ravel(), *options), n_jobs)
        return result

    def sparsify(self, X, ks, *, clip=None, n_jobs=None):
        """Best approximation of signals by the ``ks[c]`` largest coefficients of each channel, clipped.

        Parameters
        ----------
        X : array-like or Tensor of shape ``(n_samples, *grid, n_channels)``
        ks : int or sequence of int
            Number of coefficients to keep per channel: one for all, or one per channel.
        clip : tuple of float or None, default=None
            Smallest and largest value of the result.
        n_jobs : int or None, default=None

        Returns
        -------
        ndarray or Tensor of the shape of X
            float32 for float32, else float64.

        Raises
        ------
        ValueError
            As `transform`, and if `clip` is not a range.
        """
        check_clip(clip)
        X = self._checked(X, "X", "n_samples", *self.grid, "n_channels")
        ks = self._checked_ks(ks, X.shape[-1])
        if is_tensor(X):
            sparsified = self.synthesize(self.transform(X, ks))
            return sparsified if clip is None else clip_values(sparsified, *clip)
        X = np.ascontiguousarray(X)
        result = np.empty_like(X)
        if not len(X):
            return result
        module, levels = self._kernels()
        options = levels, self._taps(X.dtype), ks, self._groups(ks), *_limits(clip, X.dtype)
        if len(self.grid) == 1:
            self._run(module.sparsify_signals, X, (X, result, self.size, *options), n_jobs)
        else:
            self._run(module.sparsify_images, X, (X.ravel(), result.ravel(), X.shape, self.shape, *options), n_jobs)
        return result

    def on_tensors(self, like):
        """The transform on tensors of the dtype and on the device of `like`."""
        from .torch import TorchWavelets

        def matrix(kind, axis, level):
            array = getattr(self.plan, f"{kind}_matrix")
            return kept_tensor(self._torch, (kind, axis, level), lambda: array(axis, level), like)

        return TorchWavelets(self.plan, matrix)

    def __getstate__(self):
        return {**self.__dict__, "_torch": {}}

    def _checked(self, values, name, *shape):
        """`values` as float32 or float64 of this shape, in which names match any size."""
        if not is_tensor(values):
            values = np.asarray(values)
            if values.dtype not in (np.float32, np.float64):
                values = check_array(
                    values, dtype=np.float64, allow_nd=True, ensure_2d=False, ensure_min_samples=0, input_name=name
                )
        fits = zip(values.shape, shape, strict=False)
        if len(values.shape) != len(shape) or any(isinstance(n, int) and actual != n for actual, n in fits):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"{name} must have shape ({expected}), got {tuple(values.shape)}.")
        return values

    def _checked_ks(self, ks, n_channels):
        """Coefficients to keep of each channel, as int64."""
        k_per_channel = np.asarray(ks)
        if k_per_channel.dtype.kind not in "iu" or k_per_channel.shape not in ((), (n_channels,)):
            raise ValueError(f"ks must be an integer or {n_channels} integers, one per channel, got {ks!r}.")
        if k_per_channel.min() < 1 or k_per_channel.max() > self.size:
            raise ValueError(f"ks must be from 1 to the {self.size} coefficients of a channel, got {ks!r}.")
        return np.array(np.broadcast_to(k_per_channel, (n_channels,)), dtype=np.int64)

    def _kernels(self):
        if len(self.grid) == 1:
            from . import kernels_1d as module

            return module, module.level_table_1d(self.plan)
        from . import kernels as module

        return module, module.level_table(self.plan)

    def _taps(self, dtype):
        return self.plan.taps.astype(dtype).ravel()

    @staticmethod
    def _groups(ks):
        from .selection import group_count

        return group_count(int(ks.max()))

    def _run(self, kernel, signals, args, n_jobs):
        """Run a kernel on threads; a piece of work is a block of images, or as many signals as a vector has lanes."""
        work = signals.size * 2 * len(self.grid) * self.plan.taps.size
        with kernel_threads(n_jobs):
            if len(self.grid) == 1:
                from skrobust.kernels.vectors import VECTOR_BYTES

                n_pieces = -(-signals.shape[0] * signals.shape[-1] * signals.itemsize // VECTOR_BYTES)
                on_threads(kernel, *args, n_pieces=n_pieces, work=work)
                return
            n = len(signals)
            max_block = max(1, _BLOCK_BYTES // max(1, signals[0].nbytes))
            block = max(1, min(max_block, n // (_BLOCKS * threads_for(n, work))))
            on_threads(kernel, *args, block, n_pieces=-(-n // block), work=work)


def _checked_grid(grid):
    try:
        sizes = tuple(grid)
    except TypeError:
        sizes = ()
    if len(sizes) not in (1, 2) or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise ValueError(f"grid must be (length,) or (height, width) of integers >= 1, got {grid!r}.")
    return tuple(int(size) for size in sizes)


def _limits(clip, dtype):
    low, high = (-np.inf, np.inf) if clip is None else clip
    return dtype.type(low), dtype.type(high)

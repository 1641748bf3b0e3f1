"""Orthogonal wavelet bases, and the best approximation of signals by their K largest coefficients."""

import math

import numpy as np

from skrobust.signals import is_tensor, kernel_threads
from skrobust.signals._tensors import kept_tensor

from ._wavelet_plan import most_levels, plan_wavelet

_BLOCK_BYTES = 1 << 18
"""Pixels that a thread takes at a time: enough to hide its start, few enough to share the work evenly."""


class WaveletBasis:
    """The periodized orthogonal wavelet basis of signals on a grid.

    The transform is PyWavelets' ``mode="periodization"``: orthonormal where every size halves exactly. An odd size is
    extended by its last sample and cropped back, and then is not.

    Parameters
    ----------
    wavelet : str or pywt.Wavelet
        An orthogonal wavelet.
    grid : tuple of int
        ``(length,)`` or ``(height, width)``.
    level : int, default=1
        Levels; reduced to as many as the smallest axis has.

    Attributes
    ----------
    level : int
        Levels used.
    shape : tuple of int
        Shape of the coefficients of one channel, in the order of `pywt.coeffs_to_array`.
    is_orthonormal : bool

    Raises
    ------
    ValueError
        If the wavelet is unknown or not orthogonal.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.pursuits import WaveletBasis
    >>> basis = WaveletBasis("haar", (4,))
    >>> X = np.array([[3.0, 3.0, 1.0, -1.0]]).reshape(1, 4, 1)
    >>> basis.analyze(X).round(3)
    array([[[4.243, 0.   , 0.   , 1.414]]])
    >>> basis.sparsify(X, [1]).ravel().round(3)
    array([3., 3., 0., 0.])
    """

    lipschitz = 1.0
    """Largest singular value of the synthesis, squared."""

    def __init__(self, wavelet, grid, level=1):
        self.grid = tuple(grid)
        self.level = min(int(level), most_levels(self.grid))
        self.plan = plan_wavelet(wavelet, self.grid, self.level)
        self.shape = self.plan.shape
        self.is_orthonormal = self.plan.is_orthonormal
        self._torch = {}

    @property
    def size(self):
        """Coefficients of one channel."""
        return math.prod(self.shape)

    def analyze(self, X, ks=None, *, n_jobs=None):
        """Coefficients of signals, all or the largest.

        Parameters
        ----------
        X : ndarray or Tensor of shape ``(n_samples, *grid, n_channels)``
            float32 or float64.
        ks : sequence of int or None, default=None
            Coefficients to keep of each channel; the others are zero. Magnitudes equal to within rounding are kept in
            the order of their position.
        n_jobs : int or None, default=None
            Threads.

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, n_channels, *shape)``
        """
        if is_tensor(X):
            from ._wavelet_torch import largest_mask

            coefficients = self.on_tensors(X).analyze(X)
            return coefficients if ks is None else coefficients * largest_mask(coefficients, ks)
        result = np.empty((X.shape[0], X.shape[-1], *self.shape), dtype=X.dtype)
        ks = np.zeros(X.shape[-1], dtype=np.int64) if ks is None else np.asarray(ks, dtype=np.int64)
        module, levels = self._kernels()
        rest = levels, self._taps(X.dtype), ks, self._groups(ks)
        with kernel_threads(n_jobs, uses_blas=False):
            if len(self.grid) == 1:
                module.analyze_signals(np.ascontiguousarray(X), result, *rest)
            else:
                module.analyze_images(np.ascontiguousarray(X), result, *rest, self._block(X))
        return result

    def synthesize(self, coefficients, *, n_jobs=None):
        """Signals of coefficients: the inverse of `analyze`, and its adjoint where `is_orthonormal`.

        Parameters
        ----------
        coefficients : ndarray or Tensor of shape ``(n_samples, n_channels, *shape)``

        Returns
        -------
        ndarray or Tensor of shape ``(n_samples, *grid, n_channels)``
        """
        if is_tensor(coefficients):
            return self.on_tensors(coefficients).synthesize(coefficients)
        C = np.ascontiguousarray(coefficients)
        result = np.empty((C.shape[0], *self.grid, C.shape[1]), dtype=C.dtype)
        module, levels = self._kernels()
        rest = levels, self._taps(C.dtype), *_limits(None, C.dtype)
        with kernel_threads(n_jobs, uses_blas=False):
            if len(self.grid) == 1:
                module.synthesize_signals(C, result, *rest)
            else:
                module.synthesize_images(C, result, *rest, self._block(result))
        return result

    def sparsify(self, X, ks, *, clip=None, n_jobs=None):
        """Best approximation of signals by the ``ks[c]`` largest coefficients of each channel, clipped.

        Parameters
        ----------
        X : ndarray or Tensor of shape ``(n_samples, *grid, n_channels)``
            float32 or float64.
        ks : sequence of int
        clip : tuple of float or None, default=None
            Lowest and highest value of the result.
        n_jobs : int or None, default=None

        Returns
        -------
        ndarray or Tensor of the shape of X
        """
        if is_tensor(X):
            cleaned = self.synthesize(self.analyze(X, ks))
            return cleaned if clip is None else cleaned.clamp(*clip)
        X = np.ascontiguousarray(X)
        result = np.empty_like(X)
        ks = np.asarray(ks, dtype=np.int64)
        module, levels = self._kernels()
        rest = levels, self._taps(X.dtype), ks, self._groups(ks), *_limits(clip, X.dtype)
        with kernel_threads(n_jobs, uses_blas=False):
            if len(self.grid) == 1:
                module.sparsify_signals(X, result, self.size, *rest)
            else:
                module.sparsify_images(X, result, self.shape, *rest, self._block(X))
        return result

    def on_tensors(self, like):
        """The transform on tensors of the dtype and on the device of `like`."""
        from ._wavelet_torch import TorchWavelets

        def matrix(kind, axis, level):
            array = getattr(self.plan, f"{kind}_matrix")
            return kept_tensor(self._torch, (kind, axis, level), lambda: array(axis, level), like)

        return TorchWavelets(self.plan, matrix)

    def __getstate__(self):
        return {**self.__dict__, "_torch": {}}

    def _kernels(self):
        if len(self.grid) == 1:
            from . import _wavelet_kernels_1d as module

            return module, module.level_table_1d(self.plan)
        from . import _wavelet_kernels as module

        return module, module.level_table(self.plan)

    def _taps(self, dtype):
        return self.plan.taps.astype(dtype).ravel()

    @staticmethod
    def _groups(ks):
        from ._selection import group_count

        return group_count(int(ks.max()))

    @staticmethod
    def _block(images):
        return max(1, _BLOCK_BYTES // max(1, images[0].nbytes))


def _limits(clip, dtype):
    low, high = (-np.inf, np.inf) if clip is None else clip
    return dtype.type(low), dtype.type(high)

"""`ConvSparseCoder`: images as a few shifted copies of small learned atoms."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skrobust.bridge import register_module
from skrobust.dictionaries import ConvolutionalLearner, initial_convolutional_atoms
from skrobust.estimators.shared.conv_atoms import LEARNING_SWEEPS, LEARNING_TOL, fitted_kernel, given_atoms
from skrobust.estimators.shared.low_pass import LowPass
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import Penalty
from skrobust.pursuits.penalties import PENALTIES, resolve_penalty
from skrobust.signals import (
    SignalTransformer,
    batch_slices,
    check_clip,
    is_tensor,
    restored_on_error,
    warn_once_per_fit,
)
from skrobust.signals.parameters import AT_LEAST_1, FRACTION, NON_NEGATIVE, POSITIVE, parameter, parametrized
from skrobust.signals.tensors import to_numpy

from .pooling import pool_codes, pooled_shape
from .pursuits import check_device, has_positive_codes, pursue


@parametrized
class ConvSparseCoder(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Convolutional sparse coder: each image as a sum of few shifted atoms.

    The code of an image x minimises ``1/2 ||x - D z||^2 + alpha ||z||_1``, or the same with another `penalty`, where
    the columns of D are the atoms of `components_` at all positions; or it is found greedily (``pursuit="omp"``), or
    by one thresholded convolution (``pursuit="thresholding"``). Atoms are learned from images by alternating basis
    pursuit and block descent on the atoms, within the unit ball.

    Parameters
    ----------
    n_components : int, default=32
        Number of atoms.
    kernel_size : int or tuple of int, default=8
        Height and width of the atoms; reduced if the signal is smaller.
    alpha : float, default=0.1
        Weight of the penalty, also in learning; for "thresholding" the threshold.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
        Penalty of the codes, for ``pursuit="bp"``: a name, or an object such as ``GroupL1([0, 0, 1])`` or a
        custom one. `transform` and `score` use it; atoms are always learned with the l1 norm at the same alpha.
    pursuit : {"bp", "omp", "thresholding"}, default="bp"
        "bp": basis pursuit. "omp": orthogonal matching pursuit. "thresholding": soft thresholding of the correlations.
    n_nonzero_coefs : int, float or None, default=None
        Number of coefficients of a signal, or fraction of its values, for "omp". None: a tenth of the values.
    padding : {"same", "full", "valid", "circular"}, default="same"
        Positions of the atoms; see `skrobust.pursuits.ConvolutionalOperator`.
    stride : int, default=1
        Distance between positions in pixels.
    positive : bool, default=False
        Codes >= 0, also in learning. Not for "omp"; a penalty object has its own ``positive``.
    highpass : float or None, default=None
        Subtract the smooth part l of each image before coding, also in learning; l minimises ``||x - l||^2 + highpass
        ||grad l||^2``. Small atoms cannot represent it well. 5 is usual for photographs. None: code the images.
    output : {"code", "reconstruction"}, default="code"
        "reconstruction": `transform` returns images, as a front end does: the synthesis plus the smooth part that
        `highpass` subtracted.
    clip : tuple of (float, float) or None, default=None
        Lowest and highest value of reconstructions. Codes and `inverse_transform` are not clipped.
    dictionary : array-like of shape ``(n_atoms, *kernel_size[, n_channels])`` or None, default=None
        Fixed atoms; nothing is learned then.
    init : {"data", "random"} or array-like, default="data"
        Initial atoms: patches, noise, or given.
    n_epochs : int, default=10
        Passes over X in `fit`.
    batch_size : int or None, default=None
        Images per update of the atoms. None: all, one update per pass.
    pool : {None, "max", "sum"}, default=None
        Largest magnitude, or sum of magnitudes, of each atom over cells of `pool_size` positions in place of the code.
    pool_size : int or None, default=None
        Positions along each axis of a cell. None: one cell for all.
    sparse_output : bool, default=False
        Return codes as a CSR array, without a dense array in between.
    max_iter : int, default=1000
        Maximum number of iterations of basis pursuit.
    tol : float, default=1e-3
        Relative duality gap at which basis pursuit stops. For a penalty without a known
        dual: largest change of a coefficient by one step, relative to the largest coefficient.
    device : str, torch.device or None, default=None
        Torch device on which `transform` runs basis pursuit and thresholding, such as "cuda". Learning and "omp" use
        the CPU. None: compiled kernels on the CPU; basis pursuit uses them for "cpu" as well.
    random_state : int, RandomState instance or None, default=None
        For the initial atoms, the order of batches and the replacement of unused atoms.
    verbose : int, default=0
        1: print a line per epoch.

    Attributes
    ----------
    components_ : ndarray of shape ``(n_components, *kernel_size, n_channels)``
        Atoms of norm 1 (as given, for `dictionary`).
    code_shape_ : tuple of int
        A code as maps: ``(*positions, n_components)``. `transform` flattens it in C order.
    objectives_ : list of float
        Mean objective of each epoch, for the atoms at its start (online: at each batch).
    n_iter_ : int
        Epochs, or calls of `partial_fit`.

    See Also
    --------
    skrobust.pursuits.convolutional_basis_pursuit : The solver, with masks, weights and gaps.
    skrobust.pursuits.Penalty : Base class of the penalties.
    skrobust.as_module : The coder as a differentiable torch module.

    Notes
    -----
    Learning keeps sums over pairs of taps (pixels of atoms): ``8 * (n_components * prod(kernel_size))**2`` bytes, 20
    MB for 64 atoms of 5 x 5. Beyond these and sparse codes, memory is that of one batch of dense codes, within
    scikit-learn's ``working_memory``.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import ConvSparseCoder
    >>> X = load_digits().data[:100] / 16
    >>> coder = ConvSparseCoder(8, kernel_size=4, image_shape=(8, 8), n_epochs=3, random_state=0).fit(X)
    >>> codes = coder.transform(X)
    >>> codes.shape, coder.code_shape_, str(coder.get_feature_names_out()[1])
    ((100, 512), (8, 8, 8), 'atom1_y0_x0')
    >>> bool(((coder.inverse_transform(codes) - X) ** 2).mean() < 0.02)
    True
    """

    n_components: int = parameter(32, AT_LEAST_1, positional=True)
    kernel_size: int | tuple = parameter(8, AT_LEAST_1, tuple, list)
    alpha: float = parameter(0.1, POSITIVE)
    penalty: str | Penalty = parameter("l1", set(PENALTIES), Penalty)
    pursuit: str = parameter("bp", {"bp", "omp", "thresholding"})
    n_nonzero_coefs: int | float | None = parameter(None, AT_LEAST_1, FRACTION)
    padding: str = parameter("same", {"same", "full", "valid", "circular"})
    stride: int = parameter(1, AT_LEAST_1)
    positive: bool = parameter(False, "boolean")
    highpass: float | None = parameter(None, POSITIVE)
    output: str = parameter("code", {"code", "reconstruction"})
    clip: tuple | None = parameter(None, tuple, list)
    dictionary: ArrayLike | None = parameter(None, "array-like")
    init: ArrayLike = parameter("data", {"data", "random"}, "array-like")
    n_epochs: int = parameter(10, AT_LEAST_1)
    batch_size: int | None = parameter(None, AT_LEAST_1)
    pool: str | None = parameter(None, {"max", "sum"})
    pool_size: int | None = parameter(None, AT_LEAST_1)
    sparse_output: bool = parameter(False, "boolean")
    max_iter: int = parameter(1000, AT_LEAST_1)
    tol: float = parameter(1e-3, NON_NEGATIVE)
    device: object = parameter(None)  # checked in `fit`: torch's own types
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the atoms, or use those of `dictionary`. An interrupted `fit` leaves the estimator as it was."""
        with restored_on_error(self):
            values = self._begin(X)
            self.objectives_ = []
            self.n_iter_ = 0
            if self._learner is not None:
                for _ in range(self.n_epochs):
                    if self.batch_size is None:
                        self._learner.epoch(values)
                    else:
                        self._learner.pass_online(values, self.batch_size)
                    self.objectives_.append(self._learner.objective)
                    self.n_iter_ += 1
                    if self.verbose:
                        print(f"[ConvSparseCoder] epoch {self.n_iter_} of {self.n_epochs}: {self.objectives_[-1]:.6g}")
                self._adopt(self._learner.components)
                # Codes and sums of the training images are no longer needed.
                self._learner = None
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from one more batch of images; earlier batches lose weight."""
        if hasattr(self, "components_"):
            values = self._highpassed(to_numpy(self._read_signals(X, reset=False).values))
            if self._learner is None and self.dictionary is None:  # after `fit`
                self._learner = self._learner_from(self.components_, check_random_state(self.random_state))
        else:
            values = self._begin(X)
            self.objectives_, self.n_iter_ = [], 0
        if self._learner is not None:
            self._learner.update(values)
            self.objectives_.append(self._learner.objective)
            self._adopt(self._learner.components)
        self.n_iter_ += 1
        return self

    def _begin(self, X):
        """Read X and prepare learning from it."""
        signals = self._read_signals(X, reset=True)
        check_clip(self.clip)
        values = to_numpy(signals.values)
        if self.pursuit == "omp" and self.positive:
            raise ValueError("positive=True needs pursuit='bp' or 'thresholding', got pursuit='omp'.")
        if self.pursuit != "bp" and self.penalty != "l1":
            raise ValueError(f"penalty={self.penalty!r} needs pursuit='bp', got pursuit={self.pursuit!r}.")
        resolve_penalty(self.penalty, positive=self.positive)  # raises errors
        if self.device is not None:
            check_device(self.device)
        self._sample_shape = signals.sample_shape
        grid, n_channels = values.shape[1:-1], values.shape[-1]
        self._low_pass = None if self.highpass is None else LowPass(grid, self.highpass)
        values = self._highpassed(values)
        self._learner = None
        if self.dictionary is not None:
            self._adopt(given_atoms("dictionary", self.dictionary, grid, n_channels).astype(values.dtype))
            return values
        random_state = check_random_state(self.random_state)
        if isinstance(self.init, str):
            kernel = fitted_kernel(self.kernel_size, grid)
            atoms = initial_convolutional_atoms(
                values, self.n_components, kernel, init=self.init, random_state=random_state
            )
        else:
            atoms = given_atoms("init", self.init, grid, n_channels)
        atoms = atoms.astype(values.dtype)
        self._adopt(atoms)
        self._learner = self._learner_from(atoms, random_state)
        return values

    def _learner_from(self, atoms, random_state):
        return ConvolutionalLearner(
            atoms,
            self.alpha,
            padding=self.padding,
            stride=self.stride,
            positive=has_positive_codes(self),
            tol=LEARNING_TOL,
            max_iter=LEARNING_SWEEPS,
            random_state=random_state,
            n_jobs=self.n_jobs,
        )

    def _adopt(self, components):
        self.components_ = components
        self._operator = ConvolutionalOperator(
            components, self._layout.canonical_shape, padding=self.padding, stride=self.stride
        )
        self.code_shape_ = self._operator.code_shape

    @warn_once_per_fit
    def transform(self, X):
        """Codes of images, or their reconstructions.

        Returns
        -------
        ndarray, csr_array or Tensor
            ``output="code"``: shape (n_samples, n_codes), pooled according to `pool`. ``output="reconstruction"``:
            the shape of X. float32 for float32, else float64. Tensors stay on their device and are differentiable.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            from .torch import transform_tensor

            return transform_tensor(self, signals)
        if self.output == "reconstruction":
            result = np.empty_like(values)
            for batch, detail, codes in self._coded_batches(values):
                result[batch] = values[batch] - detail + self._operator.synthesize(codes, n_jobs=self.n_jobs)
            return signals.restore(result if self.clip is None else result.clip(*self.clip))
        if self.sparse_output:
            rows = [sparse.csr_array(self._features(codes)) for _, _, codes in self._coded_batches(values)]
            return sparse.vstack(rows, format="csr")
        result = np.empty((len(values), self._n_features_out), dtype=values.dtype)
        for batch, _, codes in self._coded_batches(values):
            result[batch] = self._features(codes)
        return result

    def inverse_transform(self, codes):
        """Images of codes: the synthesis ``D z``, without the smooth part that `highpass` subtracted.

        Parameters
        ----------
        codes : ndarray or sparse array of shape (n_samples, n_codes)
            Not pooled.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or of images where `fit` saw images

        Raises
        ------
        ValueError
            If `pool` is set: pooled codes do not contain the positions of atoms.
        """
        check_is_fitted(self)
        if self.pool is not None:
            raise ValueError(f"Codes pooled by pool={self.pool!r} cannot be inverted; use pool=None.")
        if sparse.issparse(codes):
            codes = codes.tocsr()  # for slices of rows
        elif not is_tensor(codes):
            codes = np.asarray(codes)
        n_codes = math.prod(self.code_shape_)
        if codes.ndim != 2 or codes.shape[1] != n_codes:
            raise ValueError(f"codes must have shape (n_samples, {n_codes}), got {tuple(codes.shape)}.")
        if is_tensor(codes):
            images = self._operator.synthesize(codes.reshape(-1, *self.code_shape_))
            return images.reshape(len(codes), *self._sample_shape)
        dtype = codes.dtype if codes.dtype in (np.float32, np.float64) else np.float64
        images = np.empty((codes.shape[0], *self._layout.canonical_shape), dtype=dtype)
        for batch in batch_slices(len(images), 2 * n_codes * images.itemsize):
            part = codes[batch].toarray() if sparse.issparse(codes) else codes[batch]
            maps = np.ascontiguousarray(part, dtype=dtype).reshape(-1, *self.code_shape_)
            images[batch] = self._operator.synthesize(maps, n_jobs=self.n_jobs)
        return images.reshape(len(images), *self._sample_shape)

    @warn_once_per_fit
    def score(self, X, y=None):
        """Negative mean objective of the codes of X, higher is better; for "omp" without the penalty.

        Returns
        -------
        float
        """
        values = to_numpy(self._read_signals(X, reset=False).values)
        penalty, total = resolve_penalty(self.penalty, positive=self.positive), 0.0
        for _, detail, codes in self._coded_batches(values):
            residual = (detail - self._operator.synthesize(codes, n_jobs=self.n_jobs)).astype(np.float64)
            total += 0.5 * float((residual * residual).sum())
            if self.pursuit != "omp":
                total += self.alpha * float(penalty.value(codes).sum())
        return -total / len(values)

    def get_feature_names_out(self, input_features=None):
        """Names such as ``atom3_y10_x7``, or those of the input for ``output="reconstruction"``."""
        check_is_fitted(self)
        if self.output == "reconstruction":
            return OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        shape = self._output_shape
        positions = np.indices(shape).reshape(len(shape), -1)
        if len(shape) == 2:
            return np.array([f"atom{k}_x{x}" for x, k in positions.T], dtype=object)
        return np.array([f"atom{k}_y{y}_x{x}" for y, x, k in positions.T], dtype=object)

    @property
    def _output_shape(self):
        return self.code_shape_ if self.pool is None else pooled_shape(self.code_shape_, self.pool_size)

    @property
    def _n_features_out(self):
        return self.n_features_in_ if self.output == "reconstruction" else math.prod(self._output_shape)

    def _features(self, codes):
        pooled = codes if self.pool is None else pool_codes(codes, self.pool, self.pool_size)
        return pooled.reshape(len(codes), -1)

    def _highpassed(self, values):
        """Signals on their grid, minus their smooth part if `highpass` is set."""
        return values if self._low_pass is None else values - self._low_pass(values)

    def _coded_batches(self, values):
        """Batches of signals, their parts that are coded, and the codes."""
        for batch in batch_slices(len(values), 4 * math.prod(self.code_shape_) * values.itemsize):
            detail = self._highpassed(values[batch])
            yield batch, detail, self._pursue(detail)

    def _pursue(self, values):
        """Codes (n_samples, *code_shape_) of signals on their grid."""
        if self.device is not None and self.pursuit != "omp":
            import torch

            return pursue(self, torch.as_tensor(values, device=self.device)).cpu().numpy()
        return pursue(self, values)


@register_module(ConvSparseCoder)
def _as_module(estimator, conversion):
    from .torch import ConvSparseCoderModule

    return ConvSparseCoderModule(estimator, conversion.tensor, conversion.gradient)

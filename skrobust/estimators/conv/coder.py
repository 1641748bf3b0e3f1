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
from skrobust.estimators.shared.conv_atoms import fitted_kernel, given_atoms
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

LEARNING_TOL, LEARNING_SWEEPS = 0.02, 200
"""Relative duality gap and most sweeps of the codes from which atoms are learned."""


@parametrized
class ConvSparseCoder(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Convolutional sparse coder: each image as a sum of few shifted atoms.

    The code of an image x minimises ``1/2 ||x - D z||^2 + alpha ||z||_1``, or the same with another `penalty`, where
    the columns of D are the atoms of `components_` at all positions; or it is found greedily (``pursuit="omp"``), or
    is one thresholded convolution (``pursuit="thresholding"``). Atoms are learned from images by alternating basis
    pursuit and block descent on the atoms, within the unit ball.

    Parameters
    ----------
    n_components : int, default=32
        Atoms.
    kernel_size : int or tuple of int, default=8
        Height and width of the atoms; reduced where the signal is smaller.
    alpha : float, default=0.1
        Weight of the penalty, in learning, too; for "thresholding" the threshold.
    penalty : {"l1", "elastic_net", "group_l1"} or Penalty, default="l1"
        Penalty of the codes, for ``pursuit="bp"``: a name, or an object such as ``GroupL1([0, 0, 1])`` or one of your
        own. `transform` and `score` use it; atoms are always learned with the l1 norm at the same alpha.
    pursuit : {"bp", "omp", "thresholding"}, default="bp"
        "bp": basis pursuit. "omp": orthogonal matching pursuit. "thresholding": soft thresholding of the correlations.
    n_nonzero_coefs : int, float or None, default=None
        Of "omp": coefficients of a signal, or the fraction of its values. None: a tenth of them.
    padding : {"same", "full", "valid", "circular"}, default="same"
        Where atoms may lie; see `skrobust.pursuits.ConvolutionalOperator`.
    stride : int, default=1
        Pixels between positions.
    positive : bool, default=False
        Codes >= 0, in learning, too. Not for "omp"; a penalty object has its own ``positive``.
    highpass : float or None, default=None
        Take the smooth part l of each image away before coding, in learning, too; l minimises ``||x - l||^2 + highpass
        ||grad l||^2``. Small atoms represent it badly. 5 is usual for photographs. None: code images as they are.
    output : {"code", "reconstruction"}, default="code"
        "reconstruction": `transform` returns images, as a front end does: the synthesis, and the smooth part if
        `highpass` took one away.
    clip : tuple of (float, float) or None, default=None
        Lowest and highest value of reconstructions. Codes and `inverse_transform` are not clipped.
    dictionary : array-like of shape ``(n_atoms, *kernel_size[, n_channels])`` or None, default=None
        Atoms to use as they are; nothing is learned then.
    init : {"data", "random"} or array-like, default="data"
        Atoms to begin learning with: patches, noise, or given.
    n_epochs : int, default=10
        Passes over X in `fit`.
    batch_size : int or None, default=None
        Images to an update of the atoms. None: all, an update a pass.
    pool : {None, "max", "sum"}, default=None
        Largest magnitude, or sum of magnitudes, of each atom over cells of `pool_size` positions in place of the code.
    pool_size : int or None, default=None
        Positions along each axis of a cell. None: one cell for all.
    sparse_output : bool, default=False
        Return codes as a CSR array; a dense array of them is never made then.
    max_iter : int, default=1000
        Most iterations of basis pursuit.
    tol : float, default=1e-3
        Relative duality gap of basis pursuit: the objective is within it of its minimum. For a penalty without a known
        dual: largest change of a coefficient by one step, relative to the largest coefficient.
    device : str, torch.device or None, default=None
        Where basis pursuit and thresholding of `transform` run on torch, such as "cuda"; atoms are learned, and "omp"
        runs, on the CPU. None: compiled kernels on the CPU, as basis pursuit has them for "cpu", too.
    random_state : int, RandomState instance or None, default=None
        For the first atoms, the order of batches and the replacement of dead atoms.
    verbose : int, default=0
        1: a line an epoch.

    Attributes
    ----------
    components_ : ndarray of shape ``(n_components, *kernel_size, n_channels)``
        Atoms of norm 1 (as given, for `dictionary`).
    code_shape_ : tuple of int
        A code as maps: ``(*positions, n_components)``. `transform` flattens it in C order.
    objectives_ : list of float
        Mean objective of each epoch, under the atoms that it began with (online: as they were).
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
        """Learn the atoms, or take those of `dictionary`. If it is interrupted, the estimator is as it was before."""
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
                # Codes and sums of the training images have done their work.
                self._learner = None
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from one more batch of images; older ones fade."""
        if hasattr(self, "components_"):
            values = self._detailed(to_numpy(self._read_signals(X, reset=False).values))
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
        """Read X, and get ready to learn from it."""
        signals = self._read_signals(X, reset=True)
        check_clip(self.clip)
        values = to_numpy(signals.values)
        if self.pursuit == "omp" and self.positive:
            raise ValueError("positive=True needs pursuit='bp' or 'thresholding', got pursuit='omp'.")
        if self.pursuit != "bp" and self.penalty != "l1":
            raise ValueError(f"penalty={self.penalty!r} needs pursuit='bp', got pursuit={self.pursuit!r}.")
        resolve_penalty(self.penalty, positive=self.positive)  # refuses what does not fit
        if self.device is not None:
            check_device(self.device)
        self._sample_shape = signals.sample_shape
        grid, n_channels = values.shape[1:-1], values.shape[-1]
        self._low_pass = None if self.highpass is None else LowPass(grid, self.highpass)
        values = self._detailed(values)
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
        """Codes of images, or what the codes stand for.

        Returns
        -------
        ndarray, csr_array or Tensor
            ``output="code"``: shape (n_samples, n_codes), pooled where `pool` says so. ``output="reconstruction"``:
            the shape of X. float32 for float32, else float64. Tensors stay on their device and are differentiable.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            from .torch import transform_tensor

            return transform_tensor(self, signals)
        if self.output == "reconstruction":
            result = np.empty_like(values)
            for batch, details, codes in self._coded(values):
                result[batch] = values[batch] - details + self._operator.synthesize(codes, n_jobs=self.n_jobs)
            return signals.restore(result if self.clip is None else result.clip(*self.clip))
        if self.sparse_output:
            rows = [sparse.csr_array(self._features(codes)) for _, _, codes in self._coded(values)]
            return sparse.vstack(rows, format="csr")
        result = np.empty((len(values), self._n_features_out), dtype=values.dtype)
        for batch, _, codes in self._coded(values):
            result[batch] = self._features(codes)
        return result

    def inverse_transform(self, codes):
        """Images of codes: the synthesis ``D z``. The smooth part that `highpass` took away is not in the codes.

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
            If `pool` is set: pooled codes do not tell where atoms lie.
        """
        check_is_fitted(self)
        if self.pool is not None:
            raise ValueError(f"Codes pooled by pool={self.pool!r} cannot be inverted; use pool=None.")
        if sparse.issparse(codes):
            codes = codes.tocsr()  # whose rows can be taken
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
        for _, details, codes in self._coded(values):
            left = (details - self._operator.synthesize(codes, n_jobs=self.n_jobs)).astype(np.float64)
            total += 0.5 * float((left * left).sum())
            if self.pursuit != "omp":
                total += self.alpha * float(penalty.value(codes).sum())
        return -total / len(values)

    def get_feature_names_out(self, input_features=None):
        """Names such as ``atom3_y10_x7``, or those of the input for ``output="reconstruction"``."""
        check_is_fitted(self)
        if self.output == "reconstruction":
            return OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        shape = self._output_shape
        places = np.indices(shape).reshape(len(shape), -1)
        if len(shape) == 2:
            return np.array([f"atom{k}_x{x}" for x, k in places.T], dtype=object)
        return np.array([f"atom{k}_y{y}_x{x}" for y, x, k in places.T], dtype=object)

    @property
    def _output_shape(self):
        return self.code_shape_ if self.pool is None else pooled_shape(self.code_shape_, self.pool_size)

    @property
    def _n_features_out(self):
        return self.n_features_in_ if self.output == "reconstruction" else math.prod(self._output_shape)

    def _features(self, codes):
        pooled = codes if self.pool is None else pool_codes(codes, self.pool, self.pool_size)
        return pooled.reshape(len(codes), -1)

    def _detailed(self, values):
        """What of signals on their grid is coded."""
        return values if self._low_pass is None else values - self._low_pass(values)

    def _coded(self, values):
        """Batches of signals, what of them is coded, and the codes."""
        for batch in batch_slices(len(values), 4 * math.prod(self.code_shape_) * values.itemsize):
            details = self._detailed(values[batch])
            yield batch, details, self._pursue(details)

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

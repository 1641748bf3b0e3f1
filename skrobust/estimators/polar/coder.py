"""`PolarizingCoder`: hard-thresholded responses, codes that small perturbations hardly change."""

import math
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skrobust.bridge import register_module
from skrobust.signals import SignalTransformer, batch_slices, check_clip, is_tensor
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, parameter, parametrized
from skrobust.signals.tensors import to_numpy

from .ambiguity import ambiguous_share
from .atoms import FilterAtoms
from .bounds import Switches, check_ball
from .sources import make_atoms
from .thresholds import Histograms, choose_thresholds


@parametrized
class PolarizingCoder(ClassNamePrefixFeaturesOutMixin, SignalTransformer):
    """Polarized codes: thresholded responses to atoms of l1 norm 1.

    With atoms d_j of l1 norm 1, an entry of the code of an image x is ::

        z_j = 1 if <d_j, x> > t_j else 0                        (binary)
        z_j = sign(<d_j, x>) if |<d_j, x>| > t_j else 0         (ternary)

    A perturbation e changes <d_j, x> by at most the largest ``|e_i|``, so it changes z_j only if the response lies
    within ``eps`` of the threshold. How often this happens depends on the data; see `ambiguous_share`.

    Parameters
    ----------
    dictionary : {"pixel", "average", "learned"}, str, pywt.Wavelet or array-like, default="pixel"
        "pixel": each value is an atom. "average": means over windows of `kernel_size`, each channel by itself.
        "learned": `n_components` filters of `kernel_size` learned from patches of X. The name of an orthogonal
        wavelet ("haar", "db2", ...): its analysis atoms. An array holds atoms of shape ``(n_atoms, n_features)``, or
        filters of shape ``(n_filters, *kernel_size[, n_channels])`` that are slid over the image.
        Atoms are divided by their l1 norms.
    threshold : "auto", float or array-like, default="auto"
        A number; one per group of atoms or one per atom; or an array of shape ``(n_groups, n_thresholds)`` or
        ``(n_atoms, n_thresholds)``. A group is a channel, filter or wavelet band. "auto" chooses `n_thresholds` of
        them so that the share of training responses within `eps` is smallest, relative to the share of pairs of
        signals that the threshold separates, with `min_share` of the responses on either side.
    n_thresholds : int, default=1
        Number of chosen thresholds per atom; a code has one entry for each (a thermometer code).
    levels : {"binary", "ternary"}, default="binary"
        Ternary codes need thresholds >= 0.
    eps : float, default=0.1
        The perturbation, in the units of X, for which thresholds are chosen.
    min_share : float in [0, 0.5], default=0.05
        Smallest share of an atom's training responses on either side of a chosen threshold. Ignored if half of the
        differences that such thresholds detect could be changed.
    share_thresholds : bool, default=True
        Choose one set of thresholds per group rather than per atom.
    kernel_size : int or tuple of int, default=3
        For "average" and "learned"; reduced if the signal is smaller.
    stride : int, default=1
        Step between the positions of filters.
    n_components : int, default=16
        Number of learned filters.
    signed : bool, default=False
        Learn filters of zero mean. False: non-negative filters, whose responses have twice the range.
    level : int, default=1
        Levels of a wavelet.
    output : {"code", "reconstruction"}, default="code"
        "reconstruction": `transform` returns images, as a front end does.
    clip : tuple of (float, float) or None, default=None
        Smallest and largest value of reconstructions. Codes and `inverse_transform` are not clipped.
    sparse_output : bool, default=False
        Return codes as a CSR array.
    random_state : int, RandomState instance or None, default=None
        For learned filters.

    Attributes
    ----------
    thresholds_ : ndarray of shape (n_groups, n_thresholds) or (n_atoms, n_thresholds)
        Ascending, for atoms of l1 norm 1.
    components_ : ndarray of shape ``(n_filters, *kernel_size, n_channels)``
        Filters of l1 norm 1; only for filters and given atoms.
    code_shape_ : tuple of int
        A code as maps: ``(*positions, n_filters * n_thresholds)``. `transform` flattens it in C order.
    level_means_ : ndarray of shape (n_groups or n_atoms, n_thresholds + 1)
        Mean training response (ternary: its magnitude) between thresholds, used by `inverse_transform`.
    switches_ : Switches
        Atoms and comparisons of the code, with `bounds` and `flip_distances` under perturbations.

    See Also
    --------
    skrobust.certificates.certify : Exact worst case of linear classifiers on these codes.

    Notes
    -----
    Comparisons are strict. For pixels they involve no arithmetic: float32 and float64 give the same code, and
    `code_bounds` is exact to the last bit. Memory beyond the result: the responses of one batch.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import PolarizingCoder
    >>> X = load_digits().data / 16
    >>> coder = PolarizingCoder(image_shape=(8, 8), eps=0.1).fit(X)
    >>> coder.transform(X).shape, coder.code_shape_
    ((1797, 64), (8, 8, 1))
    >>> bool(coder.ambiguous_share(X, 0.1).overall < 0.25)
    True
    """

    dictionary: object = parameter("pixel", positional=True)  # checked in `fit` against the signals
    threshold: ArrayLike = parameter("auto")  # likewise
    n_thresholds: int = parameter(1, AT_LEAST_1)
    levels: str = parameter("binary", {"binary", "ternary"})
    eps: float = parameter(0.1, NON_NEGATIVE)
    min_share: float = parameter(0.05, Interval(Real, 0, 0.5, closed="both"))
    share_thresholds: bool = parameter(True, "boolean")
    kernel_size: int | tuple = parameter(3, AT_LEAST_1, tuple, list)
    stride: int = parameter(1, AT_LEAST_1)
    n_components: int = parameter(16, AT_LEAST_1)
    signed: bool = parameter(False, "boolean")
    level: int = parameter(1, Interval(Integral, 0, None, closed="left"))
    output: str = parameter("code", {"code", "reconstruction"})
    clip: tuple | None = parameter(None, tuple, list)
    sparse_output: bool = parameter(False, "boolean")
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn atoms (for "learned"), thresholds and levels."""
        signals = self._read_signals(X, reset=True)
        check_clip(self.clip)
        values = to_numpy(signals.values)
        atoms = make_atoms(
            self.dictionary,
            self._layout,
            values,
            kernel_size=self.kernel_size,
            stride=self.stride,
            n_components=self.n_components,
            signed=self.signed,
            level=self.level,
            random_state=check_random_state(self.random_state),
        )
        ternary = self.levels == "ternary"
        thresholds, groups = self._threshold_table(atoms)
        histograms = Histograms(atoms, values, groups, ternary, n_jobs=self.n_jobs)
        if thresholds is None:
            thresholds = choose_thresholds(histograms, self.eps, self.n_thresholds, self.min_share)
        if ternary and thresholds.min() < 0:
            raise ValueError(f"levels='ternary' needs thresholds >= 0, got {thresholds.min():g} in threshold.")
        self.thresholds_ = thresholds
        self.level_means_ = histograms.level_means(thresholds)
        self.code_shape_ = (*atoms.positions, atoms.n_filters * thresholds.shape[1])
        if isinstance(atoms, FilterAtoms):
            self.components_ = atoms.filters
        else:
            vars(self).pop("components_", None)  # of an earlier fit with another dictionary
        self._groups = groups
        self._sample_shape = signals.sample_shape
        scaled_thresholds = (thresholds[groups] * atoms.scale[:, None]).ravel()
        self.switches_ = Switches(atoms, scaled_thresholds, thresholds.shape[1], ternary)
        return self

    def _threshold_table(self, atoms):
        """Given thresholds, or None, and the row of the thresholds of each atom."""
        per_atom = np.arange(atoms.n_atoms)
        if isinstance(self.threshold, str):
            if self.threshold != "auto":
                raise ValueError(f"threshold must be 'auto', a number or an array, got {self.threshold!r}.")
            return None, atoms.groups if self.share_thresholds else per_atom
        thresholds = np.asarray(self.threshold, dtype=np.float64)
        if not np.isfinite(thresholds).all():
            raise ValueError("threshold contains NaN or infinity.")
        if thresholds.ndim == 0:
            return np.full((atoms.n_groups, 1), float(thresholds)), atoms.groups
        table = np.sort(thresholds[:, None] if thresholds.ndim == 1 else thresholds, axis=-1)
        if table.ndim != 2 or table.shape[0] not in (atoms.n_groups, atoms.n_atoms) or table.shape[1] == 0:
            raise ValueError(
                f"threshold of shape {thresholds.shape} fits neither the {atoms.n_groups} groups of atoms (channels, "
                f"filters or bands) nor the {atoms.n_atoms} atoms: give one number, one per group or atom, or as many "
                "rows."
            )
        return table, atoms.groups if table.shape[0] == atoms.n_groups else per_atom

    def transform(self, X):
        """Codes of images, or their reconstructions.

        Returns
        -------
        ndarray, csr_array or Tensor
            ``output="code"``: shape (n_samples, n_codes), values 0 and 1, or -1, 0 and 1.
            ``output="reconstruction"``: the shape of X. float32 for float32, else float64.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            from .torch import encode_tensor

            result = encode_tensor(self, values)
            return result if self.output == "code" else signals.restore(result)
        if self.output == "reconstruction":
            return signals.restore(self._reconstruct(values))
        if not self.sparse_output:
            return self.switches_.encode(values, n_jobs=self.n_jobs)
        rows = []
        for batch in batch_slices(len(values), 2 * self._n_features_out * values.itemsize):
            rows.append(sparse.csr_array(self.switches_.encode(values[batch], n_jobs=self.n_jobs)))
        return sparse.vstack(rows, format="csr")

    def inverse_transform(self, codes):
        """Images from codes: each level is replaced by its mean training response.

        Filters are inverted patch by patch and overlapping patches averaged; atoms as large as the image by least
        squares; wavelets by their inverse transform.

        Parameters
        ----------
        codes : ndarray or sparse array of shape (n_samples, n_codes)

        Returns
        -------
        ndarray of shape (n_samples, n_features), or of images where `fit` saw images
        """
        codes = codes if sparse.issparse(codes) else np.asarray(codes)
        n_codes = math.prod(self.code_shape_)
        if codes.ndim != 2 or codes.shape[1] != n_codes:
            raise ValueError(f"codes must have shape (n_samples, {n_codes}), got {codes.shape}.")
        dtype = codes.dtype if codes.dtype in (np.float32, np.float64) else np.float64
        return self._decode(codes.astype(dtype)).reshape(codes.shape[0], *self._sample_shape)

    def responses(self, X):
        """Inner products with the atoms of l1 norm 1, which `transform` compares with `thresholds_`.

        Returns
        -------
        ndarray of shape ``(n_samples, *positions, n_filters)``
        """
        values = self._read_arrays(X)
        atoms = self.switches_.atoms
        responses = atoms.responses(values, n_jobs=self.n_jobs) / atoms.scale.astype(values.dtype)
        return responses.reshape(len(values), *atoms.positions, atoms.n_filters)

    def code_bounds(self, X, eps, *, norm="linf", clip=None):
        """Bounds of the code entries under perturbations.

        Parameters
        ----------
        eps : float or array-like of shape (n_samples,)
            Norm of the perturbation.
        norm : {"linf", "l2", "l1"}, default="linf"
        clip : pair of float or None, default=None
            Range in which perturbed values stay.

        Returns
        -------
        CodeBounds
            ``lower`` and ``upper``, and the masks ``surely_on``, ``surely_off`` and ``ambiguous``, all of shape
            (n_samples, n_codes). Each entry's range is exact for pixels; for other atoms it includes all rounding
            and is sound. In general entries cannot reach their bounds together, except for pixels in linf.
        """
        values = self._read_arrays(X)
        return self.switches_.bounds(values, check_ball(eps, norm, clip, values), norm, clip, n_jobs=self.n_jobs)

    def ambiguous_share(self, X, eps, *, norm="linf", clip=None):
        """The share of the code that a perturbation can change, and a verdict on it.

        Parameters
        ----------
        eps : float
        norm : {"linf", "l2", "l1"}, default="linf"
        clip : pair of float or None, default=None

        Returns
        -------
        AmbiguousShare
            ``overall``, ``per_atom``, ``per_image``, ``ratio`` and a ``verdict`` in words.
        """
        bounds = self.code_bounds(X, eps, norm=norm, clip=clip)
        codes = self.switches_.encode(self._read_arrays(X), n_jobs=self.n_jobs)
        return ambiguous_share(codes, bounds, self.code_shape_, eps, norm)

    def get_feature_names_out(self, input_features=None):
        """Names of the entries of the code, or those of the input for ``output="reconstruction"``."""
        if self.output == "reconstruction":
            return OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        return super().get_feature_names_out(input_features)

    @property
    def _n_features_out(self):
        return self.n_features_in_ if self.output == "reconstruction" else math.prod(self.code_shape_)

    def _read_arrays(self, X):
        return to_numpy(self._read_signals(X, reset=False).values)

    def _reconstruct(self, values):
        result = np.empty_like(values)
        for batch in batch_slices(len(values), 2 * math.prod(self.code_shape_) * values.itemsize):
            codes = self.switches_.encode(values[batch], n_jobs=self.n_jobs)
            result[batch] = self._decode(codes).reshape(result[batch].shape)
        return result if self.clip is None else result.clip(*self.clip)

    def _decode(self, codes):
        matrix, offset = self._decoder()
        return codes @ matrix.T.astype(codes.dtype) + offset.astype(codes.dtype)

    def _decoder(self):
        """The affine map from codes to images: sparse matrix of shape (n_features, n_codes), and offset."""
        atoms, means = self.switches_.atoms, self.level_means_
        if self.switches_.ternary:
            means = np.concatenate([np.zeros((len(means), 1)), means[:, 1:]], axis=1)
        means = means[self._groups] * atoms.scale[:, None]
        synthesis = atoms.synthesis()
        n_atoms, n_thresholds = atoms.n_atoms, self.thresholds_.shape[1]
        shape = n_atoms, n_atoms * n_thresholds
        rows = np.repeat(np.arange(n_atoms), n_thresholds)
        steps = sparse.csr_array((np.diff(means, axis=1).ravel(), (rows, np.arange(shape[1]))), shape=shape)
        return sparse.csr_array(synthesis @ steps), synthesis @ means[:, 0]


@register_module(PolarizingCoder)
def _as_module(estimator, conversion):
    from .torch import PolarizingModule

    return PolarizingModule(estimator, conversion.tensor, conversion.gradient)

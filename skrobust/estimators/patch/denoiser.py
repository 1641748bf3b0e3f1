"""`PatchDictionaryDenoiser`: overlapping patches, each approximated by few atoms, averaged."""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import OneToOneFeatureMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods

from skrobust.bridge import register_module
from skrobust.pursuits.greedy.omp.batches import resolve_max_atoms
from skrobust.signals import SignalTransformer, batch_slices, check_clip, clip_values, is_tensor
from skrobust.signals.parameters import AT_LEAST_1, FRACTION, NON_NEGATIVE, POSITIVE, parameter, parametrized
from skrobust.signals.tensors import to_numpy

from .grid import PatchGrid


@parametrized
class PatchDictionaryDenoiser(OneToOneFeatureMixin, SignalTransformer):
    """Denoising front end: overlapping patches, each approximated by a few atoms of a dictionary, are averaged.

    The means of its channels are subtracted from each patch. The remainder is coded by orthogonal matching pursuit,
    with at most K atoms, or until the residual norm is ``gain * noise_std * sqrt(n)`` for a patch of n values. The
    result at a pixel is the mean of the patches that cover it, and optionally of the image itself [1]_::

        (image_weight * x + sum of patches) / (image_weight + number of patches),    then clipped

    Parameters
    ----------
    n_components : int or None, default=None
        Number of atoms. None: four times the pixels of a patch, 256 for patches of 8 x 8; that of a given `dictionary`
        or `learner`.
    patch_size : int or tuple of int, default=8
        Height and width of a patch, or its length for 1-D signals; one int for all axes. A patch has all channels.
        Patches larger than the image are reduced to its size.
    stride : int or tuple of int, default=1
        Distance between patches, at most `patch_size`. The last patches are shifted inward, so that every pixel is
        covered.
    n_nonzero_coefs : int, float or None, default=None
        K: an int, or a fraction of the values of a patch as a float in (0, 1]. None: no limit with `noise_std`;
        without, a tenth of the values, at least one.
    noise_std : float or None, default=None
        Standard deviation of the noise, in the units of X. With `n_nonzero_coefs`, the first criterion met counts.
    gain : float, default=1.15
        Factor of the noise level at which the pursuit stops, C in [1]_.
    selection : {"omp", "ols"}, default="omp"
        How the next atom is chosen, see `skrobust.pursuits.orthogonal_mp`.
    remove_mean : bool, default=True
        Whether to subtract the means. False: the dictionary must represent them too.
    image_weight : float, default=0.0
        Weight of the image itself, lambda in [1]_, where it is 30 / sigma for sigma on the scale of 0 to 255.
    dictionary : {"training", "image", "dct"} or array-like, default="training"
        "training": learned in `fit` from patches of X. "image": learned from the patches of each denoised image, which
        needs `noise_std` or `n_nonzero_coefs` well below the size of a patch, and time. "dct": an
        overcomplete discrete cosine transform. Or the atoms, of shape ``(n_components, n_features)`` or
        ``(n_components, height, width[, n_channels])``.
    learner : estimator or None, default=None
        Learns the dictionary: any estimator with `fit` and `components_`, such as `skrobust.dictionaries.KSVD`; it
        is cloned, and its `n_components`, `random_state` and `n_jobs` are set to those given here. None: online
        learning; for ``dictionary="image"`` ten iterations of K-SVD from the cosine transform, as in [1]_. Both code
        patches by the rule of the denoiser.
    max_patches : int, default=50000
        Maximum number of random patches to learn from; for ``dictionary="image"`` per image.
    clip : tuple of (float, float) or None, default=None
        Smallest and largest value of the result.
    random_state : int, RandomState instance or None, default=None
        For the draw of patches and the learner.
    verbose : int, default=0
        Whether the learner shows its progress.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_values_of_a_patch)
        Atoms, channels last. Not for ``dictionary="image"``.
    learner_ : estimator
        The fitted learner, for ``dictionary="training"``.
    patch_size_ : tuple of int
        Effective size along the axes of the grid.
    n_patches_ : int
        Number of patches of one image.

    See Also
    --------
    skrobust.as_module : The front end as a differentiable torch module.
    skrobust.dictionaries.DictionaryDisplay : The atoms as a picture.

    Notes
    -----
    Each thread processes a few hundred patches at a time. Batches of images respect scikit-learn's ``working_memory``
    (1 GiB). Learning stores `max_patches` patches.

    References
    ----------
    .. [1] M. Elad and M. Aharon, "Image denoising via sparse and redundant representations over learned
       dictionaries", IEEE Trans. Image Processing 15(12), 2006.
    .. [2] J. Mitro, D. Bridge and S. Prestwich, "Denoising dictionary learning against adversarial perturbations",
       arXiv:1801.02257.

    Examples
    --------
    >>> import numpy as np
    >>> from skimage.data import camera
    >>> from skrobust import PatchDictionaryDenoiser
    >>> image = camera()[None, 100:196, 200:296] / 255
    >>> noisy = image + 0.1 * np.random.default_rng(0).standard_normal(image.shape)
    >>> denoiser = PatchDictionaryDenoiser(noise_std=0.1, dictionary="dct", clip=(0, 1)).fit(noisy)
    >>> cleaned = denoiser.transform(noisy)
    >>> bool(np.std(cleaned - image) < 0.5 * np.std(noisy - image))
    True
    """

    n_components: int | None = parameter(None, AT_LEAST_1, positional=True)
    patch_size: int | tuple = parameter(8, AT_LEAST_1, tuple, list)
    stride: int | tuple = parameter(1, AT_LEAST_1, tuple, list)
    n_nonzero_coefs: int | float | None = parameter(None, AT_LEAST_1, FRACTION)
    noise_std: float | None = parameter(None, NON_NEGATIVE)
    gain: float = parameter(1.15, POSITIVE)
    selection: str = parameter("omp", {"omp", "ols"})
    remove_mean: bool = parameter(True, "boolean")
    image_weight: float = parameter(0.0, NON_NEGATIVE)
    dictionary: ArrayLike = parameter("training", {"training", "image", "dct"}, "array-like")
    learner: object = parameter(None, HasMethods(["fit", "set_params"]))
    max_patches: int = parameter(50_000, AT_LEAST_1)
    clip: tuple | None = parameter(None, tuple, list)
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the layout of the images and, with ``dictionary="training"``, the atoms.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Clean images, for a dictionary to be learned from.
        """
        values = self._read_grid(X)
        if self._learns_in("fit"):
            self.learner_ = self._new_learner().fit(self._random_patches(values, self._random_state))
            self.components_ = self.learner_.components_
        else:
            self._fix_components(values.dtype)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from one more batch of a stream of images.

        Raises
        ------
        TypeError
            If `learner` has no `partial_fit`.
        ValueError
            As `fit`, and for images of another shape than those before.
        """
        is_first = not self.__sklearn_is_fitted__()
        values = self._read_grid(X) if is_first else to_numpy(self._read_signals(X, reset=False).values)
        if not self._learns_in("fit"):
            self._fix_components(values.dtype)
            return self
        learner = getattr(self, "learner_", None) or self._new_learner()
        if not hasattr(learner, "partial_fit"):
            raise TypeError(
                f"learner={self.learner!r} has no partial_fit: use skrobust.dictionaries.OnlineDictionaryLearning, "
                "or fit on all images at once."
            )
        self.learner_ = learner.partial_fit(self._random_patches(values, self._random_state))
        self.components_ = self.learner_.components_
        return self

    def transform(self, X):
        """Denoise images.

        Returns
        -------
        ndarray or Tensor of the shape of X
            float32 for float32, else float64. Tensors stay on their device and are differentiable, for fixed
            atoms of each patch.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            from skrobust.bridge import as_module

            return signals.restore(as_module(self, dtype=values.dtype, device=values.device)(values))
        sums = np.empty_like(values)
        for part, pursuit in self._pursuits(values):
            sums[part] = pursuit.sums(values[part])
        denoised = self._average(sums, values)
        return signals.restore(denoised if self.clip is None else clip_values(denoised, *self.clip))

    def atom_usage(self, X):
        """Number of patches of X that use each atom.

        Returns
        -------
        ndarray of int of shape (n_components,)
        """
        values = to_numpy(self._read_signals(X, reset=False).values)
        if self._learns_in("transform"):
            raise ValueError("atom_usage needs one dictionary for all images; dictionary='image' has one for each.")
        usage = np.zeros(len(self.components_), dtype=np.int64)
        ((_, pursuit),) = self._pursuits(values)
        for batch in batch_slices(len(values), 4 * self.n_patches_ * (pursuit.max_atoms + 1)):
            _, supports, sizes = pursuit.sums(values[batch], return_supports=True)
            used = supports[np.arange(pursuit.max_atoms) < sizes[:, None]]
            usage += np.bincount(used, minlength=len(usage))
        return usage

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_grid") and (hasattr(self, "components_") or self._learns_in("transform"))

    def _learns_in(self, method):
        """Whether the dictionary is learned in "fit" or "transform"."""
        word = {"fit": "training", "transform": "image"}[method]
        return isinstance(self.dictionary, str) and self.dictionary == word

    def _read_grid(self, X):
        """Values of the images of the first fit, whose layout is learned; forgets earlier fits."""
        values = to_numpy(self._read_signals(X, reset=True).values)
        check_clip(self.clip)
        for name in ("learner_", "components_"):
            vars(self).pop(name, None)
        self._random_state = check_random_state(self.random_state)
        self._grid = PatchGrid(values.shape[1:-1], values.shape[-1], self.patch_size, self.stride)
        self.patch_size_ = self._grid.sample_size
        self.n_patches_ = self._grid.n_patches
        return values

    @property
    def _tol(self):
        """Norm of the residual at which a pursuit stops."""
        if self.noise_std is None:
            return None
        return float(self.gain * self.noise_std * math.sqrt(self._grid.n_features))

    def _fix_components(self, dtype):
        from .dictionary import default_n_atoms, fixed_atoms

        n_atoms = self.n_components or default_n_atoms(self._grid)
        if not self._learns_in("transform"):
            self.components_ = fixed_atoms(self.dictionary, self.n_components, self._grid, dtype)
            n_atoms = len(self.components_)
        resolve_max_atoms(self.n_nonzero_coefs, self._tol, n_atoms, self._grid.n_features)

    def _new_learner(self):
        from .dictionary import new_learner

        seed = self._random_state.randint(np.iinfo(np.int32).max)
        return new_learner(self, self._grid, from_one_image=False, random_state=seed)

    def _random_patches(self, values, random_state):
        from .dictionary import random_patches

        return random_patches(
            values,
            self._grid,
            max_patches=self.max_patches,
            remove_mean=self.remove_mean,
            random_state=random_state,
        )

    def _image_components(self, image):
        """Atoms learned from one image; they depend on the image and the seed only."""
        from .dictionary import new_learner

        random_state = check_random_state(self.random_state)
        patches = self._random_patches(image, random_state)
        seed = random_state.randint(np.iinfo(np.int32).max)
        return new_learner(self, self._grid, from_one_image=True, random_state=seed).fit(patches).components_

    def _pursuits(self, values):
        """Slices of the images and the `PatchPursuit` of each: one for all, or one per image."""
        from .pursuit import PatchPursuit

        pieces = [(slice(None), None)]
        if self._learns_in("transform"):
            pieces = ((slice(i, i + 1), self._image_components(values[i : i + 1])) for i in range(len(values)))
        for part, components in pieces:
            components = self.components_ if components is None else components
            pursuit = PatchPursuit(
                self._grid,
                components.astype(values.dtype, copy=False),
                n_nonzero_coefs=self.n_nonzero_coefs,
                tol=self._tol,
                selection=self.selection,
                remove_mean=self.remove_mean,
                n_jobs=self.n_jobs,
            )
            yield part, pursuit

    def _average(self, sums, values):
        """Weighted mean of patches and image at each pixel, not clipped; for arrays or tensors."""
        coverage = self._grid.coverage.reshape(1, *values.shape[1:-1], 1).astype(np.float64) + self.image_weight
        coverage = values.new_tensor(coverage) if is_tensor(values) else coverage.astype(values.dtype)
        return (sums + self.image_weight * values) / coverage if self.image_weight else sums / coverage


@register_module(PatchDictionaryDenoiser)
def _as_module(estimator, conversion):
    from .torch import PatchModule

    return PatchModule(estimator, conversion)

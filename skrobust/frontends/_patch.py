"""`PatchDictionaryDenoiser`: overlapping patches, each approximated by few atoms, averaged."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.base import OneToOneFeatureMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skrobust.bridge import register_module
from skrobust.pursuits._omp_batches import most_atoms
from skrobust.signals import SignalTransformer, batch_slices, check_clip, clip_values, is_tensor

from ._patch_grid import PatchGrid


class PatchDictionaryDenoiser(OneToOneFeatureMixin, SignalTransformer):
    """Denoising front end: overlapping patches, each approximated by a few atoms of a dictionary, are averaged.

    From each patch the means of its channels are set apart; what is left is coded by orthogonal matching pursuit, with
    at most K atoms, or with as many as bring the residual down to the noise, ``gain * noise_std * sqrt(n)`` for a patch
    of n values. The result at a pixel is the mean of the patches that cover it, in which the image itself may have
    a say [1]_::

        (image_weight * x + sum of patches) / (image_weight + number of patches),    then clipped

    Parameters
    ----------
    n_components : int or None, default=None
        Atoms. None: four times the pixels of a patch, 256 for patches of 8 x 8; with a given `dictionary` or `learner`
        as many as that has.
    patch_size : int or tuple of int, default=8
        Height and width of a patch, or its length for 1-D signals; one int for all axes. A patch has all channels.
        Patches larger than the image are reduced to fit.
    stride : int or tuple of int, default=1
        Steps from patch to patch, at most `patch_size`. The last patches are moved in, so that every pixel is covered.
    n_nonzero_coefs : int, float or None, default=None
        K: an int, or a fraction of the values of a patch as a float in (0, 1]. None: with `noise_std` as many as it
        takes, without a tenth of the values, at least one.
    noise_std : float or None, default=None
        Standard deviation of the noise, in the units of X. With `n_nonzero_coefs`, whichever ends the pursuit first.
    gain : float, default=1.15
        How far above the noise the pursuit stops, C in [1]_.
    selection : {"omp", "ols"}, default="omp"
        How the next atom is chosen, see `skrobust.pursuits.orthogonal_mp`.
    remove_mean : bool, default=True
        Whether the means are set apart. False: the dictionary has to represent them too.
    image_weight : float, default=0.0
        Weight of the image itself, lambda in [1]_, where it is 30 / sigma for sigma on the scale of 0 to 255.
    dictionary : {"training", "image", "dct"} or array-like, default="training"
        "training": learned in `fit` from patches of X. "image": learned anew from the patches of each image that is
        denoised, which needs `noise_std` or `n_nonzero_coefs` well below the size of a patch, and time. "dct": an
        overcomplete discrete cosine transform. Or the atoms, of shape ``(n_components, n_features)`` or
        ``(n_components, height, width[, n_channels])``.
    learner : estimator or None, default=None
        Learns the dictionary: any estimator with `fit` and `components_`, such as `skrobust.dictionaries.KSVD`; it
        is cloned, and its `n_components`, `random_state` and `n_jobs` follow those given here. None: online
        learning; for ``dictionary="image"`` ten iterations of K-SVD from the cosine transform, as in [1]_. Both code
        patches by the rule of the denoiser.
    max_patches : int, default=50000
        Patches that are learned from in one call, drawn at random; for ``dictionary="image"`` from each image.
    clip : tuple of (float, float) or None, default=None
        Lowest and highest value of the result.
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images that come as rows of a 2-D X. None: rows are
        1-D signals.
    random_state : int, RandomState instance or None, default=None
        For the draw of patches and the learner.
    n_jobs : int or None, default=None
        Threads. None: what the environment allows. The result does not depend on it.
    verbose : int, default=0
        Whether the learner shows its progress.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_values_of_a_patch)
        Atoms, channels last. Not for ``dictionary="image"``.
    learner_ : estimator
        The fitted learner, for ``dictionary="training"``.
    patch_size_ : tuple of int
        Along the axes of the grid, as used.
    n_patches_ : int
        Patches of one image.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only when X has feature names.

    See Also
    --------
    skrobust.as_module : The front end as a differentiable torch module.
    skrobust.dictionaries.DictionaryDisplay : The atoms as a picture.

    Notes
    -----
    Patches are never stored: they are read from the image, coded and added to the result a few hundred at a time in
    each thread. Images are taken in batches of which each needs no more than scikit-learn's ``working_memory``
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

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "patch_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "stride": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right"), None],
        "noise_std": [Interval(Real, 0, None, closed="left"), None],
        "gain": [Interval(Real, 0, None, closed="neither")],
        "selection": [StrOptions({"omp", "ols"})],
        "remove_mean": ["boolean"],
        "image_weight": [Interval(Real, 0, None, closed="left")],
        "dictionary": [StrOptions({"training", "image", "dct"}), "array-like"],
        "learner": [HasMethods(["fit", "set_params"]), None],
        "max_patches": [Interval(Integral, 1, None, closed="left")],
        "clip": [None, tuple, list],
        "image_shape": [None, tuple, list],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=None,
        *,
        patch_size=8,
        stride=1,
        n_nonzero_coefs=None,
        noise_std=None,
        gain=1.15,
        selection="omp",
        remove_mean=True,
        image_weight=0.0,
        dictionary="training",
        learner=None,
        max_patches=50_000,
        clip=None,
        image_shape=None,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.patch_size = patch_size
        self.stride = stride
        self.n_nonzero_coefs = n_nonzero_coefs
        self.noise_std = noise_std
        self.gain = gain
        self.selection = selection
        self.remove_mean = remove_mean
        self.image_weight = image_weight
        self.dictionary = dictionary
        self.learner = learner
        self.max_patches = max_patches
        self.clip = clip
        self.image_shape = image_shape
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the layout of the images and, with ``dictionary="training"``, the atoms.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Clean images, for a dictionary to be learned from.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter does not fit X, naming both.
        """
        values = self._read_grid(X)
        if self._learns_in("fit"):
            self.learner_ = self._new_learner().fit(self._drawn_patches(values, self._random_state))
            self.components_ = self.learner_.components_
        else:
            self._fix_components(values.dtype)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Learn from one more batch of a stream of images.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `learner` has no `partial_fit`.
        ValueError
            As `fit`, and for images of another shape than those before.
        """
        is_first = not self.__sklearn_is_fitted__()
        values = self._read_grid(X) if is_first else _as_array(self._read_signals(X, reset=False).values)
        if not self._learns_in("fit"):
            self._fix_components(values.dtype)
            return self
        learner = getattr(self, "learner_", None) or self._new_learner()
        if not hasattr(learner, "partial_fit"):
            raise TypeError(
                f"learner={self.learner!r} has no partial_fit: use skrobust.dictionaries.OnlineDictionaryLearning, "
                "or fit on all images at once."
            )
        self.learner_ = learner.partial_fit(self._drawn_patches(values, self._random_state))
        self.components_ = self.learner_.components_
        return self

    def transform(self, X):
        """Denoise images.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray or Tensor of the shape of X
            float32 for float32, else float64. Tensors stay on their device and are differentiable, the atoms of each
            patch held fixed.
        """
        signals = self._read_signals(X, reset=False)
        values = signals.values
        if is_tensor(values):
            from skrobust.bridge import as_module

            return signals.restore(as_module(self, dtype=values.dtype, device=values.device)(values))
        sums = np.empty_like(values)
        for part, pursuit in self._pursuits(values):
            sums[part] = pursuit.sums(values[part])
        cleaned = self._average(sums, values)
        return signals.restore(cleaned if self.clip is None else clip_values(cleaned, *self.clip))

    def atom_usage(self, X):
        """How many patches of X use each atom.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of int of shape (n_components,)
        """
        values = _as_array(self._read_signals(X, reset=False).values)
        if self._learns_in("transform"):
            raise ValueError("atom_usage needs one dictionary for all images; dictionary='image' has one for each.")
        usage = np.zeros(len(self.components_), dtype=np.int64)
        ((_, pursuit),) = self._pursuits(values)
        for batch in batch_slices(len(values), 4 * self.n_patches_ * (pursuit.most + 1)):
            _, supports, sizes = pursuit.sums(values[batch], return_supports=True)
            used = supports[np.arange(pursuit.most) < sizes[:, None]]
            usage += np.bincount(used, minlength=len(usage))
        return usage

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_grid") and (hasattr(self, "components_") or self._learns_in("transform"))

    def _learns_in(self, method):
        """Whether the dictionary is learned in "fit" or "transform"."""
        word = {"fit": "training", "transform": "image"}[method]
        return isinstance(self.dictionary, str) and self.dictionary == word

    def _read_grid(self, X):
        """Values of the images of the first fit, whose layout is learned; what was known before is forgotten."""
        values = _as_array(self._read_signals(X, reset=True).values)
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
        from ._patch_dictionary import default_n_atoms, fixed_atoms

        n_atoms = self.n_components or default_n_atoms(self._grid)
        if not self._learns_in("transform"):
            self.components_ = fixed_atoms(self.dictionary, self.n_components, self._grid, dtype)
            n_atoms = len(self.components_)
        most_atoms(self.n_nonzero_coefs, self._tol, n_atoms, self._grid.n_features)

    def _new_learner(self):
        from ._patch_dictionary import new_learner

        seed = self._random_state.randint(np.iinfo(np.int32).max)
        return new_learner(self, self._grid, of_one_image=False, random_state=seed)

    def _drawn_patches(self, values, random_state):
        from ._patch_dictionary import drawn_patches

        return drawn_patches(
            values,
            self._grid,
            max_patches=self.max_patches,
            remove_mean=self.remove_mean,
            random_state=random_state,
        )

    def _image_components(self, image):
        """Atoms learned from one image; the same for the same image and seed."""
        from ._patch_dictionary import new_learner

        random_state = check_random_state(self.random_state)
        patches = self._drawn_patches(image, random_state)
        seed = random_state.randint(np.iinfo(np.int32).max)
        return new_learner(self, self._grid, of_one_image=True, random_state=seed).fit(patches).components_

    def _pursuits(self, values):
        """Slices of the images and what denoises each: all at once, or image by image."""
        from ._patch_pursuit import PatchPursuit

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
        """What the sums of patches and the images make together, not clipped; arrays or tensors."""
        coverage = self._grid.coverage.reshape(1, *values.shape[1:-1], 1).astype(np.float64) + self.image_weight
        coverage = values.new_tensor(coverage) if is_tensor(values) else coverage.astype(values.dtype)
        return (sums + self.image_weight * values) / coverage if self.image_weight else sums / coverage


def _as_array(values):
    return values.detach().cpu().numpy() if is_tensor(values) else values


@register_module(PatchDictionaryDenoiser)
def _as_module(estimator, conversion):
    from ._patch_torch import PatchModule

    return PatchModule(estimator, conversion)

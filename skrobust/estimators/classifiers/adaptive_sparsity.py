"""`AdaptiveSparsity`: the sparsity of codes follows the noise of each image."""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils import check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from skrobust.bridge import as_module, register_module
from skrobust.signals import is_tensor, parameter, parametrized, restored_on_error
from skrobust.signals.parameters import AT_LEAST_1
from skrobust.signals.tensors import to_numpy


def _has_probabilities(self):
    return hasattr(getattr(self, "estimator_", self.estimator), "predict_proba")


@parametrized
class AdaptiveSparsity(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier of sparse codes whose sparsity is chosen for each image, from what its codes leave out.

    Noise that atoms cannot represent stays in the residual x - A(z) of sparse codes z. The noisier an image, the
    sparser its codes should be. `fit` learns that relation as a line from residual to sparsity, on corrupted training
    images; `predict` measures the residual of an image and sets the sparsity accordingly. This is Algorithm 1 of [1]_.

    Parameters
    ----------
    estimator : classifier, Pipeline or torch.nn.Module
        It contains a `ConvSparseCoder` (parameter ``alpha``), a `WaveletSparsifier` (``n_nonzero_coefs``), or a network
        with layers of type `skrobust.nn.CSCLayer` (``alpha``, one value for all of them).
    corruptions : sequence of object, or dict of str to such sequences
        What corrupts training images, one object per level of noise; a dict has one sequence per kind. An object has
        ``perturb(model, X, y)``: `skrobust.evaluation.corruption_levels` makes them, and attacks are such objects too.
    kind : str or None, default=None
        The kind in `corruptions` that is expected at prediction. None: it is unknown, and one line is fitted to the
        levels of all kinds. Takes effect without a new `fit`.
    param_name : str or None, default=None
        The parameter to set, as in `set_params`: ``"coder__alpha"`` for a step of a Pipeline, ``"alpha"`` for all
        layers of a network. None: found by itself if there is only one.
    param_range : array-like or None, default=None
        Values that are tried; also bounds of what `predict` sets. Fractions for ``n_nonzero_coefs``. None: 15 values,
        from 1 to 15 times `alpha`, or from 1/8 to 1 times `n_nonzero_coefs`.
    batch : {"image", "all"}, default="image"
        Whether the sparsity follows the residual of each image, or the mean residual of all images of a call. The paper
        does the latter, with all test images in one call: predictions then depend on the other images (they are
        transductive), and all images must have the same level of noise.
    prefit : bool, default=False
        Whether `estimator` is fitted and is used as it is, neither copied nor changed. Needed for a torch module.
    max_samples : int or None, default=1000
        Training images, chosen at random, on which sparsities are tried. None: all.
    random_state : int, RandomState instance or None, default=None
        Chooses those images.
    verbose : int, default=0
        1: show progress.

    Attributes
    ----------
    estimator_ : classifier, Pipeline or torch.nn.Module
        The fitted classifier.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    sweeps_ : dict of str to SparsitySweep
        Accuracy against sparsity and residuals of each kind. Clean images are the first level of each. For a plain
        sequence of corruptions the kind is "corruption".
    values_ : ndarray of shape (n_values,)
        Values that were tried.

    See Also
    --------
    skrobust.displays.AdaptiveSparsityDisplay : Draws the lines.
    skrobust.displays.SparsitySweepDisplay : Draws accuracy against sparsity.

    Notes
    -----
    The module of `skrobust.as_module` includes the choice of the sparsity, so that attacks differentiate through it.
    For `n_nonzero_coefs`, a count, that derivative is 0.

    The residual of an image is its root mean square over pixels, measured at the sparsity of training. Prediction
    takes one more pursuit per layer.

    Labels of test images must never choose a sparsity: `fit` takes training images only, and `predict` refuses labels.

    References
    ----------
    .. [1] X. Dai, M. Li, P. Zhai, S. Tong, X. Gao, S. Huang, Z. Zhu, C. You, Y. Ma, "Revisiting sparse convolutional
       model for visual recognition", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skrobust import AdaptiveSparsity, WaveletSparsifier
    >>> from skrobust.evaluation import corruption_levels
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> pipeline = make_pipeline(
    ...     WaveletSparsifier("haar", n_nonzero_coefs=0.5, image_shape=(8, 8)), LogisticRegression()
    ... )
    >>> noise = corruption_levels("gaussian_noise", [0.1, 0.2, 0.3], random_state=0)
    >>> model = AdaptiveSparsity(pipeline, noise, max_samples=200, random_state=0).fit(X[:1000], y[:1000])
    >>> model.sparsities(X[1000:1003]).shape
    (3,)
    >>> bool(model.score(X[1000:], y[1000:]) > 0.8)
    True
    """

    estimator: object = parameter(None, positional=True)
    corruptions: object = parameter(None, positional=True)
    kind: str | None = parameter(None, str)
    param_name: str | None = parameter(None, str)
    param_range: object = parameter(None, "array-like")
    batch: str = parameter("image", {"image", "all"})
    prefit: bool = parameter(False, "boolean")
    max_samples: int | None = parameter(1000, AT_LEAST_1)
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, Integral)

    def fit(self, X, y):
        """Fit the classifier on clean training images, and the lines on corrupted ones.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Training images, never test images.
        y : array-like of shape (n_samples,)
            Their labels.

        Returns
        -------
        AdaptiveSparsity
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is wrong, or `estimator` has no sparsity that can be set.
        """
        self._validate_params()
        with restored_on_error(self):
            self._fit(X, y)
        return self

    def _fit(self, X, y):
        from .sweep import sparsity_sweep

        corruptions = self._corruptions()
        if self.kind is not None and self.kind not in corruptions:
            raise ValueError(f"kind must be None or one of {', '.join(map(repr, corruptions))}, got {self.kind!r}.")
        if not self.prefit and not hasattr(self.estimator, "get_params"):
            raise TypeError(f"{type(self.estimator).__name__} cannot be cloned: fit it, and pass prefit=True.")
        self.estimator_ = self.estimator if self.prefit else clone(self.estimator).fit(X, y)
        X, y = self._read(X), column_or_1d(to_numpy(y))
        check_consistent_length(X, y)
        self.classes_ = getattr(self.estimator_, "classes_", None)
        if self.classes_ is None:  # a torch network
            module = as_module(self.estimator_)
            module(_tensor(X[:1]))
            self.classes_ = module.classes_
        chosen = check_random_state(self.random_state).permutation(len(X))[: self.max_samples]
        options = {"param_name": self.param_name, "param_range": self.param_range, "verbose": self.verbose}
        self.sweeps_ = {
            kind: sparsity_sweep(self.estimator_, X[chosen], y[chosen], [None, *levels], **options)
            for kind, levels in corruptions.items()
        }
        self.values_ = next(iter(self.sweeps_.values())).values

    def _corruptions(self):
        given = self.corruptions
        if given is None or isinstance(given, str) or not hasattr(given, "__len__") or not len(given):
            raise ValueError(
                "corruptions must be a sequence of objects with perturb(model, X, y), one per level of noise, or a "
                f"dict of such sequences, got {given!r}. skrobust.evaluation.corruption_levels(kind) makes one."
            )
        by_kind = given if isinstance(given, dict) else {"corruption": given}
        for kind, levels in by_kind.items():
            if not len(levels) or not all(hasattr(one, "perturb") for one in levels):
                raise ValueError(f"corruptions[{kind!r}] must hold objects with perturb(model, X, y), got {levels!r}.")
        return by_kind

    def line(self):
        """Intercept and slope of the line from residual to sparsity that `predict` uses.

        Returns
        -------
        (float, float)
        """
        check_is_fitted(self, "sweeps_")
        from .sweep import fitted_line

        if self.kind is not None and self.kind not in self.sweeps_:
            raise ValueError(f"kind={self.kind!r} was not fitted; fitted are {', '.join(map(repr, self.sweeps_))}.")
        sweeps = self.sweeps_.values() if self.kind is None else [self.sweeps_[self.kind]]
        return fitted_line(
            np.concatenate([sweep.residuals for sweep in sweeps]), np.concatenate([sweep.best for sweep in sweeps])
        )

    def sparsities(self, X):
        """Value of the parameter that `predict` sets for each image.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        return self._run(X, "sparsities")

    def predict(self, X, y=None):
        """Labels of images.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, ...)
        y : None
            Labels are refused: the sparsity follows from residuals alone.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        if y is not None:
            raise ValueError(
                "predict takes no labels: the sparsity follows from the residuals of X, and labels of test images must "
                "not choose it. Pass labels of training images to fit, those of test images to score."
            )
        indices = self._run(X, "predict_indices")
        return self.classes_[indices]

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        return self._run(X, "predict_proba")

    def decision_function(self, X):
        """Scores of the classes; for two classes, of the second one.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, ...)

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
        """
        return self._run(X, "decision_function")

    def _run(self, X, method):
        """Results of a method of the module, batch by batch."""
        check_is_fitted(self, "sweeps_")
        import torch

        from .sweep import batches_of

        X = self._read(X)
        dtype = "float32" if str(X.dtype).endswith("float32") else "float64"
        module = as_module(self, dtype=dtype, device=X.device if is_tensor(X) else None)
        step, parts = module.step, [part.to(getattr(torch, dtype)) for part in batches_of(X)]
        with torch.no_grad():
            if self.batch == "all":
                step.fixed = torch.cat([step.residuals(part) for part in parts]).mean()
            return np.concatenate([to_numpy(getattr(step, method)(part)) for part in parts])

    def _read(self, X):
        """X as a finite array with the features that the classifier was fitted on, or as the tensor it is."""
        if is_tensor(X):
            return X
        options = {"dtype": (np.float64, np.float32), "allow_nd": True, "input_name": "X"}
        values = check_array(X, estimator=self, **options)
        if hasattr(self.estimator_, "n_features_in_") and values.ndim == 2:
            self.n_features_in_ = self.estimator_.n_features_in_
            if hasattr(self.estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.estimator_.feature_names_in_
            validate_data(self, X, reset=False, skip_check_array=True)
        return values

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _tensor(X):
    import torch

    return torch.as_tensor(X)


@register_module(AdaptiveSparsity)
def _as_module(estimator, conversion):
    from .torch import convert

    return convert(estimator, conversion)

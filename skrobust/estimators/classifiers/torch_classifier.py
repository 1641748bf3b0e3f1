"""`TorchClassifier`: torch networks as classifiers of scikit-learn, also trained on adversarial images."""

from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from skrobust.bridge import register_module
from skrobust.signals import SignalEstimator, is_tensor, restored_on_error
from skrobust.signals.arrays import label_indices
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, POSITIVE, parameter, parametrized
from skrobust.signals.tensors import to_numpy

_SEEDS = 2**31 - 1
_BATCH = 256
"""Samples predicted at once."""
_LOSSES = ("cross_entropy", "trades", "mart")


@parametrized
class TorchClassifier(ClassifierMixin, SignalEstimator):
    """A torch network that is trained and used like a classifier of scikit-learn.

    Parameters
    ----------
    module : str, type or torch.nn.Module, default="mlp"
        A name of `skrobust.nn.network_names`, a class, or an instance, which is copied and whose weights are the
        starting point. Its input are images with their channels first, (n_samples, n_channels, height, width), or rows
        if X has rows and `image_shape` is None; its output are scores of shape (n_samples, n_classes).
    module_options : dict or None, default=None
        Arguments of the constructor, for a name or a class.
    max_epochs : int, default=20
        Epochs; with `patience` at most.
    batch_size : int, default=128
    lr : float, default=0.001
        Learning rate.
    optimizer : {"adam", "adamw", "sgd"}, default="adam"
    momentum : float, default=0.9
        Of "sgd".
    weight_decay : float, default=0.0
        Not applied to offsets and batch normalisation.
    schedule : {None, "cosine", "one_cycle"} or int, default="cosine"
        Learning rate: constant, cosine decay to zero, linear rise and fall, or divided by ten every so many epochs.
    max_gradient_norm : float or None, default=None
        Longer gradients are scaled to this norm.
    augment : {None, "shift", "mirror_shift"} or callable, default=None
        Random shifts by up to an eighth of the image, also mirrored; or ``augment(X, generator)`` for a batch of
        tensors of shape (n_samples, height, width, n_channels).
    normalize : {"auto", None} or tuple of (mean, std), default="auto"
        Normalisation inside the network, so that attacks see images as they are. "auto": mean and standard deviation of
        the training samples, for each channel of images, for each feature of rows.
    loss : {"cross_entropy", "trades", "mart"}, default="cross_entropy"
        The last two need an `adversary`.
    beta : float, default=6.0
        Weight of the divergence in "trades" and "mart".
    label_smoothing : float, default=0.0
    adversary : Attack or None, default=None
        Train on the images that this attack finds for the network as it is, through `front_end` if there is one. For
        FGSM with a random start take ``PGD(eps=eps, n_iter=1, step_size=1.25 * eps)``.
    adversary_warm_up : float, default=0.0
        Share of the training in which the adversary's `eps` rises linearly from zero. Large radii need it: from the
        start they can keep a network at constant predictions.
    certified : skrobust.nn.IntervalBound or None, default=None
        Train for the worst scores that bounds allow, in place of `loss` and `adversary`. Then
        `skrobust.certificates.certify` proves predictions.
    front_end : transformer or None, default=None
        Part of the classifier, in front of the network, fitted to X without labels; its images have the shape of X.
        (Front ends that learn with the network, such as `skrobust.nn.LayeredPursuit`, are layers of `module`.)
        The adversary attacks through it, with the gradient that the attack's parameter `gradient` names.
    class_weight : {None, "balanced"} or dict, default=None
        Weights of the classes in the loss.
    validation_fraction : float or None, default=None
        Share of the samples, of each class, that is held out to measure the accuracy after each epoch. None: 0.1 with
        `patience`, else none.
    patience : int or None, default=None
        Stop after that many epochs without a better validation score, and keep the best parameters. The score is the
        accuracy, with an `adversary` that under attack.
    checkpoint : str, path-like or None, default=None
        A file written after each epoch. If it exists, `fit` with the same settings and data resumes from it and reaches
        the same result as without interruption.
    precision : {"float32", "bfloat16"}, default="float32"
        Precision of the training; parameters and predictions are float32.
    warm_start : bool, default=False
        `fit` starts from the parameters of the last fit.
    device : str or torch.device, default="auto"
        "auto": a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        For initial weights, the order of samples, augmentation, layers that draw random numbers, and the adversary.
    verbose : int, default=0
        1: a progress bar of the epochs.

    Attributes
    ----------
    network_ : torch.nn.Module
        The trained network in evaluation mode, with normalisation, for images with their channels last (or rows).
    front_end_ : transformer or None
        The fitted front end.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    history_ : list of dict
        Of each epoch: mean loss and accuracy on the training batches as they were trained on, then validation scores.
    n_epochs_ : int
        Number of epochs of the last fit.
    takes_rows_ : bool
        Whether the network sees rows of features.

    See Also
    --------
    skrobust.nn.make_network : The named networks.

    Notes
    -----
    *Adversarial training.* The adversary attacks the network in evaluation mode and returns its last iterate for each
    image. With one step, networks can become robust to just that step (catastrophic overfitting): after each epoch the
    accuracy under ten steps of PGD on some training images is compared. If it falls by 0.3, training ends with a
    warning; in any case the parameters of the best epoch by that measure are kept.

    *Reproducibility.* On one device, number of threads and version of torch the result depends on `random_state` alone.

    References
    ----------
    .. [1] A. Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
    .. [2] E. Wong, L. Rice, J. Z. Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import TorchClassifier
    >>> from skrobust.attacks import PGD
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> attack = PGD(eps=0.1, n_iter=5, random_state=0)
    >>> plain = TorchClassifier("mlp", lr=0.01, random_state=0)
    >>> robust = TorchClassifier("mlp", lr=0.01, adversary=attack, random_state=0)
    >>> models = [model.fit(X[:1000], y[:1000]) for model in (plain, robust)]
    >>> scores = [model.score(attack.perturb(model, X[1500:], y[1500:]), y[1500:]) for model in models]
    >>> bool(scores[1] > scores[0] + 0.2)
    True
    """

    module: object = parameter("mlp", positional=True)
    module_options: dict | None = parameter(None, dict)
    max_epochs: int = parameter(20, AT_LEAST_1)
    batch_size: int = parameter(128, AT_LEAST_1)
    lr: float = parameter(0.001, POSITIVE)
    optimizer: str = parameter("adam", {"adam", "adamw", "sgd"})
    momentum: float = parameter(0.9, Interval(Real, 0, 1, closed="left"))
    weight_decay: float = parameter(0.0, NON_NEGATIVE)
    schedule: str | int | None = parameter("cosine", {"cosine", "one_cycle"}, AT_LEAST_1, None)
    max_gradient_norm: float | None = parameter(None, POSITIVE)
    augment: object = parameter(None, {"shift", "mirror_shift"}, callable)
    normalize: object = parameter("auto", {"auto"}, None, tuple, list)
    loss: str = parameter("cross_entropy", set(_LOSSES))
    beta: float = parameter(6.0, NON_NEGATIVE)
    label_smoothing: float = parameter(0.0, Interval(Real, 0, 1, closed="left"))
    adversary: object = parameter(None)
    adversary_warm_up: float = parameter(0.0, Interval(Real, 0, 1, closed="left"))
    certified: object = parameter(None)
    front_end: object = parameter(None)
    class_weight: object = parameter(None, {"balanced"}, dict)
    validation_fraction: float | None = parameter(None, Interval(Real, 0, 1, closed="neither"))
    patience: int | None = parameter(None, AT_LEAST_1)
    checkpoint: object = parameter(None)
    precision: str = parameter("float32", {"float32", "bfloat16"})
    warm_start: bool = parameter(False, "boolean")
    device: object = parameter("auto")
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    verbose: int = parameter(0, "verbose")

    def fit(self, X, y):
        """Train the network.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Samples, as rows or as images; computed in float32.
        y : array-like of shape (n_samples,)
            Labels of any type.

        Returns
        -------
        TorchClassifier
            The estimator itself. If `fit` is interrupted, it stays as it was.

        Raises
        ------
        ValueError
            If data or parameters are invalid, the checkpoint is of another training, or the loss is not finite.
        """
        self._validate_params()
        with restored_on_error(self):
            start = self if self.warm_start and hasattr(self, "network_") else None
            values, indices = self._read_training(X, y, None)
            self._train(X, values, indices, start)
        return self

    def partial_fit(self, X, y, classes=None):
        """Train for one epoch, from the parameters and the state of the optimiser of the last call.

        `schedule`, `validation_fraction`, `patience` and `checkpoint` are not used.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will occur; the first call takes those of y if it is None.

        Returns
        -------
        TorchClassifier
            The estimator itself.
        """
        self._validate_params()
        with restored_on_error(self):
            begun = hasattr(self, "network_")
            if begun and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ValueError(f"classes={classes!r} differs from those of the first call, {self.classes_}.")
            known = self.classes_ if begun else classes
            values, indices = self._read_training(X, y, None if known is None else np.unique(known), reset=not begun)
            self._train(X, values, indices, self if begun else None, one_epoch=True)
        return self

    def decision_function(self, X):
        """Scores of the network.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            The logits; for two classes that of the second less that of the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X):
        """Class probabilities, the softmax of the scores.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        scores = self._scores(X).astype(np.float64)
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        return scores / scores.sum(axis=1, keepdims=True)

    def predict(self, X):
        """Predicted labels.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self._scores(X)
        return self.classes_[np.argmax(scores, axis=1)]

    def save(self, folder):
        """Write the fitted classifier to a folder: weights as safetensors, settings as JSON, no pickles.

        Parameters
        ----------
        folder : str or path-like
            Created if it does not exist.

        Raises
        ------
        ValueError
            If settings cannot be written as JSON: a front end, or labels other than numbers and strings.
        """
        from .files import save

        check_is_fitted(self)
        save(self, folder)

    @classmethod
    def load(cls, folder, *, module=None):
        """Read a classifier that `save` wrote.

        Parameters
        ----------
        folder : str or path-like
        module : type, torch.nn.Module or None, default=None
            The class or an instance, if the classifier was not built from a name.

        Returns
        -------
        TorchClassifier

        Raises
        ------
        ValueError
            If the folder holds no such classifier, or weights that do not fit the network.
        """
        from .files import load

        return load(cls, folder, module)

    def _read_training(self, X, y, classes, reset=True):
        """Samples as float32, rows or images, and positions of their labels in `classes_`."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        values = self._samples(X, reset=reset)
        y = column_or_1d(to_numpy(y), warn=True)
        check_consistent_length(values, y)
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y) if classes is None else classes
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs at least 2 classes, but y contains one class, {self.classes_[0]!r}."
                )
        indices = label_indices(y, self.classes_)
        if (indices < 0).any():
            raise ValueError(f"y contains labels that are not in classes: {np.unique(y[indices < 0])}.")
        return values, indices.astype(np.int64)

    def _samples(self, X, *, reset):
        signals = self._read_signals(X, reset=reset)
        values = to_numpy(signals.values).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("X has values beyond the range of float32. Scale X.")
        if reset:
            self.takes_rows_ = values.ndim == 3 and values.shape[-1] == 1
        return values.reshape(len(values), -1) if self.takes_rows_ else values

    def _train(self, X, values, indices, start, one_epoch=False):
        import copy

        import torch

        from .training import Training

        seed = int(check_random_state(self.random_state).randint(_SEEDS))
        if start is None or self.front_end_ is None:
            self.front_end_ = self._fitted_front_end(X)
        training = Training(self, values, indices, seed, one_epoch=one_epoch)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = training.new_network() if start is None else copy.deepcopy(start.network_)
            state = getattr(self, "_optimizer_state", None) if one_epoch else None
            self.history_, self._optimizer_state = training.run(network, state)
        self.network_ = network.eval().requires_grad_(False)
        self.n_epochs_ = len(self.history_)
        if not one_epoch:
            del self._optimizer_state

    def _fitted_front_end(self, X):
        if self.front_end is None:
            return None
        if not hasattr(self.front_end, "transform"):
            raise ValueError(
                f"front_end must be a transformer or None, got {type(self.front_end).__name__}. Layers that learn "
                "belong into the network itself."
            )
        return clone(self.front_end).fit(X)

    def _scores(self, X):
        import torch

        check_is_fitted(self)
        values = self._samples(X if self.front_end_ is None else self._defended(X), reset=False)
        device = next(self.network_.parameters()).device
        with torch.inference_mode():
            parts = [
                self.network_(torch.from_numpy(values[i : i + _BATCH]).to(device)).cpu().numpy()
                for i in range(0, len(values), _BATCH)
            ]
        return np.concatenate(parts)

    def _defended(self, X):
        self._read_signals(X, reset=False)  # reports wrong shapes in this estimator's name
        with np.errstate(all="ignore"):
            return self.front_end_.transform(X.detach() if is_tensor(X) else X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        tags.classifier_tags.poor_score = False
        return tags


@register_module(TorchClassifier)
def _as_module(estimator, conversion):
    from .torch import TorchClassifierStep

    return TorchClassifierStep(estimator, conversion)

"""Shared parameters, and the attack loop over batches."""

import abc
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval
from tqdm import tqdm

from skrobust.signals import batch_slices
from skrobust.signals.parameters import AT_LEAST_1, NON_NEGATIVE, parameter, parametrized

from .ball import NORMS, Ball
from .corners import Corners
from .images import read_box, read_images, read_labels, read_mask, read_radius, restore_type, summarize
from .losses import ASCENT_LOSSES, Goal
from .models import N_PROJECTIONS, GradientModel, ScoreModel
from .search import Search
from .streams import ImageStreams

# Allowed values of `eps` for attacks that can also search for the nearest adversarial image at any distance.
EPS_OR_INFINITY = (Interval(Real, 0, None, closed="both"), "array-like", torch.Tensor)

# The backward passes of `gradient="worst"`, most direct first; each runs on the images that remain.
_WORST = ("exact", "identity", "projection", "smooth")
# Values of `gradient` for attacks that can refine the projection at each step ("iterated").
STEP_GRADIENTS = {*_WORST, "iterated", "skip", "worst"}

# Bytes per value of an image for one forward and backward pass: the activations of a small network.
_BYTES_PER_VALUE = 1024


class _ThreatModel:
    """The attribute `threat_model`: that of the class, or "semi-white box" with ``gradient="skip"``."""

    def __get__(self, attack, owner):
        if attack is not None and getattr(attack, "gradient", None) == "skip":
            return "semi-white box"
        return owner._threat_model


@parametrized
class Attack(BaseEstimator, metaclass=abc.ABCMeta):
    """Base of all attacks.

    Derive an attack of your own from `GradientAttack` or `BlackBoxAttack`, and define `search_batch`, which searches
    one batch. Everything else is inherited: the parameters below, input and output types, labels, batches, random
    streams, targeted attacks, and the worst case per image.

    An ``__init__`` of your own may take only some of the parameters; the others keep their default. The allowed types
    of parameters of your own can be listed in ``_parameter_constraints``, as estimators of scikit-learn do.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X. An array of shape (n_samples,): one per image. For l-infinity also one
        per feature, in a shape that broadcasts to X.
    norm : {"linf", "l2", "l1"}, default="linf"
        Norm of the ball.
    clip : pair or None, default=(0, 1)
        Range of valid values: numbers, arrays of the shape of one sample, or of the shape of X for one box per
        image. None: no bounds.
    mask : array-like of bool or None, default=None
        Features that may change: of the shape of one sample for all images, or of the shape of X for each. None: all.
    perturb_all : bool, default=False
        Attack misclassified images too, and return the attack's result even if the model classifies it correctly, as
        published tables count. False: misclassified images are returned unchanged.
    batch_size : int or None, default=None
        Images attacked at once; None: as many as scikit-learn's ``working_memory`` holds.
    random_state : int, RandomState instance or None, default=None
        Each image has its own random stream, so that batches do not change the draws. Deterministic attacks ignore it.
    device : str, torch.device or None, default=None
        Where to compute; None: where X is.
    verbose : int, default=0
        Show a progress bar.

    Attributes
    ----------
    keep : {"best", "last"}
        Iterates that count, see `PGD`.
    threat_model : {"white box", "semi-white box", "black box", "transfer"}
        What the attacker knows.

    See Also
    --------
    Search : What `search_batch` reads, and where it offers candidates.
    GradientModel : The model that a `GradientAttack` attacks.
    ScoreModel : The model that a `BlackBoxAttack` attacks.
    """

    eps: ArrayLike = parameter(0.1, NON_NEGATIVE, "array-like", torch.Tensor, positional=True)
    norm: str = parameter("linf", set(NORMS))
    clip: tuple | None = parameter((0, 1), None, tuple, list, np.ndarray)
    mask: ArrayLike | None = parameter(None, "array-like", torch.Tensor)
    perturb_all: bool = parameter(False, "boolean")
    batch_size: int | None = parameter(None, AT_LEAST_1)
    random_state: int | np.random.RandomState | None = parameter(None, "random_state")
    device: str | torch.device | None = parameter(None, str, torch.device)
    verbose: int = parameter(0, "verbose")

    keep = "best"
    _threat_model = "white box"
    threat_model = _ThreatModel()

    def perturb(self, model, X, y, *, y_target=None):
        """Attack each image of X.

        Parameters
        ----------
        model : classifier, Pipeline or torch.nn.Module
            Fitted.
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            In the layout that the model takes; float32 stays float32, anything else becomes float64.
        y : array-like of shape (n_samples,)
            True labels. Misclassified images (with `y_target`: images of which the model predicts the target class) are
            returned unchanged, unless ``perturb_all=True``.
        y_target : array-like of shape (n_samples,) or None, default=None
            Labels that the model should predict for X_adv. None: any wrong label is a success.

        Returns
        -------
        X_adv : ndarray or Tensor of the shape of X
            The most harmful image found for each, inside the ball and the box exactly; never less harmful than X.
            With ``keep="last"`` the last iterate, however harmful.

        Raises
        ------
        skrobust.bridge.NoGradientError
            If the attack needs gradients and the model has none.
        ValueError
            If X lies outside `clip`, y contains no class of the model, `clip`, `mask` or `eps` do not fit X, or X is a
            data frame whose columns the model would refuse.
        """
        self._validate_params()
        with torch.inference_mode(False):  # the caller's inference mode would disable gradients
            x = read_images(X, name=type(self).__name__, device=self.device, model=model)
            box = read_box(self.clip, x)
            streams = ImageStreams(self.random_state)
            with streams.torch_seeded(x.device):
                return restore_type(self._perturb(model, x, y, y_target, box, streams), X)

    def _perturb(self, model, x, y, y_target, box, streams):
        oracle = self._oracle(model, x)
        classes = oracle.classes(x)
        label = read_labels(y, classes, len(x), what="y")
        if y_target is not None:
            label = read_labels(y_target, classes, len(x), what="y_target")
            if (label < 0).any():
                raise ValueError("y_target contains labels that are not in the model's classes_.")
        radius = read_radius(self._radius(), x, self._ball_norm())
        mask = read_mask(self.mask, x)
        attackable = np.flatnonzero((label >= 0) & _can_move(x, radius, mask))
        if not len(attackable):
            return x
        models = self._models(model, x, oracle)
        n_passes = sum(self._n_passes_with(attacked, len(classes)) for attacked in models)
        bytes_per_sample = _BYTES_PER_VALUE * max(1, x[0].numel()) * self._n_copies(len(classes))
        batches = list(batch_slices(len(attackable), bytes_per_sample, self.batch_size))
        bar = tqdm(total=len(batches) * n_passes, desc=type(self).__name__, disable=not self.verbose)
        with bar as progress:
            for done, batch in enumerate(batches):
                images = attackable[batch]
                at = torch.as_tensor(images, device=x.device)
                part = x[at]
                goal = Goal(torch.as_tensor(label[images], device=x.device), targeted=y_target is not None)
                ball = Ball(part, _rows(radius, at), self._ball_norm(), box[at], _rows(mask, at))
                search = Search(
                    part,
                    goal,
                    ball,
                    images,
                    streams,
                    oracle,
                    progress,
                    nearest=bool(torch.isinf(radius).any()),
                    skip_misclassified=not self.perturb_all,
                    include_start=self.keep == "best",
                )
                for attacked in models:
                    self._search_with(attacked, search)
                search.finish()
                x[at] = search.best
                progress.update((done + 1) * n_passes - progress.n)
        return x

    def describe(self):
        """Settings for reports.

        Returns
        -------
        dict
            Always with the keys name, threat_model, norm, eps, n_iter, n_restarts, gradient and random_state (None
            where the attack has no such setting), then the attack's other settings. Arrays as their shape, range and
            checksum.
        """
        parameters = self.get_params(deep=False)
        for name in ("batch_size", "device", "verbose", "norm"):
            parameters.pop(name, None)
        settings = {"name": type(self).__name__, "threat_model": self.threat_model, "norm": self.norm}
        for name in ("eps", "n_iter", "n_restarts", "gradient", "random_state"):
            settings[name] = parameters.pop(name, getattr(self, name, None))
        settings |= parameters
        if settings["gradient"] == "iterated":
            settings["n_projections"] = N_PROJECTIONS
        for name in ("eps", "mask"):
            if name in settings:
                settings[name] = summarize(settings[name])
        if settings.get("clip") is not None:
            settings["clip"] = tuple(map(summarize, settings["clip"]))
        return settings

    @abc.abstractmethod
    def search_batch(self, model, search):
        """Search one batch; the one method that an attack of your own defines.

        Called for each batch, once per backward pass of `gradient`, while images remain. Return nothing: the result of
        the batch is the candidates that the search keeps.

        Parameters
        ----------
        model : GradientModel or ScoreModel
            The attacked model, as far as this attack knows it.
        search : Search
            The images, their goals and admissible sets. Take ``search.remaining()``, compute candidates, and call
            ``search.offer``.
        """

    @abc.abstractmethod
    def _oracle(self, model, x):
        """The attacked model, whose scores decide how harmful a candidate is."""

    def _models(self, model, x, oracle):
        """The model as far as this attack knows it, once for each backward pass that is tried."""
        return [oracle]

    def _search_with(self, model, search):
        if len(search.remaining()):
            self.search_batch(model, search)

    def _radius(self):
        return self.eps

    def _ball_norm(self):
        return self.norm

    def n_passes(self, n_classes):
        """Approximate number of passes through the model per image, for progress bars.

        Parameters
        ----------
        n_classes : int
            Number of classes of the model.

        Returns
        -------
        int
            Passes with one of the gradients that the attack tries.
        """
        return 1

    def _n_passes_with(self, model, n_classes):
        """Ticks of the progress bar for one batch and one of `_models`."""
        return self.n_passes(n_classes)

    def _n_copies(self, n_classes):
        """How many images' worth of memory one image takes."""
        return 1


@parametrized
class BlackBoxAttack(Attack):
    """Base of the attacks that need scores or labels only: they attack any classifier.

    The `model` of `search_batch` has a method ``scores(x)``. It is a `ScoreModel` for classifiers of scikit-learn and
    a `GradientModel` for torch networks, whose gradients such an attack does not use. See `Attack` for what a subclass
    defines.
    """

    _threat_model = "black box"
    _labels_only = False

    def _oracle(self, model, x):
        if isinstance(model, torch.nn.Module):
            return GradientModel(model, "exact", x)
        return ScoreModel(model, x, labels_only=self._labels_only)


@parametrized
class GradientAttack(Attack):
    """Base of the attacks that need gradients, which they get through `skrobust.as_module`.

    The `model` of `search_batch` is a `GradientModel`. With ``gradient="worst"`` the batch is searched once for each
    backward pass. See `Attack` for what a subclass defines.

    Parameters
    ----------
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `skrobust.as_module`. "worst" tries the first four in turn and keeps the most
        harmful result of each image. "skip" makes the attack semi-white: the front end is unknown to it.
    n_eot : int, default=1
        Passes over which a randomised model is averaged.
    """

    gradient: str = parameter("exact", {*_WORST, "skip", "worst"})
    n_eot: int = parameter(1, AT_LEAST_1)

    def _oracle(self, model, x):
        return GradientModel(model, "exact", x, self.n_eot, through_arrays=self.gradient == "worst")

    def _models(self, model, x, oracle):
        if self.gradient == "worst":  # equal backward passes run once; without a front end all of them are equal
            return oracle.different(_WORST)
        return [oracle if self.gradient == "exact" else oracle.with_gradient(self.gradient)]

    def _search_with(self, model, search):
        if model.gradient_mode != "skip":
            super()._search_with(model, search)
            return
        # An attacker who does not know the front end cannot compare candidates on the defended model.
        if len(search.remaining()):
            index, inner = search.with_oracle(model)
            self.search_batch(model, inner)
            search.offer(index, inner.best, search.oracle.scores(inner.best))


@parametrized
class AscentAttack(GradientAttack):
    """Base of the attacks that maximise one of the losses in steps.

    Parameters
    ----------
    n_iter : int, default=40
        Steps of each restart.
    n_restarts : int, default=1
        Runs; the most harmful result of each image counts.
    loss : {"cross_entropy", "margin", "dlr", "kl"}, default="cross_entropy"
        Cross-entropy is maximised through a monotone map that does not saturate where the model is confident. "dlr"
        with two classes is the margin. Scores are first divided by a tenth of the clean image's gap between the true
        class and the best other one, so that no loss depends on their scale.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `skrobust.as_module`. "worst" tries the first four in turn and keeps the most
        harmful result of each image; where the exact gradient is zero everywhere, as behind hard thresholds, it also
        searches the corners of an l-infinity ball, see `CornerSearch`. "skip" makes the attack semi-white: the front
        end is unknown to it.
    keep : {"best", "last"}, default="best"
        "best": the most harmful of the image itself and all iterates. "last": of each restart the last iterate, as
        published tables count; of several restarts the most harmful one.
    """

    n_iter: int = parameter(40, AT_LEAST_1)
    n_restarts: int = parameter(1, AT_LEAST_1)
    loss: str = parameter("cross_entropy", ASCENT_LOSSES)
    keep: str = parameter("best", {"best", "last"})

    def _models(self, model, x, oracle):
        models = super()._models(model, x, oracle)
        # A model that is constant nearly everywhere has no useful gradient, in any backward pass.
        if len(models) > 1 and self._ball_norm() == "linf" and models[0].has_zero_gradient():
            models.append(Corners(models[-1]))
        return models

    def _search_with(self, model, search):
        if not isinstance(model, Corners):
            super()._search_with(model, search)
        elif len(search.remaining()):
            model.run(search)

    def n_passes(self, n_classes):
        return self.n_restarts * self.n_iter


def _rows(values, index):
    """`values` of some of the samples; a single row serves all of them."""
    return values if values is None or len(values) == 1 else values[index]


def _can_move(x, radius, mask):
    """Which images have a feature that may change."""
    free = radius > 0 if mask is None else (radius > 0) & mask
    return free.flatten(1).any(1).expand(len(x)).cpu().numpy()

"""What all attacks share: their words, and the way from X to the worst X found."""

import abc
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from tqdm import tqdm

from skrobust.signals import batch_slices

from ._ball import NORMS, Ball
from ._corners import Corners
from ._images import give_back, in_words, read_box, read_images, read_labels, read_mask, read_radius
from ._losses import LOSSES, Goal
from ._refinement import N_PROJECTIONS
from ._search import Search
from ._streams import ImageStreams
from ._victims import ModuleVictim

# The backward passes of `gradient="worst"`, most direct first: lost images leave before the next.
_WORST = ("exact", "identity", "projection", "smooth")
# Backward passes of the attacks that move in steps and so can follow the projection.
FOLLOWING = StrOptions({*_WORST, "iterated", "skip", "worst"})

# Bytes a value of an image that passing it through a model and back may need: a small network's activations.
_BYTES_PER_VALUE = 1024


class _ThreatModel:
    """Class attribute `threat_model`; an attack that leaves the front end out is semi-white."""

    def __get__(self, attack, owner):
        if attack is not None and getattr(attack, "gradient", None) == "skip":
            return "semi-white box"
        return owner._threat_model


class Attack(BaseEstimator, metaclass=abc.ABCMeta):
    """Base of all attacks: a subclass says how it searches one batch.

    Attributes
    ----------
    threat_model : {"white box", "semi-white box", "black box", "transfer"}
        What the attacker knows.
    """

    _threat_model = "white box"
    threat_model = _ThreatModel()
    keep = "best"

    _parameter_constraints = {
        "eps": [Interval(Real, 0, None, closed="left"), "array-like", torch.Tensor],
        "norm": [StrOptions(set(NORMS))],
        "clip": [None, tuple, list, np.ndarray],
        "mask": [None, "array-like", torch.Tensor],
        "perturb_all": ["boolean"],
        "batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "device": [None, str, torch.device],
        "verbose": ["verbose"],
    }

    def perturb(self, model, X, y, *, y_target=None):
        """Attack each image of X.

        Parameters
        ----------
        model : classifier, Pipeline or torch.nn.Module
            Fitted.
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            In the layout that the model takes; float32 stays float32, anything else becomes float64.
        y : array-like of shape (n_samples,)
            True labels. Images that the model already gets wrong (or, with `y_target`, as wanted) are returned
            unchanged, unless ``perturb_all=True``.
        y_target : array-like of shape (n_samples,) or None, default=None
            Labels that the attacker wants the model to give. None: any wrong one will do.

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
            If X lies outside `clip`, y holds no class of the model, `clip`, `mask` or `eps` do not fit X, or X is a
            data frame whose columns the model would refuse.
        """
        self._validate_params()
        with torch.inference_mode(False):  # a caller's inference mode would leave no gradients
            x = read_images(X, name=type(self).__name__, device=self.device, model=model)
            box = read_box(self.clip, x)
            streams = ImageStreams(self.random_state)
            with streams.torch_seeded(x.device):
                return give_back(self._perturb(model, x, y, y_target, box, streams), X)

    def _perturb(self, model, x, y, y_target, box, streams):
        judge = self._judge(model, x)
        classes = judge.classes(x)
        wanted = read_labels(y, classes, len(x), what="y")
        if y_target is not None:
            wanted = read_labels(y_target, classes, len(x), what="y_target")
            if (wanted < 0).any():
                raise ValueError("y_target holds labels that are not among the model's classes_.")
        radius = read_radius(self._radius(), x, self._ball_norm())
        mask = read_mask(self.mask, x)
        known = np.flatnonzero((wanted >= 0) & _can_move(x, radius, mask))
        if not len(known):
            return x
        attackers = self._attackers(model, x, judge)
        result = x.clone()
        n_passes = len(attackers) * self._n_ticks(len(classes))
        bytes_per_sample = _BYTES_PER_VALUE * max(1, x[0].numel()) * self._n_copies(len(classes))
        batches = list(batch_slices(len(known), bytes_per_sample, self.batch_size))
        bar = tqdm(total=len(batches) * n_passes, desc=type(self).__name__, disable=not self.verbose)
        with bar as progress:
            for done, batch in enumerate(batches):
                images = known[batch]
                at = torch.as_tensor(images, device=x.device)
                part = x[at]
                goal = Goal(torch.as_tensor(wanted[images], device=x.device), targeted=y_target is not None)
                ball = Ball(part, _rows(radius, at), self._ball_norm(), box[at], _rows(mask, at))
                search = Search(
                    part,
                    goal,
                    ball,
                    images,
                    streams,
                    judge,
                    progress,
                    nearest=bool(torch.isinf(radius).any()),
                    spare_wrong=not self.perturb_all,
                    start_counts=self.keep == "best",
                )
                for attacker in attackers:
                    self._run_against(attacker, search)
                result[at] = search.best
                progress.update((done + 1) * n_passes - progress.n)
        return result

    def describe(self):
        """Settings for reports.

        Returns
        -------
        dict
            Always with the keys name, threat_model, norm, eps, n_iter, n_restarts, gradient and random_state (None
            where the attack has no such thing), then the attack's other settings. Arrays in words, with a checksum.
        """
        settings = self.get_params(deep=False)
        for word in ("batch_size", "device", "verbose"):
            settings.pop(word, None)
        shown = {"name": type(self).__name__, "threat_model": self.threat_model, "norm": self.norm}
        for word in ("eps", "n_iter", "n_restarts", "gradient", "random_state"):
            shown[word] = settings.pop(word, getattr(self, word, None))
        settings.pop("norm", None)
        for word in ("eps", "mask"):
            if word in (told := shown if word in shown else settings):
                told[word] = in_words(told[word])
        if shown["gradient"] == "iterated":
            settings["n_projections"] = N_PROJECTIONS
        if settings.get("clip") is not None:
            settings["clip"] = tuple(map(in_words, settings["clip"]))
        return {**shown, **settings}

    @abc.abstractmethod
    def _run(self, attacker, search):
        """Search one batch: take ``search.standing()``, put candidates to ``search.offer``."""

    @abc.abstractmethod
    def _judge(self, model, x):
        """The model that answers."""

    def _attackers(self, model, x, judge):
        """The model as the attacker sees it; several where several ways of seeing it are tried."""
        return [judge]

    def _run_against(self, attacker, search):
        if len(search.standing()):
            self._run(attacker, search)

    def _radius(self):
        return self.eps

    def _ball_norm(self):
        return self.norm

    def _n_ticks(self, n_classes):
        """Ticks of the progress bar for one batch and one attacker."""
        return 1

    def _n_copies(self, n_classes):
        """How many images' worth of memory one image takes."""
        return 1


class GradientAttack(Attack):
    """Base of the attacks that need gradients, which they get through `skrobust.as_module`."""

    _parameter_constraints = {
        **Attack._parameter_constraints,
        "gradient": [StrOptions({*_WORST, "skip", "worst"})],
        "n_eot": [Interval(Integral, 1, None, closed="left")],
    }

    def _judge(self, model, x):
        return ModuleVictim(model, "exact", x, self.n_eot)

    def _attackers(self, model, x, judge):
        modes = _WORST if self.gradient == "worst" else (self.gradient,)
        victims = [judge if mode == "exact" else judge.seen_with(mode) for mode in modes]
        # Without a front end all backward passes are one.
        return victims[:1] if len(victims) > 1 and _alike(victims, x) else victims

    def _run_against(self, attacker, search):
        if attacker.gradient_mode != "skip":
            super()._run_against(attacker, search)
            return
        # Who does not know the front end cannot ask the defended model which of his images works best.
        if len(search.standing()):
            index, inner = search.rehearse(attacker)
            self._run(attacker, inner)
            search.offer(index, inner.best, search.judge.scores(inner.best))


class AscentAttack(GradientAttack):
    """Base of the attacks that climb one of the losses in steps."""

    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "step_size": [None, Interval(Real, 0, None, closed="neither")],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions(set(LOSSES))],
    }

    def _attackers(self, model, x, judge):
        attackers = super()._attackers(model, x, judge)
        # Where the model is constant nearly everywhere there is nothing to climb, whatever stands in for the slope.
        if len(attackers) > 1 and self._ball_norm() == "linf" and _constant(attackers[0], x):
            attackers.append(Corners(attackers[-1]))
        return attackers

    def _run_against(self, attacker, search):
        if not isinstance(attacker, Corners):
            super()._run_against(attacker, search)
        elif len(search.standing()):
            attacker.run(search)

    def _n_ticks(self, n_classes):
        return self.n_restarts * self.n_iter


def _probes(x):
    """Some images, and noise between them."""
    few = x[:8]
    mixed = few.flip(0).roll(1, dims=-1)
    return torch.cat([few, (few + mixed) / 2, mixed])


def _gradient_at_probes(victim, x):
    # Of the two best scores: the best alone may be constant where the model only lowers the others.
    return victim.gradient(_probes(x), lambda scores: scores.topk(2, dim=1).values @ scores.new_tensor([1.0, -1.0]))[0]


def _alike(victims, x):
    """Whether the victims' gradients are the same, to the last bit."""
    first, *others = (_gradient_at_probes(victim, x) for victim in victims)
    return all(torch.equal(first, other) for other in others)


def _constant(victim, x):
    """Whether the victim has no gradient anywhere."""
    return not bool(_gradient_at_probes(victim, x).any())


def _rows(values, index):
    """`values` of some of the samples; a single row serves all of them."""
    return values if values is None or len(values) == 1 else values[index]


def _can_move(x, radius, mask):
    """Which images have a feature that may change."""
    free = radius > 0 if mask is None else (radius > 0) & mask
    return free.flatten(1).any(1).expand(len(x)).cpu().numpy()

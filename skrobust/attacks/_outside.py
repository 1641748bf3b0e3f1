"""The way into an attack of another library and back."""

import importlib
import inspect
import random
from abc import abstractmethod
from contextlib import contextmanager
from numbers import Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from skrobust.signals import SignalLayout
from skrobust.signals._layout import channels_first_hint

from ._base import GradientAttack
from ._black_box import BlackBoxAttack
from ._victims import ScoreVictim

# How the libraries write norms.
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


class OutsideAttack(GradientAttack):
    """Base of the adapters: a subclass says how its library is called.

    What the library returns is projected on the ball and the box and judged by the model, as candidates of our own
    attacks are.
    """

    n_eot = 1

    _library = None
    _package = None
    _install = "'skrobust[bench]'"
    _namespace = None
    _gradient_free = frozenset()
    _parameter_constraints = {
        **GradientAttack._parameter_constraints,
        "eps": [Interval(Real, 0, None, closed="both"), "array-like", torch.Tensor],
        "attack": [str, type],
        "options": [None, dict],
        "image_shape": [None, tuple, list],
    }
    _parameter_constraints.pop("n_eot")

    def __init__(
        self,
        attack,
        options=None,
        *,
        eps=0.1,
        norm="linf",
        image_shape=None,
        gradient="exact",
        clip=(0, 1),
        mask=None,
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.attack = attack
        self.options = options
        self.eps = eps
        self.norm = norm
        self.image_shape = image_shape
        self.gradient = gradient
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    @property
    def threat_model(self):
        """ "black box" for the library's gradient-free attacks, else as for our own."""
        if self._needs_gradient():
            return "semi-white box" if self.gradient == "skip" else "white box"
        return BlackBoxAttack.threat_model

    def describe(self):
        """Settings for reports; the name is the library's and the attack's."""
        told, options = super().describe(), self.options or {}
        told["name"] = f"{self._library} {self._attack_name()}"
        told["n_iter"] = next((options[word] for word in ("max_iter", "steps") if word in options), None)
        told["n_restarts"] = next(
            (options[word] for word in ("num_random_init", "n_restarts") if word in options), None
        )
        if not self._needs_gradient():
            told["gradient"] = None
        return {**told, "attack": self._attack_name()}

    def _attack_name(self):
        return self.attack if isinstance(self.attack, str) else self.attack.__name__

    def _needs_gradient(self):
        return self._attack_name() not in self._gradient_free

    def _attack_class(self):
        try:
            namespace = importlib.import_module(self._namespace)
        except ImportError as error:
            raise ImportError(
                f"{type(self).__name__} needs {self._package}, which is not installed: pip install {self._install}"
            ) from error
        if not isinstance(self.attack, str):
            return self.attack
        if not isinstance(getattr(namespace, self.attack, None), type):
            raise ValueError(f"attack={self.attack!r} is no attack of {self._namespace}.")
        return getattr(namespace, self.attack)

    def _judge(self, model, x):
        if self._needs_gradient() or isinstance(model, torch.nn.Module):
            return super()._judge(model, x)
        return ScoreVictim(model, x)

    def _attackers(self, model, x, judge):
        return super()._attackers(model, x, judge) if self._needs_gradient() else [judge]

    def _run(self, attacker, search):
        index = search.standing()
        radius = search.ball.radius[index]
        # The libraries know one radius for all images.
        for eps in radius.unique().tolist():
            self._run_within(attacker, search, index[radius == eps], eps)
        search.progress.update()

    def _run_within(self, attacker, search, index, eps):
        ball, goal = search.ball[index], search.goal[index]
        view = _View(tuple(ball.x.shape[1:]), self.image_shape)
        n_classes = len(attacker.classes(ball.x))
        with _globally_seeded():
            found = self._generate(_Answers(attacker, view, ball.x), view.outward(ball.x), goal, n_classes, eps)
        found = view.inward(torch.as_tensor(found, device=ball.x.device).detach().to(ball.x.dtype))
        candidates = ball.project(torch.where(torch.isfinite(found), found, ball.x))
        search.offer(index, candidates, attacker.scores(candidates))

    @abstractmethod
    def _generate(self, model, x, goal, n_classes, eps):
        """What the library makes of the images `x`, laid out as its own images are, within `eps`."""

    def _arguments(self, cls, **proposed):
        """`options`, and those of the proposed arguments that the class takes and that `options` leave open."""
        taken = inspect.signature(cls.__init__).parameters
        return {**{word: value for word, value in proposed.items() if word in taken}, **(self.options or {})}

    def _bounds(self):
        """Lowest and highest valid value of any feature, or None; the projection knows them feature by feature."""
        return None if self.clip is None else (float(np.min(self.clip[0])), float(np.max(self.clip[1])))


class _View:
    """Samples as other libraries lay them out: images with their channels first, signals as rows."""

    def __init__(self, sample_shape, image_shape):
        self._sample_shape = sample_shape
        if image_shape is None and channels_first_hint(sample_shape):  # as a torch network takes them already
            self._is_image = False
            return
        layout = SignalLayout.infer(sample_shape, image_shape)
        self._place, self._is_image = layout.place, len(layout.grid) == 2

    def outward(self, x):
        return self._place(x).values.permute(0, 3, 1, 2).contiguous() if self._is_image else x

    def inward(self, x):
        return (x.permute(0, 2, 3, 1) if self._is_image else x).reshape(len(x), *self._sample_shape)


class _Answers(torch.nn.Module):
    """A victim as the torch module that other libraries want.

    The model is no submodule of it, since they reset gradients, dtypes and modes of whatever they find inside.
    """

    def __init__(self, victim, view, like):
        super().__init__()
        self._victim, self._view = victim, view
        # From the first parameter they read the device.
        self._device = torch.nn.Parameter(like.new_empty(0), requires_grad=False)
        self.eval()

    def forward(self, x):
        return _Ask.apply(x, self._victim, self._view)


class _Ask(torch.autograd.Function):
    """Scores of a victim, whose backward pass reaches the images and no parameter of the model."""

    @staticmethod
    def forward(ctx, x, victim, view):
        seen = x.detach()
        if not ctx.needs_input_grad[0]:
            return victim.scores(view.inward(seen))
        with torch.enable_grad():
            seen.requires_grad_(True)
            scores = victim.differentiable_scores(view.inward(seen))
        ctx.pair = seen, scores
        return scores.detach()

    @staticmethod
    def backward(ctx, grad):
        seen, scores = ctx.pair
        # Kept, since class gradients are asked one after the other.
        return torch.autograd.grad(scores, seen, grad, retain_graph=True)[0], None, None


@contextmanager
def _globally_seeded():
    """Seed the generators of NumPy and Python from torch's, and restore them afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    seed = int(torch.randint(2**31 - 1, (1,)))
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)

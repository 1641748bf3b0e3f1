"""Base of the adapters to attacks of other libraries."""

import importlib
import inspect
import random
from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import MISSING
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from skrobust.attacks.core.base import EPS_OR_INFINITY, BlackBoxAttack, GradientAttack
from skrobust.attacks.core.models import ScoreModel
from skrobust.signals import SignalLayout
from skrobust.signals.layout import channels_first_hint
from skrobust.signals.parameters import parameter, parametrized


@parametrized
class OutsideAttack(GradientAttack):
    """Base of the adapters: a subclass says how its library is called.

    The library's result is projected onto the ball and the box. The search then keeps it by its margin, as it does with
    candidates of our own attacks.

    Parameters
    ----------
    attack : str or type
        Class of the library, or its name.
    options : dict or None, default=None
        Arguments of that class.
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`, where the images of each radius are attacked in a
        separate run. Infinity, for attacks that search for the nearest adversarial image: return the nearest found.
    norm : {"linf", "l2", "l1"}, default="linf"
        Norm of the ball; the attack's own, where it has one.
    image_shape : tuple or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images stored as rows of a 2-D X, for attacks
        that need images. The library receives ``(n_samples, n_channels, height, width)``.
    gradient : {"exact", "identity", "projection", "smooth", "skip", "worst"}, default="exact"
        Backward pass of front ends, see `PGD`. Attacks that need no gradient use the scores of any classifier.
    batch_size : int or None, default=None
        Images attacked at once; the library's draws depend on it.
    random_state : int, RandomState instance or None, default=None
        Seeds the generators of torch, NumPy and Python, which are restored afterwards. A few attacks, such as ART's
        HopSkipJump, also draw from a generator of their own, which cannot be seeded.
    """

    _library = None
    _package = None
    _install = "'skrobust[bench]'"
    _namespace = None
    _gradient_free = frozenset()

    attack: str | type = parameter(MISSING, str, type, positional=True)
    options: dict | None = parameter(None, dict, positional=True)
    eps: ArrayLike = parameter(0.1, *EPS_OR_INFINITY)
    image_shape: tuple | None = parameter(None, tuple, list)
    n_eot: ClassVar[int] = 1

    @property
    def threat_model(self):
        """ "black box" for the library's gradient-free attacks, else as for our own."""
        if self._needs_gradient():
            return "semi-white box" if self.gradient == "skip" else "white box"
        return BlackBoxAttack.threat_model

    def describe(self):
        """Settings for reports; the name is the library's and the attack's."""
        settings, options = super().describe(), self.options or {}
        settings["name"] = f"{self._library} {self._attack_name()}"
        settings["n_iter"] = next((options[name] for name in ("max_iter", "steps") if name in options), None)
        settings["n_restarts"] = next(
            (options[name] for name in ("num_random_init", "n_restarts") if name in options), None
        )
        if not self._needs_gradient():
            settings["gradient"] = None
        return {**settings, "attack": self._attack_name()}

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
            raise ValueError(f"attack={self.attack!r} is not an attack of {self._namespace}.")
        return getattr(namespace, self.attack)

    def _oracle(self, model, x):
        if self._needs_gradient() or isinstance(model, torch.nn.Module):
            return super()._oracle(model, x)
        return ScoreModel(model, x)

    def _models(self, model, x, oracle):
        return super()._models(model, x, oracle) if self._needs_gradient() else [oracle]

    def search_batch(self, model, search):
        index = search.remaining()
        radius = search.ball.radius[index]
        # The libraries take one radius for all images.
        for eps in radius.unique().tolist():
            self._generate_within(model, search, index[radius == eps], eps)
        search.progress.update()

    def _generate_within(self, model, search, index, eps):
        ball, goal = search.ball[index], search.goal[index]
        layout = _LibraryLayout(tuple(ball.x.shape[1:]), self.image_shape)
        n_classes = len(model.classes(ball.x))
        with _globally_seeded():
            module = _ModelModule(model, layout, ball.x)
            result = self._generate(module, layout.to_library(ball.x), goal, n_classes, eps)
        result = layout.from_library(torch.as_tensor(result, device=ball.x.device).detach().to(ball.x.dtype))
        candidates = ball.project(torch.where(torch.isfinite(result), result, ball.x))
        search.offer(index, candidates, model.scores(candidates))

    @abstractmethod
    def _generate(self, model, x, goal, n_classes, eps):
        """The library's result on the images `x`, in its own layout, within `eps`."""

    def _arguments(self, cls, **proposed):
        """`options`, and those of the proposed arguments that the class accepts and `options` does not set."""
        accepted = inspect.signature(cls.__init__).parameters
        return {**{name: value for name, value in proposed.items() if name in accepted}, **(self.options or {})}


class _LibraryLayout:
    """Samples as other libraries lay them out: images with their channels first, signals as rows."""

    def __init__(self, sample_shape, image_shape):
        self._sample_shape = sample_shape
        if image_shape is None and channels_first_hint(sample_shape):  # as a torch network takes them already
            self._is_image = False
            return
        layout = SignalLayout.infer(sample_shape, image_shape)
        self._place, self._is_image = layout.place, len(layout.grid) == 2

    def to_library(self, x):
        return self._place(x).values.permute(0, 3, 1, 2).contiguous() if self._is_image else x

    def from_library(self, x):
        return (x.permute(0, 2, 3, 1) if self._is_image else x).reshape(len(x), *self._sample_shape)


class _ModelModule(torch.nn.Module):
    """The attacked model as the torch module that other libraries expect.

    The model is not a submodule, because the libraries reset gradients, dtypes and modes of submodules.
    """

    def __init__(self, model, layout, like):
        super().__init__()
        self._model, self._layout = model, layout
        # The libraries read the device from the first parameter.
        self._device = torch.nn.Parameter(like.new_empty(0), requires_grad=False)
        self.eval()

    def forward(self, x):
        return _Scores.apply(x, self._model, self._layout)


class _Scores(torch.autograd.Function):
    """Scores of the model; the backward pass reaches the images but no parameter of the model."""

    @staticmethod
    def forward(ctx, x, model, layout):
        images = x.detach()
        if not ctx.needs_input_grad[0]:
            return model.scores(layout.from_library(images))
        with torch.enable_grad():
            images.requires_grad_(True)
            scores = model.differentiable_scores(layout.from_library(images))
        ctx.images, ctx.scores = images, scores
        return scores.detach()

    @staticmethod
    def backward(ctx, grad):
        # The graph is kept, because libraries ask for the gradient of one class after another.
        return torch.autograd.grad(ctx.scores, ctx.images, grad, retain_graph=True)[0], None, None


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

"""Adam, for attacks that minimise over the images."""

import torch

_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8


class Adam:
    """Moments of the gradients of some images, of the shape and dtype of `like`; ``adam[index]``: of some of them."""

    def __init__(self, like):
        self._first, self._second = torch.zeros_like(like), torch.zeros_like(like)
        self._n_steps = 0

    def step(self, gradient):
        """Add a gradient; returns the direction of the step, ascending, and the scale by which it was divided."""
        self._n_steps += 1
        self._first = _BETA_1 * self._first + (1 - _BETA_1) * gradient
        self._second = _BETA_2 * self._second + (1 - _BETA_2) * gradient.square()
        scale = (self._second / (1 - _BETA_2**self._n_steps)).sqrt() + _TINY
        return self._first / (1 - _BETA_1**self._n_steps) / scale, scale

    def __getitem__(self, index):
        """The moments of some of the images."""
        part = object.__new__(Adam)
        part._first, part._second, part._n_steps = self._first[index], self._second[index], self._n_steps
        return part

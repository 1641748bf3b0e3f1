"""The admissible set of an attack: the norm ball around each image, cut by the box of valid values."""

import math

import numpy as np
import torch

from .box import Box
from .solvers import capped_scale, capped_shift, wide

ORDERS = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
NORMS = ("linf", "l2", "l1")
"""Norms of most attacks; in "l0", the number of changed features, only some minimise the distance."""

# Share of the features that an l1 step moves. Moving one at a time zigzags; moving all spends most of the budget on
# features that matter little. 3 % did best of 1 % to 100 % on linear and two-layer models of digits.
_L1_SHARE = 0.03


def vector_norm(delta, norm):
    """Norm of each sample of `delta`, in float64."""
    return row_norm(delta.to(torch.float64).flatten(1), norm)


def row_norm(rows, norm):
    """Norm of each row, in its own dtype."""
    if norm == "l2":
        return torch.linalg.vector_norm(rows, dim=1)
    if norm == "l0":
        return (rows != 0).to(rows.dtype).sum(1)
    # Ten times as fast as torch's norms of other orders than 2.
    return rows.abs().amax(1) if norm == "linf" else rows.abs().sum(1)


class Ball:
    """The admissible set of each image: its norm ball, cut by the box of valid values and the mask.

    The set is kept *exactly*: each point, stored in the dtype of `x`, differs from `x` by at most `eps` in float64, and
    lies in the box. ``ball[index]`` holds the sets of some of the images. Attacks use ``ball.project(y)``,
    ``ball.farthest(gradient)``, ``ball.direction(y, gradient)``, ``ball.step(None, n_iter)`` and the attributes.

    In "l0" the set holds the images with at most eps changed features; attacks only project on it. The centres `x` lie
    inside the box. `eps` is one radius for all, one per sample, or (only l-infinity) one per
    feature; `box` and `mask` (True: may change) are broadcastable to `x`.

    Attributes
    ----------
    eps : Tensor of the dtype of `x`, broadcastable to it
    radius : Tensor of float64 of shape (n_samples,)
        Largest eps of each sample.
    rounded_radius : Tensor of float64 of shape (n_samples,)
        Slightly below `radius`: a perturbation of this norm stays in the ball after rounding.
    low, high : Tensor of the shape of `x`
        Lowest and highest value of each feature within the ball and the box.
    box : Box
        The box of valid values; where the mask is False, both its bounds are the values of `x`.
    """

    def __init__(self, x, eps, norm, box=None, mask=None):
        self.x = x
        self.norm = norm
        self.box = Box.of(box, x).masked(mask, x)
        eps = torch.as_tensor(eps, dtype=torch.float64, device=x.device)
        eps = eps.expand(len(x), *eps.shape[1:]) if eps.ndim == x.ndim else eps.expand(len(x), *[1] * (x.ndim - 1))
        self._eps = eps
        reach = torch.full_like(eps, torch.inf) if norm == "l0" else eps  # of each feature
        self.low = torch.maximum(_stored(x, -reach), self.box.low)
        self.high = torch.minimum(_stored(x, reach), self.box.high)
        empty = self.low > self.high  # features that lie outside the box by a rounding error keep their value
        if bool(empty.any()):
            self.low, self.high = torch.where(empty, x, self.low), torch.where(empty, x, self.high)
        if eps[0].numel() > 1:
            self.box = Box(self.low, self.high)  # FAB and others use one radius per image
        self.radius = eps.flatten(1).amax(1)
        # A norm summed over n features has a relative rounding error of at most n units in the last place, in any order
        # of summation. A perturbation of the rounded radius therefore has a norm of at most eps however it is summed.
        self.rounded_radius = self.radius * (1 - max(1, x[0].numel()) * 2.3e-16)

    @property
    def eps(self):
        return self._eps.to(self.x.dtype)

    def __getitem__(self, index):
        """The ball of some of the samples."""
        if _is_all(index, len(self.x)):  # at the start of most attacks: no copies needed
            return self
        part = object.__new__(Ball)
        part.__dict__.update(self.__dict__)
        for name in ("x", "low", "high", "box", "_eps", "radius", "rounded_radius"):
            setattr(part, name, getattr(self, name)[index])
        return part

    def shrunk(self, share):
        """The ball of `share` of the radius; an infinite radius counts as 1."""
        eps = torch.where(torch.isfinite(self._eps), self._eps, 1.0)
        return Ball(self.x, share * eps, self.norm, self.box)

    def step(self, size, n_iter):
        """Length of a step: `size`; None: 2.5 eps / n_iter, so that `n_iter` steps can cross the ball."""
        if size is not None:
            return size
        return torch.where(torch.isfinite(self._eps), 2.5 * self._eps / n_iter, 1.0).to(self.x.dtype)

    def contains(self, y):
        """Which of the points `y`, in the dtype of the centres, lie in the set."""
        inside = ((y >= self.low) & (y <= self.high)).flatten(1).all(1)
        if self.norm == "linf":
            return inside
        return inside & (vector_norm(y.double() - self.x.double(), self.norm) <= self.rounded_radius)

    def project(self, y):
        """The point of the set nearest to `y` in the Euclidean norm."""
        if self.norm == "linf" or bool(torch.isinf(self.radius).all()):
            return torch.clamp(y, self.low, self.high).to(self.x.dtype)
        if self.norm == "l0":
            moved = torch.clamp(y, self.low, self.high).to(self.x.dtype)
            delta = largest_only((moved.double() - self.x.double()).flatten(1), self.radius.floor())
            return torch.where(delta.reshape(moved.shape) != 0, moved, self.x)
        delta, cap = self._flat_with_caps(y.to(torch.float64) - self.x.to(torch.float64))
        magnitude = delta.abs()
        capped = torch.minimum(magnitude, cap)
        order = 2 if self.norm == "l2" else 1
        outside = torch.linalg.vector_norm(capped, ord=order, dim=1) > self.rounded_radius
        radius = self.rounded_radius[outside]
        if bool(outside.any()):
            outer, outer_cap = magnitude[outside], cap[outside]
            if self.norm == "l2":
                scale = capped_scale(outer, outer_cap, radius).clamp_max(1)
                capped[outside] = torch.minimum(outer * scale[:, None], outer_cap)
            else:
                shift = capped_shift(outer, outer_cap, radius)
                capped[outside] = torch.minimum((outer - shift[:, None]).clamp_min(0), outer_cap)
        return self._moved(capped, delta)

    def farthest(self, gradient):
        """The point of the set farthest along `gradient`: the optimum of an attack on a linear score."""
        if self.norm == "linf":
            return torch.where(gradient > 0, self.high, torch.where(gradient < 0, self.low, self.x))
        gradient = gradient.to(torch.float64)
        peak = gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
        delta, cap = self._flat_with_caps(gradient / wide(peak, gradient))
        magnitude = delta.abs()
        if self.norm == "l2":
            scale = capped_scale(magnitude, cap, self.rounded_radius)
            # 0 * inf where a feature has no gradient and the caps of the others bind.
            capped = torch.minimum(torch.nan_to_num(magnitude * scale[:, None], nan=0.0), cap)
        else:
            order = magnitude.argsort(dim=1, descending=True)
            ordered_cap = torch.where(magnitude > 0, cap, 0).gather(1, order)
            spent = ordered_cap.cumsum(1) - ordered_cap
            filled = torch.minimum((self.rounded_radius[:, None] - spent).clamp_min(0), ordered_cap)
            capped = torch.zeros_like(filled).scatter_(1, order, filled)
        return self._moved(capped, delta)

    def direction(self, y, gradient):
        """Step of unit length in the norm: signs, the normalised gradient, or its largest features (l1).

        In l1 only a few features change: those with the largest gradient that can still move, in proportion to it.
        """
        if self.norm == "linf":
            return gradient.sign()
        flat = torch.where(self.high > self.low, gradient, 0).flatten(1)
        if self.norm == "l1":
            movable = torch.where(gradient > 0, y < self.high, y > self.low).flatten(1)
            flat = torch.where(movable, flat, 0)
            n_moving = math.ceil(_L1_SHARE * flat.shape[1])
            top = flat.abs().topk(n_moving, dim=1).indices
            flat = torch.zeros_like(flat).scatter_(1, top, flat.gather(1, top))
        # Divided by its peak first: the squares of a vanishing gradient would underflow.
        peak = flat.abs().amax(1, keepdim=True)
        flat = flat / torch.where(peak > 0, peak, 1)
        length = torch.linalg.vector_norm(flat, ord=2 if self.norm == "l2" else 1, dim=1, keepdim=True)
        return (flat / torch.where(length > 0, length, 1)).reshape(gradient.shape)

    def sample(self, streams, images, *, restart=0, block=0, surface=False):
        """A random point around each image: uniform in the ball, or on its surface; then brought into the box."""
        shape = tuple(self.x.shape[1:])

        def noise(generator):
            return _noise(generator, shape, self.norm, surface)

        delta = torch.as_tensor(streams.draw(images, noise, restart=restart, block=block), device=self.x.device)
        if self.norm != "linf":
            delta = self._of_same_norm(delta)
        return self.project((self.x.to(torch.float64) + self._eps * delta).to(self.x.dtype))

    def _of_same_norm(self, delta):
        """`delta` without the features that cannot move, scaled back to its norm."""
        free = self.high > self.low
        if bool(free.all()):
            return delta
        movable = torch.where(free, delta, 0)
        scale = vector_norm(delta, self.norm) / vector_norm(movable, self.norm)
        return movable * wide(torch.nan_to_num(scale, nan=0.0, posinf=0.0), movable)

    def _flat_with_caps(self, delta):
        """`delta` as rows, and how far each feature may move in its direction."""
        delta = delta.flatten(1)
        up, down = (self.high.to(torch.float64) - self.x), (self.x.to(torch.float64) - self.low)
        return delta, torch.where(delta > 0, up.flatten(1), down.flatten(1))

    def _moved(self, magnitude, delta):
        """The images moved by `magnitude` in the direction of `delta`."""
        return _stored(self.x, (magnitude * delta.sign()).reshape(self.x.shape))


def largest_only(delta, n_kept):
    """Rows of `delta` with only their `n_kept` entries of largest magnitude, of equal ones the first."""
    order = delta.abs().sort(dim=1, descending=True, stable=True).indices
    kept = torch.arange(delta.shape[1], device=delta.device) < n_kept[:, None]
    return torch.where(torch.zeros_like(kept).scatter_(1, order, kept), delta, 0)


def _is_all(index, n_samples):
    """Whether `index` is a Tensor of the positions of all samples, in order."""
    if not isinstance(index, torch.Tensor) or index.dtype == torch.bool or len(index) != n_samples:
        return False
    return torch.equal(index, torch.arange(n_samples, device=index.device))


def _stored(x, delta):
    """``x + delta`` in the dtype of `x`, rounded towards `x` where rounding would lead farther than `delta`."""
    y = (x.to(torch.float64) + delta).to(x.dtype)
    too_far = (y.to(torch.float64) - x.to(torch.float64)).abs_() > delta.abs()
    return torch.where(too_far, torch.nextafter(y, x), y)


def _noise(generator, shape, norm, surface):
    """Noise of norm at most 1 (exactly 1 on the surface), uniform in the ball or on its surface."""
    if norm == "linf":
        return generator.choice([-1.0, 1.0], size=shape) if surface else generator.uniform(-1, 1, size=shape)
    if norm == "l2":
        noise = generator.standard_normal(shape)
        length = np.linalg.norm(noise)
    else:
        noise = generator.laplace(size=shape)
        length = np.abs(noise).sum()
    radius = 1.0 if surface else generator.uniform() ** (1 / max(1, math.prod(shape)))
    return noise * (radius / length)

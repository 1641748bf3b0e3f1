"""Where an attack may go: the norm ball around each image, cut by the box of valid values."""

import math

import numpy as np
import torch

from .shapes import wide
from .solvers import capped_scale, capped_shift

NORMS = ("linf", "l2", "l1")

# Share of the features that an l1 step moves. One alone zigzags; all together leave most of the ball to features of
# little use. 3 % did best of 1 % to 100 % on linear and two-layer models of digits.
_L1_SHARE = 0.03


def vector_norm(delta, norm):
    """Norm of each sample of `delta`, in float64."""
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    return torch.linalg.vector_norm(delta.to(torch.float64).flatten(1), ord=order, dim=1)


class Ball:
    """The set that the attacked images stay in, *exactly*: what is stored in the dtype of `x` differs from `x` by at
    most `eps`, when the difference is taken in float64, and lies in the box.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...)
        Centres, inside the box.
    eps : float
    norm : {"linf", "l2", "l1"}
    box : pair of Tensor or None
        Lowest and highest value, broadcast over samples.
    """

    def __init__(self, x, eps, norm, box=None):
        self.x = x
        self.eps = float(eps)
        self.norm = norm
        self.box = box
        # In every norm no feature moves by more than eps.
        high = _stored(x, torch.full_like(x, self.eps, dtype=torch.float64))
        low = _stored(x, torch.full_like(x, -self.eps, dtype=torch.float64))
        if box is not None:
            low, high = torch.maximum(low, box[0].to(x)), torch.minimum(high, box[1].to(x))
        # Data a rounding error outside the box stay where they are.
        empty = low > high
        self.low, self.high = torch.where(empty, x, low), torch.where(empty, x, high)
        # The norm to aim at. A sum over n features may be rounded by n units in the last place, in whatever order it
        # is taken: so far below eps, it is at most eps in any.
        n_features = max(1, x[0].numel())
        self.reach = self.eps * (1 - n_features * 2.3e-16)

    def __getitem__(self, index):
        """The ball of some of the samples."""
        part = object.__new__(Ball)
        part.__dict__.update(self.__dict__)
        part.x, part.low, part.high = self.x[index], self.low[index], self.high[index]
        return part

    def project(self, y):
        """The point of the set nearest to `y` in the Euclidean norm."""
        if self.norm == "linf":
            return torch.clamp(y, self.low, self.high)
        wanted, cap = self._wanted(y.to(torch.float64) - self.x.to(torch.float64))
        magnitude = wanted.abs()
        capped = torch.minimum(magnitude, cap)
        order = 2 if self.norm == "l2" else 1
        outside = torch.linalg.vector_norm(capped, ord=order, dim=1) > self.reach
        if bool(outside.any()):
            far, room = magnitude[outside], cap[outside]
            if self.norm == "l2":
                scale = capped_scale(far, room, self.reach).clamp_max(1)
                capped[outside] = torch.minimum(far * scale[:, None], room)
            else:
                shift = capped_shift(far, room, self.reach)
                capped[outside] = torch.minimum((far - shift[:, None]).clamp_min(0), room)
        return self._land(capped, wanted)

    def farthest(self, gradient):
        """The point of the set farthest along `gradient`: the optimum of an attack on a linear score."""
        if self.norm == "linf":
            return torch.where(gradient > 0, self.high, torch.where(gradient < 0, self.low, self.x))
        gradient = gradient.to(torch.float64)
        peak = gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
        wanted, cap = self._wanted(gradient / wide(peak, gradient))
        magnitude = wanted.abs()
        if self.norm == "l2":
            scale = capped_scale(magnitude, cap, self.reach)
            # 0 * inf where a feature has no gradient and the caps of the others bind.
            capped = torch.minimum(torch.nan_to_num(magnitude * scale[:, None], nan=0.0), cap)
        else:
            order = magnitude.argsort(dim=1, descending=True)
            room = torch.where(magnitude > 0, cap, 0).gather(1, order)
            spent = room.cumsum(1) - room
            filled = torch.minimum((self.reach - spent).clamp_min(0), room)
            capped = torch.zeros_like(filled).scatter_(1, order, filled)
        return self._land(capped, wanted)

    def direction(self, y, gradient):
        """Step of unit length in the norm: signs, the normalised gradient, or its largest features (l1).

        In l1 a few features take part, those of the largest gradient that can still move, in proportion to it.
        """
        if self.norm == "linf":
            return gradient.sign()
        flat = gradient.flatten(1)
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
        return self.project((self.x.to(torch.float64) + self.eps * delta).to(self.x.dtype))

    def _wanted(self, delta):
        wanted = delta.flatten(1)
        up, down = (self.high.to(torch.float64) - self.x), (self.x.to(torch.float64) - self.low)
        return wanted, torch.where(wanted > 0, up.flatten(1), down.flatten(1))

    def _land(self, magnitude, wanted):
        return _stored(self.x, (magnitude * wanted.sign()).reshape(self.x.shape))


def _stored(x, delta):
    """``x + delta`` in the dtype of `x`, rounded towards `x` where rounding would lead farther than `delta`."""
    y = (x.to(torch.float64) + delta).to(x.dtype)
    too_far = (y.to(torch.float64) - x.to(torch.float64)).abs() > delta.abs()
    return torch.where(too_far, torch.nextafter(y, x), y)


def _noise(generator, shape, norm, surface):
    """Noise of norm at most 1 (exactly 1 on the surface), uniform in the ball or on its surface."""
    n_features = max(1, int(np.prod(shape)))
    if norm == "linf":
        return generator.choice([-1.0, 1.0], size=shape) if surface else generator.uniform(-1, 1, size=shape)
    if norm == "l2":
        noise = generator.standard_normal(shape)
        length = np.linalg.norm(noise)
    else:
        noise = generator.laplace(size=shape)
        length = np.abs(noise).sum()
    radius = 1.0 if surface else generator.uniform() ** (1 / n_features)
    return noise * (radius / length)

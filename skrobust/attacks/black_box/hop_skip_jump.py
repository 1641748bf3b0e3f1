"""HopSkipJump: along the boundary, from labels alone."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike

from skrobust.attacks.core.ball import vector_norm
from skrobust.attacks.core.base import EPS_OR_INFINITY, BlackBoxAttack
from skrobust.attacks.core.solvers import wide
from skrobust.signals.parameters import AT_LEAST_1, POSITIVE, parameter, parametrized

# Bytes of images in one call of the model.
_CHUNK_BYTES = 2**26


@parametrized
class HopSkipJump(BlackBoxAttack):
    """HopSkipJump: a walk along the decision boundary that needs labels only.

    Bisection brings a misclassified start to the boundary. There the labels of random points estimate the direction of
    the gradient. A step along it, followed by bisection, leads to a boundary point nearer to the original.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`. The attack on an image
        ends at the first adversarial image inside. Infinity: return the nearest adversarial image found.
    norm : {"linf", "l2"}, default="linf"
        Norm of the ball.
    n_iter : int, default=50
        Steps along the boundary.
    n_eval_init : int, default=100
        Queries of the first estimate; the t-th has ``n_eval_init * sqrt(t)``.
    n_eval_max : int, default=10000
        Largest number of queries of an estimate.
    n_init : int, default=100
        Random images tried as a start; an image without a misclassified start is returned unchanged.
    gamma : float, default=1.0
        Precision of the bisection, gamma / d^(3/2) of the distance for l2 in d dimensions, gamma / d² for
        l-infinity.
    clip : pair or None, default=(0, 1)
        Range of valid values, see `PGD`, from which starts are drawn. None: starts are the image plus normal noise
        of at least half the range of the image.

    References
    ----------
    J. Chen, M. Jordan, M. Wainwright, "HopSkipJumpAttack: a query-efficient decision-based attack", IEEE S&P 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skrobust.attacks import HopSkipJump
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = KNeighborsClassifier().fit(X[:1000], y[:1000])
    >>> X, y = X[1000:1005], y[1000:1005]
    >>> X_adv = HopSkipJump(eps=np.inf, norm="l2", n_iter=5, random_state=0).perturb(model, X, y)
    >>> model.score(X_adv, y)
    0.0
    """

    _labels_only = True

    eps: ArrayLike = parameter(0.1, *EPS_OR_INFINITY, positional=True)
    norm: str = parameter("linf", {"linf", "l2"})
    n_iter: int = parameter(50, AT_LEAST_1)
    n_eval_init: int = parameter(100, AT_LEAST_1)
    n_eval_max: int = parameter(10000, AT_LEAST_1)
    n_init: int = parameter(100, AT_LEAST_1)
    gamma: float = parameter(1.0, POSITIVE)

    def search_batch(self, model, search):
        walk = _Walk(self, model, search)
        index, x = self._starts(walk, search)
        x = walk.to_boundary(index, x)
        index, x = walk.offer(index, x)
        for step in range(self.n_iter):
            if not len(index):
                return
            distance = walk.distance(index, x)
            direction = self._direction(walk, index, x, distance, step)
            x = self._advance(walk, index, x, direction, distance, step)
            x = walk.to_boundary(index, x)
            search.progress.update()
            index, x = walk.offer(index, x)

    def _starts(self, walk, search):
        """Misclassified random images to start from, for as many of the remaining images as possible."""
        index = search.remaining()
        start_index, starts = [index[:0]], [search.x[:0]]
        for trial in range(self.n_init):
            if not len(index):
                break
            x = walk.random_images(index, trial, share=(trial + 1) / self.n_init)
            reached = walk.reached(index, x)
            start_index.append(index[reached])
            starts.append(x[reached])
            index = index[~reached]
        index = torch.cat(start_index)
        order = index.argsort()
        return index[order], torch.cat(starts)[order]

    def _direction(self, walk, index, x, distance, step):
        """Estimated direction of the gradient at the boundary."""
        n_features = x[0].numel()
        if step == 0:
            radius = walk.spread(index) * 0.1
        elif self.norm == "l2":
            radius = math.sqrt(n_features) * self.gamma / n_features**1.5 * distance
        else:
            radius = n_features * self.gamma / n_features**2 * distance
        radius = radius.clamp_min(1e-12)
        n_eval = min(int(self.n_eval_init * math.sqrt(step + 1)), self.n_eval_max)
        estimates = torch.zeros_like(x, dtype=torch.float64)
        for k, noise in enumerate(walk.noise(index, n_eval, step)):
            at = index[k].expand(n_eval)
            center = x[k].double()
            points = walk.boxed(at[:1], center + radius[k] * noise).to(x.dtype)
            moved = (points.double() - center) / radius[k]
            reached = torch.cat([walk.reached(at[rows], points[rows]) for rows in walk.chunks(points)])
            signs = 2.0 * reached.to(torch.float64) - 1
            mean = signs.mean()
            # Subtracting the mean lowers the variance; if all labels agree, it would leave nothing.
            weights = signs if bool(mean.abs() == 1) else signs - mean
            estimates[k] = (wide(weights, moved) * moved).mean(dim=0)
        if self.norm == "linf":
            return estimates.sign()
        return estimates / wide(vector_norm(estimates, "l2").clamp_min(1e-300), estimates)

    def _advance(self, walk, index, x, direction, distance, step):
        """The longest step along the direction, halved from distance / sqrt(t), that is still misclassified."""
        length = distance / math.sqrt(step + 1)
        result, pending = x.clone(), torch.arange(len(index), device=index.device)
        for _ in range(40):
            delta = wide(length[pending], x) * direction[pending]
            points = walk.boxed(index[pending], x[pending].double() + delta).to(x.dtype)
            reached = walk.reached(index[pending], points)
            result[pending[reached]] = points[reached]
            pending = pending[~reached]
            if not len(pending):
                break
            length[pending] /= 2
        return result

    def n_passes(self, n_classes):
        return self.n_iter


class _Walk:
    """Queries of the model, and geometry, for the images of one search."""

    def __init__(self, attack, model, search):
        self._attack = attack
        self._model = model
        self._search = search
        self._box = search.ball.box
        n_features = search.x[0].numel()
        self._precision = attack.gamma / (n_features**1.5 if attack.norm == "l2" else n_features**2)

    def reached(self, index, x):
        """Whether the model's prediction reaches the goal."""
        return self._search.goal[index].reached(self._model.scores(x))

    def distance(self, index, x):
        return vector_norm(x.double() - self._search.x[index].double(), self._attack.norm)

    def boxed(self, index, x):
        return self._box[index].clamp(x)

    def spread(self, index):
        """Range of values: of the box, or of each image where there is none."""
        if self._box.finite:
            box = self._box[index]
            return (box.high.double() - box.low.double()).flatten(1).amax(1).expand(len(index))
        values = self._search.x[index].double().flatten(1)
        width = values.amax(1) - values.amin(1)
        return torch.where(width > 0, width, values.abs().amax(1).clamp_min(1.0))

    def random_images(self, index, trial, share):
        """Uniform in the box; without a box normal noise around the images, which grows from trial to trial."""
        shape = tuple(self._search.x.shape[1:])
        if self._box.finite:
            low, high = self._box[index].low.double(), self._box[index].high.double()
            points = low + (high - low) * self._search.uniform(index, shape, block=trial)
        else:
            scale = wide(self.spread(index) * (0.5 + 4 * share), self._search.x)
            points = self._search.x[index].double() + scale * self._search.normal(index, shape, block=trial)
        return self.boxed(index, points).to(self._search.x.dtype)

    def noise(self, index, n_eval, step):
        """Random directions of unit length, one image at a time."""
        shape = (n_eval, *self._search.x.shape[1:])
        for image in self._search.images[index.cpu().numpy()]:
            generator = self._search.streams.generator(int(image), restart=1, block=step)
            if self._attack.norm == "l2":
                noise = generator.standard_normal(shape)
            else:
                noise = generator.uniform(-1, 1, size=shape)
            length = np.sqrt((noise.reshape(n_eval, -1) ** 2).sum(axis=1)).reshape(-1, *[1] * (len(shape) - 1))
            yield torch.as_tensor(noise / length, device=index.device)

    def chunks(self, points):
        """Slices of the points, each small enough for one call of the model."""
        size = max(1, _CHUNK_BYTES // (points[0].numel() * points.element_size()))
        return [slice(start, start + size) for start in range(0, len(points), size)]

    def to_boundary(self, index, x):
        """Bisection between each misclassified `x` and its original; the returned points are misclassified."""
        if not len(index):
            return x
        start, far = self._search.x[index].double(), x.double()
        if self._attack.norm == "l2":
            high = torch.ones(len(x), dtype=torch.float64, device=x.device)
            stop = torch.full_like(high, self._precision)
        else:
            high = vector_norm(far - start, "linf")
            stop = torch.minimum(high * self._precision, torch.full_like(high, self._precision))
        low = torch.zeros_like(high)
        # Intervals below the spacing of the dtype cannot be halved.
        stop = torch.maximum(stop, torch.finfo(x.dtype).eps * high)
        result = x.clone()
        while True:
            at = (high - low > stop).nonzero().squeeze(1)
            if not len(at):
                return result
            middle = (low[at] + high[at]) / 2
            points = self._between(index[at], start[at], far[at], middle).to(x.dtype)
            reached = self.reached(index[at], points)
            result[at[reached]] = points[reached]
            high[at[reached]] = middle[reached]
            low[at[~reached]] = middle[~reached]

    def _between(self, index, start, far, middle):
        if self._attack.norm == "l2":
            return self.boxed(index, start + wide(middle, start) * (far - start))
        bound = wide(middle, start)
        return self.boxed(index, torch.minimum(torch.maximum(far, start - bound), start + bound))

    def offer(self, index, x):
        """Offer the images inside the ball to the search; return those that remain."""
        inside = self._search.ball[index].contains(x)
        still = torch.ones_like(inside)
        if bool(inside.any()):
            still[inside] = self._search.offer(index[inside], x[inside], self._model.scores(x[inside]))
        return index[still], x[still]

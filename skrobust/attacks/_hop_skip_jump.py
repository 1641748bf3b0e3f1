"""HopSkipJump: along the boundary, from labels alone."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from ._ball import vector_norm
from ._black_box import BlackBoxAttack
from ._shapes import wide

# Questions asked at once, in bytes of images.
_CHUNK_BYTES = 2**26


class HopSkipJump(BlackBoxAttack):
    """HopSkipJump: a walk along the decision boundary that asks the model for labels only.

    From a misclassified start the image is brought to the boundary by bisection; there the direction of the gradient
    is estimated from the answers at random points, a step is taken along it, and bisection brings it back, nearer
    to the original than before.

    Parameters
    ----------
    eps : float or array-like, default=0.1
        Radius of the ball, in the units of X; arrays as for `PGD`. Images leave with the first adversarial image
        inside. Infinity: the nearest adversarial image that was found.
    norm : {"linf", "l2"}, default="linf"
    n_iter : int, default=50
        Steps along the boundary.
    n_eval_init : int, default=100
        Questions for the first estimate; the t-th has ``n_eval_init * sqrt(t)``.
    n_eval_max : int, default=10000
        At most.
    n_init : int, default=100
        Random images that are tried for a start; an image for which none is misclassified is left as it is.
    gamma : float, default=1.0
        Precision of the bisection, gamma / d^(3/2) of the distance for l2 in d dimensions, gamma / d² for
        l-infinity.
    clip : pair or None, default=(0, 1)
        Range of valid values, see `PGD`, from which starts are drawn. None: starts are the image plus normal noise,
        from half the range of the image up.
    mask : array-like of bool or None, default=None
        Features that may change, see `PGD`.
    perturb_all : bool, default=False
        Attack images that the model gets wrong already, too, see `PGD`.
    batch_size : int or None, default=None
    random_state : int, RandomState instance or None, default=None
    device : str, torch.device or None, default=None
    verbose : int, default=0

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

    _parameter_constraints = {
        **BlackBoxAttack._parameter_constraints,
        "eps": [Interval(Real, 0, None, closed="both"), "array-like", torch.Tensor],
        "norm": [StrOptions({"linf", "l2"})],
        "n_iter": [Interval(Integral, 1, None, closed="left")],
        "n_eval_init": [Interval(Integral, 1, None, closed="left")],
        "n_eval_max": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        eps=0.1,
        *,
        norm="linf",
        n_iter=50,
        n_eval_init=100,
        n_eval_max=10000,
        n_init=100,
        gamma=1.0,
        clip=(0, 1),
        mask=None,
        perturb_all=False,
        batch_size=None,
        random_state=None,
        device=None,
        verbose=0,
    ):
        self.eps = eps
        self.norm = norm
        self.n_iter = n_iter
        self.n_eval_init = n_eval_init
        self.n_eval_max = n_eval_max
        self.n_init = n_init
        self.gamma = gamma
        self.clip = clip
        self.mask = mask
        self.perturb_all = perturb_all
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def _run(self, attacker, search):
        walk = _Walk(self, attacker, search)
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
        """Misclassified images to begin with, for as many of the standing ones as there are."""
        index = search.standing()
        found_index, found = [index[:0]], [search.x[:0]]
        for trial in range(self.n_init):
            if not len(index):
                break
            x = walk.random_images(index, trial, share=(trial + 1) / self.n_init)
            reached = walk.reached(index, x)
            found_index.append(index[reached])
            found.append(x[reached])
            index = index[~reached]
        index = torch.cat(found_index)
        order = index.argsort()
        return index[order], torch.cat(found)[order]

    def _direction(self, walk, index, x, distance, step):
        """The estimated direction of the gradient at the boundary."""
        n_features = x[0].numel()
        if step == 0:
            reach = walk.spread(index) * 0.1
        elif self.norm == "l2":
            reach = math.sqrt(n_features) * self.gamma / n_features**1.5 * distance
        else:
            reach = n_features * self.gamma / n_features**2 * distance
        reach = reach.clamp_min(1e-12)
        n_eval = min(int(self.n_eval_init * math.sqrt(step + 1)), self.n_eval_max)
        estimates = torch.zeros_like(x, dtype=torch.float64)
        for k, noise in enumerate(walk.noise(index, n_eval, step)):
            at = index[k].expand(n_eval)
            place = x[k].double()
            points = walk.boxed(at[:1], place + reach[k] * noise).to(x.dtype)
            moved = (points.double() - place) / reach[k]
            answers = torch.cat([walk.reached(at[rows], points[rows]) for rows in walk.chunks(points)])
            votes = 2.0 * answers.to(torch.float64) - 1
            mean = votes.mean()
            # All one way: the mean says where; else what differs from the mean, which has less variance.
            weights = votes if bool(mean.abs() == 1) else votes - mean
            estimates[k] = (wide(weights, moved) * moved).mean(dim=0)
        if self.norm == "linf":
            return estimates.sign()
        return estimates / wide(vector_norm(estimates, "l2").clamp_min(1e-300), estimates)

    def _advance(self, walk, index, x, direction, distance, step):
        """The longest step along the direction, halved from distance / sqrt(t), that is still misclassified."""
        length = distance / math.sqrt(step + 1)
        result, open_ = x.clone(), torch.arange(len(index), device=index.device)
        for _ in range(40):
            points = walk.boxed(index[open_], x[open_].double() + wide(length[open_], x) * direction[open_]).to(x.dtype)
            reached = walk.reached(index[open_], points)
            result[open_[reached]] = points[reached]
            open_ = open_[~reached]
            if not len(open_):
                break
            length[open_] /= 2
        return result

    def _n_ticks(self, n_classes):
        return self.n_iter


class _Walk:
    """Questions to the model and geometry, for images of one search."""

    def __init__(self, attack, attacker, search):
        self._attack = attack
        self._attacker = attacker
        self._search = search
        self._box = search.ball.box
        n_features = search.x[0].numel()
        self._precision = attack.gamma / (n_features**1.5 if attack.norm == "l2" else n_features**2)

    def reached(self, index, x):
        """Whether the model's answer is what the attacker wants."""
        return self._search.goal[index].reached(self._attacker.scores(x))

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
        """Uniform in the box, or normal noise around the images, that grows from trial to trial."""
        images = self._search.images[index.cpu().numpy()]
        shape = tuple(self._search.x.shape[1:])
        streams = self._search.streams
        if self._box.finite:
            noise = streams.draw(images, lambda generator: generator.random(shape), block=trial)
            low, high = self._box[index].low.double(), self._box[index].high.double()
            points = low + (high - low) * torch.as_tensor(noise, device=index.device)
        else:
            noise = streams.draw(images, lambda generator: generator.standard_normal(shape), block=trial)
            scale = wide(self.spread(index) * (0.5 + 4 * share), self._search.x)
            points = self._search.x[index].double() + scale * torch.as_tensor(noise, device=index.device)
        return self.boxed(index, points).to(self._search.x.dtype)

    def noise(self, index, n_eval, step):
        """Random directions of unit length for one image after the other."""
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
        """Slices of questions that fit into memory."""
        size = max(1, _CHUNK_BYTES // (points[0].numel() * points.element_size()))
        return [slice(start, start + size) for start in range(0, len(points), size)]

    def to_boundary(self, index, x):
        """Bisection between each misclassified `x` and its original; what is returned is misclassified."""
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
        # Below the spacing of the dtype there is nothing left to halve.
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
        reach = wide(middle, start)
        return self.boxed(index, torch.minimum(torch.maximum(far, start - reach), start + reach))

    def offer(self, index, x):
        """Put to the search what lies in the ball; return who goes on."""
        inside = self._search.ball[index].contains(x)
        still = torch.ones_like(inside)
        if bool(inside.any()):
            still[inside] = self._search.offer(index[inside], x[inside], self._attacker.scores(x[inside]))
        return index[still], x[still]

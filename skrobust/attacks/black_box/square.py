"""Square Attack: random search with squares, the strongest simple black box."""

import math

import numpy as np
import torch

from skrobust.attacks.core.base import BlackBoxAttack
from skrobust.attacks.core.solvers import wide
from skrobust.signals import SignalLayout
from skrobust.signals.layout import channels_first_hint
from skrobust.signals.parameters import AT_LEAST_1, FRACTION, parameter, parametrized

# The share of pixels in a square halves after each of these queries, of 10 000.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

# Queries for which an image's random numbers are drawn at once.
_BLOCK = 64


@parametrized
class Square(BlackBoxAttack):
    """Square Attack: proposes large changes of random squares, and keeps those that raise the margin.

    Starts from vertical stripes (l-infinity) or a mosaic of pyramids (l2); each query changes one random square of
    each image, whose area shrinks on a schedule. Uses the model's scores only, one query an iteration.

    Parameters
    ----------
    norm : {"linf", "l2"}, default="linf"
        Norm of the ball.
    n_iter : int, default=5000
        Queries of each restart.
    p_init : float in (0, 1], default=0.8
        Share of the pixels that the first squares cover.
    rescale_schedule : bool, default=True
        Stretch the schedule of 10 000 queries to `n_iter`, as the paper does. False: as AutoAttack does.
    n_restarts : int, default=1
        Number of runs; the attack on an image ends at its first success.
    image_shape : tuple or None, default=None
        (height, width) or (height, width, n_channels) of flat samples. None: flat samples are signals, and the squares
        are intervals.

    Notes
    -----
    As in the authors' program, each image has its own squares, and (l-infinity) each square changes the image. Unlike
    there, a square may touch the last row and column.

    References
    ----------
    M. Andriushchenko et al., "Square Attack: a query-efficient black-box adversarial attack via random search",
    ECCV 2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from skrobust.attacks import RandomNoise, Square
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
    >>> square = Square(eps=0.1, n_iter=300, image_shape=(8, 8), random_state=0)
    >>> noise = RandomNoise(eps=0.1, n_restarts=300, random_state=0)
    >>> X, y = X[1000:1050], y[1000:1050]
    >>> bool(model.score(square.perturb(model, X, y), y) < model.score(noise.perturb(model, X, y), y))
    True
    """

    norm: str = parameter("linf", {"linf", "l2"})
    n_iter: int = parameter(5000, AT_LEAST_1)
    p_init: float = parameter(0.8, FRACTION)
    rescale_schedule: bool = parameter(True, "boolean")
    n_restarts: int = parameter(1, AT_LEAST_1)
    image_shape: tuple | None = parameter(None, tuple, list)

    def search_batch(self, model, search):
        shape = tuple(search.x.shape[1:])
        # Only a torch network takes images with their channels first, and it has accepted these before.
        channels_first = self.image_shape is None and bool(channels_first_hint(shape))
        layout = SignalLayout(shape[1:], shape[0]) if channels_first else SignalLayout.infer(shape, self.image_shape)
        grid = layout.grid if len(layout.grid) == 2 else (1, *layout.grid)
        proposals_of_norm = {"linf": Squares, "l2": Pyramids}[self.norm]
        for restart in range(self.n_restarts):
            index = search.remaining()
            if len(index):
                proposals = proposals_of_norm(grid, layout.n_channels)
                proposals.channels_first = channels_first
                self._restart(model, search, index, proposals, restart)

    def _restart(self, model, search, index, proposals, restart):
        draws = _Draws(search, restart, proposals)
        ball = search.ball[index]
        x = proposals.start(ball, draws.start(index))
        margin = torch.full_like(search.margin[index], -torch.inf)
        goal = search.goal[index]
        candidates = x.clone()
        for query in range(self.n_iter):
            if query:
                side = proposals.side(covered_share(query - 1, self.n_iter, self.p_init, self.rescale_schedule))
                candidates = proposals.change(ball, x, side, draws.at(index, query))
            scores = model.scores(candidates)
            new_margin = goal.margin(scores).to(margin.dtype)
            accepted = new_margin >= margin  # ties too, because tree and nearest-neighbour models have plateaus
            at = accepted.nonzero().squeeze(1)
            search.progress.update()
            if not len(at):
                continue
            x[at], margin[at] = candidates[at], new_margin[at]
            # Only these can exceed the best margin so far.
            remaining = search.offer(index[at], x[at], scores[at])
            if not bool(remaining.all()):
                still = torch.ones_like(accepted)
                still[at] = remaining
                index, x, margin, ball, goal = index[still], x[still], margin[still], ball[still], goal[still]
                if not len(index):
                    return

    def n_passes(self, n_classes):
        return self.n_restarts * self.n_iter


def covered_share(query, n_iter, p_init=0.8, rescale_schedule=True):
    """Share of the pixels that the square of this query covers; parameters as of `Square`."""
    if rescale_schedule:
        query = int(query / n_iter * 10000)
    return p_init / 2 ** sum(query > halving for halving in _HALVINGS)


class _Draws:
    """Random numbers of each image, drawn for a block of queries at a time."""

    def __init__(self, search, restart, proposals):
        self._search = search
        self._restart = restart
        self._proposals = proposals
        self._block = None

    def start(self, index):
        """Uniform numbers for the start, of shape (n_samples, *proposals.start_shape)."""
        return self._draw(index, self._proposals.start_shape, 0)

    def at(self, index, query):
        """Uniform numbers of shape (n_samples, proposals.n_draws) for one query."""
        block, position = divmod(query, _BLOCK)
        if block != self._block:
            self._block, self._index = block, index
            self._numbers = self._draw(index, (_BLOCK, self._proposals.n_draws), block + 1)
        # Some images may be done by now; the others keep their order.
        rows = torch.searchsorted(self._index, index)
        return self._numbers[rows, position]

    def _draw(self, index, shape, block):
        return self._search.uniform(index, shape, restart=self._restart, block=block)


def _signs(numbers):
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _corner(numbers, last):
    """First row or column, from 0 to `last`, for uniform numbers."""
    return (numbers * (last + 1)).long().clamp_max(last)


class Proposals:
    """Changes of square windows of images of shape (height, width, n_channels), stored in any layout."""

    channels_first = False

    def __init__(self, grid, n_channels):
        self.height, self.width = grid
        self.n_channels = n_channels
        self._side = None

    def _pixels(self, x):
        """`x` as (n_samples, height * width, n_channels)."""
        if self.channels_first:
            return x.flatten(2).transpose(1, 2)
        return x.reshape(len(x), self.height * self.width, self.n_channels)

    def _stored(self, images, like):
        """Images of shape (n_samples, ..., n_channels) in the layout of `like`: the way back from `_pixels`."""
        if self.channels_first:
            images = images.reshape(len(images), -1, self.n_channels).transpose(1, 2)
        return images.reshape(like.shape)

    def _window(self, row_numbers, column_numbers, side):
        """Pixels of a random window of each image, (n_samples, window's height * width, n_channels)."""
        top = _corner(row_numbers, self.height - side[0])
        left = _corner(column_numbers, self.width - side[1])
        inside = self._inside(side, top.device)
        return ((top * self.width + left)[:, None] + inside)[..., None].expand(-1, -1, self.n_channels)

    def _inside(self, side, device):
        """Pixels of a window whose first one is 0; many queries in a row have windows of one size."""
        if side != self._side:
            rows, columns = (torch.arange(n, device=device) for n in side)
            self._side, self._pixels_inside = side, (rows[:, None] * self.width + columns).flatten()
        return self._pixels_inside


class Squares(Proposals):
    """l-infinity: starts from stripes, then sets squares to the ends of the ball, with one sign per channel."""

    def __init__(self, grid, n_channels):
        super().__init__(grid, n_channels)
        self.start_shape = (1, self.width, n_channels)
        self.n_draws = 2 + n_channels

    def side(self, share):
        """Height and width of the square; a rectangle of the same area where the grid is too narrow for a square."""
        area = share * self.height * self.width
        side = max(1, round(math.sqrt(area)))
        if side > min(self.height, self.width):
            short = min(self.height, self.width)
            long = min(max(self.height, self.width), max(1, round(area / short)))
            return (short, long) if self.height <= self.width else (long, short)
        return side, side

    def start(self, ball, numbers):
        up = self._stored((numbers < 0.5).expand(-1, self.height, -1, -1), ball.x)
        return torch.where(up, ball.high, ball.low)

    def change(self, ball, x, side, numbers):
        window = self._window(numbers[:, 0], numbers[:, 1], side)
        pixels = self._pixels(x)
        high, low = self._pixels(ball.high).gather(1, window), self._pixels(ball.low).gather(1, window)
        up = (numbers[:, 2:] < 0.5)[:, None, :]
        ends = torch.where(up, high, low)
        # A query that changes nothing would be wasted: take the opposite ends.
        idle = (ends == pixels.gather(1, window)).flatten(1).all(1)[:, None, None]
        ends = torch.where(idle, torch.where(up, low, high), ends)
        return self._stored(pixels.scatter(1, window, ends), x)


class Pyramids(Proposals):
    """l2: starts from a mosaic of pyramids, then moves the norm of one window to another, as a pyramid."""

    def __init__(self, grid, n_channels):
        super().__init__(grid, n_channels)
        self._tile = max(1, self.height // 5), max(1, self.width // 5)
        self._tiles = self.height // self._tile[0], self.width // self._tile[1]
        self.start_shape = (*self._tiles, 1 + n_channels)
        self.n_draws = 5 + n_channels

    def side(self, share):
        """An odd side of at least 3, where the grid has room for it."""
        side = max(3, round(math.sqrt(share * self.height * self.width)))
        side += side % 2 == 0
        return min(side, self.height), min(side, self.width)

    def start(self, ball, numbers):
        upright, flat = (torch.as_tensor(t, device=numbers.device) for t in pyramids(self._tile))
        # (n, tile rows, tile columns, height, width, channels)
        turned = (numbers[..., 0] < 0.5)[..., None, None]
        shape = torch.where(turned, upright, flat)[..., None] * _signs(numbers[..., 1:])[..., None, None, :]
        mosaic = shape.permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)
        delta = numbers.new_zeros(len(numbers), self.height, self.width, self.n_channels)
        top = (self.height - mosaic.shape[1]) // 2
        left = (self.width - mosaic.shape[2]) // 2
        delta[:, top : top + mosaic.shape[1], left : left + mosaic.shape[2]] = mosaic
        return self._at_radius(ball, delta)

    def change(self, ball, x, side, numbers):
        delta = self._pixels(x.double() - ball.x.double())
        target = self._window(numbers[:, 0], numbers[:, 1], side)
        source = self._window(numbers[:, 2], numbers[:, 3], side)
        square = delta.square().sum(1)  # of each channel
        both = torch.zeros_like(delta).scatter_(1, target, 1.0).scatter_(1, source, 1.0)
        square_windows = (delta.square() * both).sum(1)
        old = delta.gather(1, target)
        old = old / (old.square().sum(1, keepdim=True).sqrt() + 1e-10)
        upright, flat = (torch.as_tensor(t, device=x.device).flatten() for t in pyramids(side))
        pyramid = torch.where((numbers[:, 4] < 0.5)[:, None], upright, flat)
        new = pyramid[..., None] * _signs(numbers[:, 5:])[:, None, :] + old
        length = new.square().sum(1, keepdim=True).sqrt()
        unused = (wide(ball.radius, square).square() - square.sum(1, keepdim=True)).clamp_min(0) / self.n_channels
        new = new / length.clamp_min(1e-10) * (unused + square_windows).sqrt()[:, None, :]
        return self._at_radius(ball, delta.scatter(1, source, 0.0).scatter(1, target, new))

    def _at_radius(self, ball, delta):
        delta = torch.where(ball.high > ball.low, self._stored(delta, ball.x), 0)
        length = delta.flatten(1).norm(dim=1).clamp_min(1e-300)
        return ball.project(ball.x.double() + wide(ball.radius / length, delta) * delta)


def pyramids(side):
    """The perturbation that Square's l2 form puts in a window, of unit norm: two pyramids of opposite sign, one
    above the other or side by side."""
    one = _halves(*side)
    other = _halves(*side[::-1]).T
    return one / np.linalg.norm(one), other / np.linalg.norm(other)


def _halves(height, width):
    if height == 1:
        return pyramid(1, width)
    half = height // 2
    return np.concatenate([pyramid(half, width), -pyramid(height - half, width)])


def pyramid(height, width):
    """Nested rectangles whose steps are 1, 1/4, 1/9, ..., normalised."""
    steps = np.zeros((height, width))
    top, left = height // 2, width // 2
    for k in range(max(height // 2 + 1, width // 2 + 1)):
        rows = slice(max(top - k, 0), min(top + k + 1, height))
        steps[rows, max(left - k, 0) : min(left + k + 1, width)] += 1 / (k + 1) ** 2
    return steps / np.linalg.norm(steps)

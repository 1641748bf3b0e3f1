"""Lower bounds of the margins of a classifier's scores."""

import copy

import torch
from torch import nn
from torch.nn import functional

from skrobust.kernels.rounding import gamma
from skrobust.nn.image_network import ImageNetwork

from .layers import normalize
from .propagation import Spread, propagate


def margin_bounds(network, X, y, eps, *, clip=(0, 1), observe=None):
    """Lower bounds of score differences under every l-infinity perturbation; differentiable, in exact arithmetic.

    The last layer, if it is linear, is bounded together with the difference, which is tighter than the difference of
    bounds.

    Parameters
    ----------
    network : torch.nn.Module
        Maps a batch to class scores; each layer needs an interval rule.
    X : Tensor of shape (n_samples, ...)
    y : Tensor of int of shape (n_samples,)
    eps : float
    clip : pair of float or None, default=(0, 1)
        Range of valid values.
    observe : callable or None, default=None
        Called with each layer and the `Spread` in front of it, for layers of a `torch.nn.Sequential`.

    Returns
    -------
    scores : Tensor of shape (n_samples, n_classes)
        Of X itself.
    margins : Tensor of shape (n_samples, n_classes)
        Lower bounds of the score of class y less that of each class; zero in column y.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn.intervals import margin_bounds
    >>> network = torch.nn.Linear(2, 2, bias=False)
    >>> with torch.no_grad():
    ...     _ = network.weight.copy_(torch.eye(2))
    >>> X = torch.tensor([[1.0, 0.0]])
    >>> margin_bounds(network, X, torch.tensor([0]), 0.25, clip=None)[1].tolist()
    [[0.0, 0.5]]
    """
    return _margins(network, Spread.around(X, eps, clip), y, observe)


@torch.no_grad()
def certified_margins(network, X, y, eps, *, clip=(0, 1)):
    """`margin_bounds` in float64, rounded outward, and valid for the network as it runs in its own dtype.

    Rounding errors of the network are bounded by those of sums in any order (`skrobust.kernels.rounding.gamma`); its
    convolutions must be computed as sums of products, not by transforms.

    Parameters
    ----------
    network, X, y, clip
        As in `margin_bounds`.
    eps : float or Tensor of shape (n_samples,)

    Returns
    -------
    Tensor of float64 of shape (n_samples, n_classes)
        A positive entry proves that the score of class y exceeds that of this class.
    """
    own = next(network.parameters()).dtype
    exact = copy.deepcopy(network).double().eval()
    return _margins(exact, Spread.around(X.double(), eps, clip, own), y, None)[1]


def _margins(network, spread, y, observe):
    if isinstance(network, ImageNetwork):
        network, spread = network.network, normalize(network, spread)
    layers = _layers(network)
    last = layers[-1] if isinstance(layers[-1], nn.Linear) else None
    for layer in layers[: len(layers) - (last is not None)]:
        if observe is not None:
            observe(layer, spread)
        spread = propagate(layer, spread)
    rows = torch.arange(len(y), device=y.device)
    if last is None:
        low, high = spread.lower, spread.upper
        margins = low[rows, y][:, None] - high
    else:
        scores = last(spread.value)
        weights = last.weight[y][:, None] - last.weight  # (n_samples, n_classes, n_features)
        margins = torch.einsum("nkf,nf->nk", weights, spread.centre.to(weights.dtype))
        margins = margins - torch.einsum("nkf,nf->nk", weights.abs(), spread.radius.to(weights.dtype))
        if last.bias is not None:
            margins = margins + (last.bias[y][:, None] - last.bias)
        if spread.arithmetic is not None:
            margins = margins - _last_errors(last, spread, y)
        spread = Spread(scores, scores, torch.zeros_like(scores))
    own = functional.one_hot(y, margins.shape[1]).bool()
    return spread.value, margins.masked_fill(own, 0.0)


def _last_errors(last, spread, y):
    """Rounding errors of both scores in the network's arithmetic, and of the margins in float64."""
    n = last.in_features + 4
    sizes = functional.linear(spread.size, last.weight.abs(), None if last.bias is None else last.bias.abs())
    relative = gamma(n, str(spread.arithmetic).removeprefix("torch.")) + gamma(n, "float64")
    errors = relative * sizes + n * torch.finfo(spread.arithmetic).tiny
    return errors.gather(1, y[:, None]) + errors


def _layers(network):
    """Layers of nested Sequentials in order; any other network counts as one layer."""
    if not isinstance(network, nn.Sequential):
        return [network]
    return [inner for layer in network for inner in _layers(layer)]

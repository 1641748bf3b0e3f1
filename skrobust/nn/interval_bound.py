"""Certified training: the loss of the worst scores that interval bounds allow."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from .intervals import margin_bounds

_TIGHTNESS, _BALANCE = 0.5, 0.5
"""Below these ratios the regularisers of the warm-up are positive, as in the authors' code."""


@dataclass(frozen=True)
class IntervalBound:
    """Certified training by interval bound propagation, in l-infinity.

    The loss is the cross-entropy of the worst scores that interval bounds allow for any image within `eps`. The radius
    rises slowly from zero. Until it is reached, regularisers keep the intervals small and the units balanced, and
    initial weights are drawn so that intervals neither grow nor shrink from layer to layer [2]_.

    Parameters
    ----------
    eps : float
        Radius in training. A tenth more than that of the certificate often helps.
    clip : pair of float or None, default=(0, 1)
        Range of valid values.
    clean_weight : float, default=0.0
        Share of the loss of the images themselves, which trades certified for clean accuracy.
    warm_up, ramp : float, default=0.02 and 0.35
        Shares of the training without perturbation, and in which the radius rises linearly.
    regularization : float, default=0.5
        Weight of the regularisers at the beginning; it falls to zero as the radius rises.
    initialize : bool, default=True
        Replace initial weights of linear and convolutional layers.

    References
    ----------
    .. [1] S. Gowal et al., "Scalable verified training for provably robust image classification", ICCV 2019.
    .. [2] Z. Shi, Y. Wang, H. Zhang, J. Yi, C.-J. Hsieh, "Fast certified robust training with short warmup", NeurIPS
       2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skrobust import TorchClassifier
    >>> from skrobust.certificates import certify
    >>> from skrobust.nn import IntervalBound
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> model = TorchClassifier("mlp", certified=IntervalBound(0.1), max_epochs=60, lr=0.01, random_state=0)
    >>> certificate = certify(model.fit(X[:1500], y[:1500]), X[1500:], y[1500:], eps=0.1)
    >>> bool(certificate.certified_accuracy > 0.4)
    True
    """

    eps: float
    clip: tuple | None = (0, 1)
    clean_weight: float = 0.0
    warm_up: float = 0.02
    ramp: float = 0.35
    regularization: float = 0.5
    initialize: bool = True

    def __post_init__(self):
        if not self.eps > 0:
            raise ValueError(f"eps must be > 0, got {self.eps!r}.")
        for name in ("clean_weight", "warm_up", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {getattr(self, name)!r}.")
        if self.warm_up + self.ramp > 1:
            raise ValueError(f"warm_up + ramp must be at most 1, got {self.warm_up + self.ramp:g}.")

    @torch.no_grad()
    def prepare(self, network):
        """Draw initial weights of standard deviation ``sqrt(2 pi) / fan_in``, with which intervals keep their size."""
        if not self.initialize:
            return
        for layer in network.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(layer.weight, std=math.sqrt(2 * math.pi) / layer.weight[0].numel())
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def share_of_radius(self, progress):
        """The radius after a share `progress` of the training, relative to `eps`."""
        if self.ramp == 0:
            return float(progress >= self.warm_up)
        return min(1.0, max(0.0, (progress - self.warm_up) / self.ramp))

    def __call__(self, network, X, y, progress):
        """Loss of a batch, and the scores of X."""
        share = self.share_of_radius(progress)
        penalties = []

        def observe(layer, spread):
            if isinstance(layer, nn.ReLU):
                penalties.append(_imbalance(spread))
                sizes.append(spread.radius.mean())

        sizes = []
        scores, margins = margin_bounds(network, X, y, share * self.eps, clip=self.clip, observe=observe)
        loss = functional.cross_entropy(-margins.to(scores.dtype), y)
        if self.clean_weight:
            loss = (1 - self.clean_weight) * loss + self.clean_weight * functional.cross_entropy(scores, y)
        if share < 1 and penalties:
            growth = _growth(sizes) if share > 0 else 0.0
            loss = loss + self.regularization * (1 - share) * (growth + sum(penalties)) / len(penalties)
        return loss, scores


def _growth(sizes):
    """How much intervals grow from the first ReLU to the others."""
    first = sizes[0].detach()
    return sum(functional.relu(_TIGHTNESS - first / size.clamp_min(1e-12)) / _TIGHTNESS for size in sizes[1:])


def _imbalance(spread):
    """How unequal units that are surely on and units that are surely off are, in mean and in variance."""
    on, off = (spread.lower > 0).float(), (spread.upper < 0).float()
    if not (on.any() and off.any()):
        return spread.centre.new_zeros(())
    centre = spread.centre.float()
    mean_on, mean_off = (on * centre).sum() / on.sum(), -(off * centre).sum() / off.sum()
    around = (centre - centre.mean()).square()
    penalty = 0.0
    for a, b in ((mean_on, mean_off), ((on * around).sum(), (off * around).sum())):
        ratio = a / b.clamp_min(1e-6)
        penalty = penalty + functional.relu(_BALANCE - torch.minimum(ratio, 1 / ratio.clamp_min(1e-6))) / _BALANCE
    return penalty

"""What a training minimises: objectives map a network and a batch to a loss and the scores behind it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

_SMALLEST_PROBABILITY = 1e-4
"""Lower bound of the probabilities in MART, as in the authors' code."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, of the images themselves or of their adversarial versions.

    Parameters
    ----------
    perturb : callable or None, default=None
        ``perturb(network, X, y, progress)`` returns adversarial images. None: train on X.
    class_weight : Tensor of shape (n_classes,) or None, default=None
    label_smoothing : float, default=0.0
    """

    perturb: Any = None
    class_weight: torch.Tensor | None = None
    label_smoothing: float = 0.0

    def __call__(self, network, X, y, progress):
        """Loss of a batch, and the scores of which it is the loss.

        Parameters
        ----------
        network : torch.nn.Module
        X : Tensor of shape (n_samples, ...)
        y : Tensor of int of shape (n_samples,)
        progress : float
            Finished share of the training, in [0, 1).

        Returns
        -------
        loss : Tensor of no dimension
        scores : Tensor of shape (n_samples, n_classes)
        """
        scores = _widened(network(X if self.perturb is None else self.perturb(network, X, y, progress)))
        options = {"weight": self.class_weight, "label_smoothing": self.label_smoothing}
        return functional.cross_entropy(scores, y, **options), scores


@dataclass(frozen=True)
class Trades:
    """Cross-entropy of the images plus beta times the divergence to the scores of their adversarial versions.

    ``CE(f(x), y) + beta KL(f(x) || f(x_adv))``, where `perturb` maximises the divergence.

    Parameters
    ----------
    perturb : callable
        ``perturb(network, X, y, progress)`` returns adversarial images.
    beta : float, default=6.0
    class_weight : Tensor of shape (n_classes,) or None, default=None
    label_smoothing : float, default=0.0

    References
    ----------
    .. [1] H. Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019.
    """

    perturb: Any
    beta: float = 6.0
    class_weight: torch.Tensor | None = None
    label_smoothing: float = 0.0

    def __call__(self, network, X, y, progress):
        """Loss of a batch, and the scores of X."""
        X_adv = self.perturb(network, X, y, progress)
        scores, attacked = _widened(network(torch.cat((X, X_adv)))).split(len(X))
        clean = functional.cross_entropy(scores, y, weight=self.class_weight, label_smoothing=self.label_smoothing)
        return clean + self.beta * _divergence(scores, attacked).mean(), scores


@dataclass(frozen=True)
class Mart:
    """Boosted cross-entropy of adversarial images, plus a divergence that counts most where the model is unsure.

    Parameters
    ----------
    perturb : callable
        ``perturb(network, X, y, progress)`` returns adversarial images.
    beta : float, default=5.0
    class_weight : Tensor of shape (n_classes,) or None, default=None

    References
    ----------
    .. [1] Y. Wang et al., "Improving adversarial robustness requires revisiting misclassified examples", ICLR 2020.
    """

    perturb: Any
    beta: float = 5.0
    class_weight: torch.Tensor | None = None

    def __call__(self, network, X, y, progress):
        """Loss of a batch, and the scores of X."""
        X_adv = self.perturb(network, X, y, progress)
        scores, attacked = _widened(network(torch.cat((X, X_adv)))).split(len(X))
        proba = attacked.softmax(1)
        runner_up = proba.scatter(1, y[:, None], -1.0).amax(1)
        boosted = functional.cross_entropy(attacked, y, reduction="none")
        boosted = boosted - (1 - runner_up).clamp_min(_SMALLEST_PROBABILITY).log()
        if self.class_weight is not None:
            boosted = boosted * self.class_weight[y]
        unsure = 1 - scores.softmax(1).gather(1, y[:, None]).squeeze(1)
        return (boosted + self.beta * unsure * _divergence(scores, attacked)).mean(), scores


def _divergence(scores, attacked):
    """Kullback-Leibler divergence of each sample's class probabilities from those of `scores`."""
    logs = functional.kl_div(attacked.log_softmax(1), scores.log_softmax(1), reduction="none", log_target=True)
    return logs.sum(1)


def _widened(scores):
    """Scores in float32 if mixed precision made them shorter."""
    return scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores

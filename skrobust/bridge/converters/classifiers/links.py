"""Probabilities from decision values, and their logarithms without underflow."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from skrobust.bridge.modules import binary_proba, finite_log, two_columns
from skrobust.signals import clip_values


@dataclass(frozen=True)
class Link:
    """Functions of a decision function, (n_samples,) or (n_samples, n_classes), to (n_samples, n_classes)."""

    proba: Callable
    log_proba: Callable


def normalized_rows(values, empty):
    """Rows divided by their sums; where the sum is zero, `empty`."""
    total = values.sum(dim=1, keepdim=True)
    return torch.where(total == 0, empty, values / torch.where(total == 0, 1, total))


def _softmax(decision):
    return binary_proba(torch.sigmoid(decision)) if decision.ndim == 1 else torch.softmax(decision, dim=1)


def _log_softmax(decision):
    return torch.log_softmax(two_columns(decision) if decision.ndim == 1 else decision, dim=1)


def _one_vs_rest(decision):
    if decision.ndim == 1:
        return _softmax(decision)
    return normalized_rows(torch.sigmoid(decision), 1 / decision.shape[1])


def _log_one_vs_rest(decision):
    if decision.ndim == 1:
        return _log_softmax(decision)
    return torch.log_softmax(F.logsigmoid(decision), dim=1)


def _modified_huber(decision):
    proba = (clip_values(decision, -1, 1) + 1) / 2
    return binary_proba(proba) if decision.ndim == 1 else normalized_rows(proba, 1 / decision.shape[1])


def _log_modified_huber(decision):
    return finite_log(_modified_huber(decision))


def _multinomial(decision):
    return torch.exp(_log_multinomial(decision))


def _log_multinomial(decision):
    return _log_softmax(2 * decision if decision.ndim == 1 else decision)


# Softmax; logistic for two classes.
SOFTMAX = Link(_softmax, _log_softmax)
# Each class against the rest, logistic, normalised.
ONE_VS_REST = Link(_one_vs_rest, _log_one_vs_rest)
# The decision clipped to [-1, 1] and mapped to [0, 1], normalised.
MODIFIED_HUBER = Link(_modified_huber, _log_modified_huber)
# Softmax of (-d, d) for two classes.
MULTINOMIAL = Link(_multinomial, _log_multinomial)

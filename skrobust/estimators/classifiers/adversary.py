"""Attacks on a network while it is being trained."""

from contextlib import contextmanager

import numpy as np
import torch
from sklearn.base import clone

from skrobust.attacks import FGSM, PGD

N_CHECK_STEPS = 10
"""Steps of the attack that checks a network trained on single steps."""
LARGEST_DROP = 0.3
"""Fall of the accuracy under that attack, from the best epoch so far, that counts as catastrophic overfitting."""
_SEEDS = 2**31 - 1


class TrainingAdversary:
    """Adversarial images of the network as it is, for training.

    The network is attacked in evaluation mode, and each image ends at the attack's last iterate, even if it was
    misclassified before.

    Parameters
    ----------
    attack : Attack
    generator : torch.Generator
        For the attack's random state, a new one each batch.
    loss : str or None, default=None
        Loss that the attack maximises; None: its own.
    warm_up : float, default=0.0
        Share of the training in which the attack's radius rises linearly from zero.
    """

    def __init__(self, attack, generator, loss=None, warm_up=0.0):
        fixed = {"perturb_all": True, "keep": "last", "verbose": 0} | ({} if loss is None else {"loss": loss})
        known = attack.get_params(deep=False)
        if loss is not None and "loss" not in known:
            raise ValueError(
                f"loss='trades' needs an adversary whose loss can be 'kl', such as PGD; {type(attack).__name__} has no "
                "parameter loss."
            )
        self.attack = clone(attack).set_params(**{name: value for name, value in fixed.items() if name in known})
        self.generator, self.warm_up = generator, warm_up

    def __call__(self, network, X, y, progress):
        """Adversarial versions of X, after a share `progress` of the training."""
        seed = int(torch.randint(_SEEDS, (), generator=self.generator))
        known, changed = self.attack.get_params(deep=False), {}
        if "random_state" in known:
            changed["random_state"] = seed
        if progress < self.warm_up:
            share = progress / self.warm_up
            lengths = [name for name in ("eps", "step_size") if known.get(name) is not None]
            changed |= {name: share * np.asarray(known[name]) for name in lengths}
            if share == 0:
                return X
        attack = clone(self.attack).set_params(**changed)
        with _frozen(network):
            return attack.perturb(network, X, y)


def is_single_step(attack):
    """Whether an attack takes one step from each start."""
    return isinstance(attack, FGSM) or getattr(attack, "n_iter", None) == 1


def stronger(attack):
    """The attack that checks a network trained on single steps."""
    return PGD(eps=attack.eps, norm=attack.norm, clip=attack.clip, n_iter=N_CHECK_STEPS, random_state=0)


def accuracy_under(attack, network, X, y):
    """Share of samples that a network classifies correctly under an attack."""
    attack = clone(attack)
    if "random_state" in attack.get_params(deep=False):
        attack.set_params(random_state=0)
    X, y = torch.as_tensor(X), np.asarray(y)
    with _frozen(network):
        X_adv = attack.perturb(network, X, y)
    return accuracy_of(network, X_adv, y)


@torch.no_grad()
def accuracy_of(network, X, y, batch_size=256):
    """Share of samples that a network classifies correctly, in evaluation mode."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    parts = [network(part.to(device)).argmax(1).cpu() for part in torch.as_tensor(X).split(batch_size)]
    network.train(was_training)
    return float(np.mean(torch.cat(parts).numpy() == np.asarray(y)))


@contextmanager
def _frozen(network):
    """Parameters without gradients, whose computation an attack can do without."""
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)

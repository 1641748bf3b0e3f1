"""Certificate of a `TorchClassifier`: interval bounds through its network."""

import numpy as np

from skrobust.estimators.classifiers.torch_classifier import TorchClassifier
from skrobust.signals.arrays import label_indices
from skrobust.signals.tensors import to_numpy

from .proofs import Proof
from .registry import NoCertificateError, register_certificate

_BATCH = 256
"""Images bounded at once."""


class IntervalProof(Proof):
    """The true class has the highest score wherever interval bounds allow the scores to be.

    Parameters
    ----------
    network : torch.nn.Module
    values : ndarray of shape (n_samples, ...)
        The network's input.
    true : ndarray of int of shape (n_samples,)
        Positions of the true classes; -1 for labels unknown to the model.
    norm, clip
        As in `Proof`.
    """

    method = "interval bounds through the network"

    def __init__(self, network, values, true, norm, clip):
        super().__init__(values, None, norm, clip)
        self.network, self.true = network, true

    def holds(self, eps, index):
        import torch

        from skrobust.nn.intervals import certified_margins

        device = next(self.network.parameters()).device
        proved = np.zeros(len(index), dtype=bool)
        known = np.flatnonzero(self.true[index] >= 0)
        for begin in range(0, len(known), _BATCH):
            rows = known[begin : begin + _BATCH]
            images = index[rows]
            parts = [torch.as_tensor(part, device=device) for part in (self.values[images], self.true[images])]
            # Of every norm here, the ball lies in the l-infinity ball of the same radius.
            radii = torch.as_tensor(eps[rows], dtype=torch.float64, device=device)
            margins = certified_margins(self.network, *parts, radii, clip=self.clip).cpu().numpy()
            others = np.arange(margins.shape[1]) != self.true[images][:, None]
            proved[rows] = np.all((margins > 0) | ~others, axis=1)
        return proved


@register_certificate(TorchClassifier)
def prove(front, name, head, X, y, norm, clip):
    if head is not None:
        raise NoCertificateError("A TorchClassifier has a certificate as the last step of a model only.")
    if front.front_end_ is not None:
        raise NoCertificateError(
            f"No certificate for a TorchClassifier behind the front end {type(front.front_end).__name__}: set "
            "front_end=None."
        )
    import torch

    from skrobust.nn.intervals import NoBoundsError, Spread, propagate

    values = front._samples(X, reset=False)
    network = front.network_
    try:
        propagate(
            network, Spread.around(torch.as_tensor(values[:1], device=next(network.parameters()).device), 0.0, None)
        )
    except NoBoundsError as error:
        raise NoCertificateError(f"No certificate for this TorchClassifier: {error}") from error
    return IntervalProof(network, values, label_indices(to_numpy(y), front.classes_), norm, clip)

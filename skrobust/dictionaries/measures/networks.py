"""Coherence of the dictionaries inside a torch network."""

from typing import NamedTuple

import numpy as np

from skrobust.operators import ConvolutionalOperator, LayeredDictionary

from .layered import layered_coherence


class NetworkCoherence(NamedTuple):
    """Measures of one convolutional dictionary of a network, on an unbounded grid.

    ``welch_bound <= frame_potential <= mutual_coherence``, up to rounding.

    Attributes
    ----------
    name : str
        Of the module in the network; for a layered pursuit followed by the number of the layer, from 1.
    n_components : int
    mutual_coherence : float
        Largest inner product of two different atoms at positions of the stride, divided by their norms.
    frame_potential : float
        Root mean square of these inner products over all atoms and shifts that overlap.
    welch_bound : float
        Lower bound on the frame potential for any atoms of these norms.
    """

    name: str
    n_components: int
    mutual_coherence: float
    frame_potential: float
    welch_bound: float


def network_coherence(module, *, n_jobs=None):
    """Coherence and frame potential of each layer of sparse coding of a network.

    Parameters
    ----------
    module : torch.nn.Module
        A network with a `skrobust.nn.CSCLayer` or `skrobust.nn.LayeredPursuit`, or a module of one's own whose method
        ``dictionaries()`` returns pairs of atoms ``(n_components, *kernel_size, n_channels)`` and stride.
    n_jobs : int or None, default=None
        Number of threads.

    Returns
    -------
    list of NetworkCoherence
        One row per layer; `pandas.DataFrame` takes the list.

    Raises
    ------
    ValueError
        If the network has no such layer.

    See Also
    --------
    layered_coherence : Of a structured dictionary, with its skip connections and edges.

    Examples
    --------
    >>> from skrobust.dictionaries import network_coherence
    >>> from skrobust.nn import make_network
    >>> network = make_network("sdnet18", n_classes=10, image_shape=(32, 32, 3), width=8)
    >>> [(row.name, row.n_components) for row in network_coherence(network)]
    [('0', 8)]
    """
    rows = []
    for name, one in module.named_modules():
        dictionaries = one.dictionaries() if hasattr(one, "dictionaries") else []
        for j, (atoms, stride) in enumerate(dictionaries, start=1):
            label = name if len(dictionaries) == 1 else f"{name}.{j}".lstrip(".")
            measures = layered_coherence(_on_a_circle(np.asarray(atoms, dtype=np.float64), stride), n_jobs=n_jobs)
            rows.append(NetworkCoherence(label, len(atoms), *measures[:3]))
    if not rows:
        raise ValueError(f"{type(module).__name__} has no CSCLayer and no LayeredPursuit.")
    return rows


def _on_a_circle(atoms, stride):
    """Atoms on the smallest circle on which no two positions overlap twice: there each shift occurs equally often."""
    kernel = atoms.shape[1:-1]
    strides = (stride,) * len(kernel) if np.ndim(stride) == 0 else stride
    grid = [-(-(2 * k - 1) // s) * s for k, s in zip(kernel, strides, strict=True)]
    operator = ConvolutionalOperator(atoms, (*grid, atoms.shape[-1]), padding="circular", stride=tuple(strides))
    return LayeredDictionary([operator])

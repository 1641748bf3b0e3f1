"""The registry of named networks."""

import difflib
import functools
import importlib
import inspect

NETWORKS = {}
"""Function that makes each network, by name."""

FAMILIES = "deep_pursuit", "dictionary_paper", "front_end_paper", "mlp", "resnet", "sdnet", "stability"


def register_network(function):
    """Enter a function ``name(n_classes, image_shape, **options)`` under its name.

    Parameters
    ----------
    function : callable
        Returns an `nn.Module` that takes images with channels first.

    Returns
    -------
    callable
        `function`.
    """
    NETWORKS[function.__name__] = function
    return function


def make_network(name, *, n_classes, image_shape, **options):
    """A network by name, with random weights from torch's global generator.

    Parameters
    ----------
    name : str
        One of `network_names`.
    n_classes : int
    image_shape : tuple of int
        ``(height, width)`` or ``(height, width, n_channels)``.
    **options
        Further parameters of the network, such as ``width``; the user guide lists them.

    Returns
    -------
    torch.nn.Module
        Takes images of shape (n_samples, n_channels, height, width), returns class scores.

    Raises
    ------
    ValueError
        If the name is unknown, or the images are too small.
    TypeError
        If the network does not have an option.

    Examples
    --------
    >>> import torch
    >>> from skrobust.nn import make_network
    >>> network = make_network("sdnet18", n_classes=10, image_shape=(32, 32, 3), width=4, alpha=0.2)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    _load_families()
    if name not in NETWORKS:
        close = difflib.get_close_matches(str(name), NETWORKS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"name must be one of {', '.join(map(repr, network_names()))}, got {name!r}.{hint}")
    shape = tuple(int(n) for n in image_shape)
    shape = (*shape, 1) if len(shape) == 2 else shape
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image_shape must be (height, width) or (height, width, n_channels), got {image_shape!r}.")
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes!r}.")
    make = NETWORKS[name]
    parameters = inspect.signature(make).parameters.values()
    known = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(known))
    if unknown and not any(one.kind is one.VAR_KEYWORD for one in parameters):
        raise TypeError(f"The network {name!r} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}.")
    return make(n_classes, shape, **options)


def network_names():
    """Names of all networks.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from skrobust.nn import network_names
    >>> "resnet18" in network_names()
    True
    """
    _load_families()
    return sorted(NETWORKS)


@functools.cache
def _load_families():
    for family in FAMILIES:
        importlib.import_module(f".{family}", __package__)

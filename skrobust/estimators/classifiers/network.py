"""The torch network of a `TorchClassifier`, from a name, a class or an instance."""

import copy
import inspect

import numpy as np
import torch

from skrobust.nn import ImageNetwork, RowNetwork, make_network


def build_network(module, options, n_classes, shape, scaling):
    """The network that maps samples of a shape to scores.

    Parameters
    ----------
    module : str, type or torch.nn.Module
        A name of `skrobust.nn.network_names`, a class, or an instance, which is copied.
    options : dict
        Arguments of the network's constructor.
    n_classes : int
    shape : tuple of int
        ``(height, width, n_channels)`` of images, ``(n_features,)`` of rows.
    scaling : tuple of (mean, std)

    Returns
    -------
    ImageNetwork or RowNetwork

    Raises
    ------
    ValueError
        If the network does not return one score per class.
    """
    if isinstance(module, str):
        image_shape = shape if len(shape) == 3 else (*shape, 1, 1)
        inner = make_network(module, n_classes=n_classes, image_shape=image_shape, **options)
    elif inspect.isclass(module):
        inner = module(**options)
    else:
        if options:
            raise ValueError("module_options needs a name or a class as module, got an instance. Build it with them.")
        inner = copy.deepcopy(module)
    network = (ImageNetwork if len(shape) == 3 else RowNetwork)(inner, *scaling)
    _check_output(network, n_classes, shape)
    return network


def feature_scaling(normalize, X):
    """Mean and standard deviation by which a network normalises its input.

    Parameters
    ----------
    normalize : {"auto", None} or pair
        "auto": of the training samples, per channel of images, per feature of rows. None: no normalisation.
    X : ndarray of shape (n_samples, ..., n_channels)
    """
    if normalize is None:
        return 0.0, 1.0
    if isinstance(normalize, str):
        axes = tuple(range(X.ndim - 1))
        mean, std = X.mean(axis=axes, dtype=np.float64), X.std(axis=axes, dtype=np.float64)
        return mean, np.where(std > np.finfo(np.float32).eps * np.abs(mean), std, 1.0)
    mean, std = (np.asarray(part, dtype=np.float64) for part in normalize)
    for part in (mean, std):
        if part.shape not in ((), X.shape[-1:]) or not np.isfinite(part).all() or (part is std and (std <= 0).any()):
            raise ValueError(
                f"normalize must be 'auto', None or (mean, std), each a number or {X.shape[-1]} numbers, std > 0; got "
                f"{normalize!r}."
            )
    return mean, std


def _check_output(network, n_classes, shape):
    was_training = network.training
    network.eval()
    with torch.no_grad():
        scores = network(torch.zeros(2, *shape))
    network.train(was_training)
    if not isinstance(scores, torch.Tensor) or scores.shape != (2, n_classes):
        shape = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise ValueError(
            f"module must return scores of shape (n_samples, {n_classes}), one for each class of y; for 2 samples "
            f"{type(network.network).__name__} returned {shape}."
        )

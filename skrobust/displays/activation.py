"""`ActivationMapDisplay`: class activation maps of images before and after an attack and a front end."""

import numpy as np

from skrobust.displays.drawing.style import INK, RIGHT, WRONG, drawing

from .base import Display


class ActivationMapDisplay(Display):
    """Where a network sees a class: class activation maps over clean, attacked and restored images.

    The map of a class is the sum of the last feature maps, times the weights of the class for their means ([1]_).
    Create it with `from_estimator`.

    Parameters
    ----------
    views : dict of str to ndarray of shape (n_samples, height, width[, n_channels])
    maps : dict of str to ndarray of shape (n_samples, height, width)
    predictions : dict of str to ndarray of shape (n_samples,)
    targets : ndarray of shape (n_samples,)

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes of shape (n_samples, n_views)

    References
    ----------
    .. [1] B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba, "Learning deep features for discriminative
       localization", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skrobust.displays import ActivationMapDisplay
    >>> from skrobust.nn import ImageNetwork, make_network
    >>> network = ImageNetwork(make_network("resnet32", n_classes=10, image_shape=(32, 32, 3)))
    >>> X = np.random.default_rng(0).random((2, 32, 32, 3))
    >>> display = ActivationMapDisplay.from_estimator(network, {"clean": X}, [3, 5])  # doctest: +SKIP
    """

    def __init__(self, views, maps, predictions, targets):
        self.views = views
        self.maps = maps
        self.predictions = predictions
        self.targets = targets

    @classmethod
    def from_estimator(cls, estimator, views, y, *, figure=None):
        """Compute the maps and draw them.

        Parameters
        ----------
        estimator : torch.nn.Module
            Takes images as `views` has them. Its last layers are the mean over all pixels
            (`torch.nn.AdaptiveAvgPool2d` of size 1) and a linear layer, as in ResNets and SDNets.
        views : dict of str to array-like of shape (n_samples, height, width[, n_channels])
            The same images clean, attacked, restored and so on, by name, with values in [0, 1].
        y : array-like of int of shape (n_samples,)
            Index of the class whose map is drawn for each image: usually the true one.

        Raises
        ------
        ValueError
            If the network ends otherwise, or views and `y` do not fit.
        """
        views = {name: np.asarray(images) for name, images in views.items()}
        y = np.asarray(y)
        shapes = {images.shape for images in views.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) not in (3, 4):
            raise ValueError(
                f"views must hold images of one shape (n_samples, height, width[, n_channels]), got {shapes}."
            )
        n_samples = len(next(iter(views.values())))
        if y.shape != (n_samples,):
            raise ValueError(f"y must hold one class index for each of the {n_samples} images, got shape {y.shape}.")
        maps, predictions = {}, {}
        for name, images in views.items():
            maps[name], predictions[name] = class_activation_maps(estimator, images, y)
        return cls(views, maps, predictions, y).plot(figure=figure)

    def plot(self, figure=None):
        """Draw the images with their maps."""
        n_samples, names = len(self.targets), list(self.views)
        largest = max(float(np.abs(values).max()) for values in self.maps.values()) or 1.0
        with drawing() as plt:
            if figure is None:
                figure = plt.figure(figsize=(1.7 * len(names) + 0.4, 1.75 * n_samples + 0.5), layout="constrained")
            axes = figure.subplots(n_samples, len(names), squeeze=False)
            for name, column in zip(names, axes.T, strict=True):
                column[0].set_title(name, loc="left", color=INK)
                images = self.views[name].reshape(*self.views[name].shape[:3], -1)
                for i, ax in enumerate(column):
                    grey = np.clip(images[i].mean(axis=-1), 0, 1)
                    ax.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                    ax.imshow(self.maps[name][i], cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=0.5)
                    ax.set(xticks=[], yticks=[])
                    predicted = self.predictions[name][i]
                    ax.set_xlabel(str(predicted), color=RIGHT if predicted == self.targets[i] else WRONG, labelpad=2)
        self.figure_, self.axes_ = figure, axes
        return self


def class_activation_maps(network, images, targets):
    """Maps of the classes `targets`, enlarged to the size of the images, and predicted classes."""
    import torch
    from torch import nn

    modules = list(network.modules())
    pools = [one for one in modules if isinstance(one, nn.AdaptiveAvgPool2d) and one.output_size in (1, (1, 1))]
    linear = [one for one in modules if isinstance(one, nn.Linear)]
    if not pools or not linear:
        raise ValueError(
            f"{type(network).__name__} has no class activation maps: it must end with torch.nn.AdaptiveAvgPool2d(1) "
            "and a linear layer, as ResNets and SDNets do."
        )
    found = []
    hook = pools[-1].register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    was_training = network.training
    try:
        with torch.no_grad():
            weight = linear[-1].weight
            scores = network.eval()(torch.as_tensor(images, dtype=weight.dtype, device=weight.device))
    finally:
        hook.remove()
        network.train(was_training)
    with torch.no_grad():
        maps = torch.einsum("nchw,nc->nhw", found[0], weight[torch.as_tensor(targets, device=weight.device)])
        maps = nn.functional.interpolate(maps[:, None], size=images.shape[1:3], mode="bilinear")[:, 0]
    return maps.cpu().numpy(), scores.argmax(1).cpu().numpy()

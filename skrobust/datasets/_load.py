"""One loader for all sets, by name."""

import inspect

from sklearn.utils._param_validation import InvalidParameterError

from ._cifar import load_cifar10, load_cifar100
from ._cifar_c import load_cifar10c
from ._digits import load_digits_images
from ._folders import load_image_folder
from ._mnist import load_fashion_mnist, load_idx, load_mnist

_LOADERS = {
    "digits": load_digits_images,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "cifar10-c": load_cifar10c,
    "image-folder": load_image_folder,
    "idx": load_idx,
}

# So that one call serves all sets: what says where files lie is nothing to a set without files.
_OF_FILES = ("data_home", "verify", "download")

#: The names that `load_dataset` takes.
DATASETS = tuple(_LOADERS)


def load_dataset(name, *, split=None, **options):
    """Load a set of images by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "cifar10-c", "image-folder", "idx"}
        Each stands for the function of that name: `load_digits_images`, `load_mnist`, ... In any case, with "_" or
        "-".
    split : {"train", "test", "all"}, default=None
        The part; None: what the function for that set takes by default. "cifar10-c" is a test set.
    **options
        What that function takes: ``dtype`` and ``return_X_y`` for all, ``data_home`` and ``verify`` for the published
        sets, ``download`` for those on OpenML, ``label`` for CIFAR-100, ``kind`` and ``severity`` for CIFAR-10-C,
        ``path``, ``color``, ``size`` and ``resize`` for an image folder, ``images`` and ``labels`` for IDX files. For
        the digits, which come with scikit-learn, ``data_home``, ``verify`` and ``download`` have no effect.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        As that function returns it: ``data``, ``images``, ``target``, ``target_names``, ``image_shape``, ``DESCR``,
        ``files``, ``verified``. Or ``(data, target)`` with ``return_X_y=True``.

    Raises
    ------
    InvalidParameterError
        A ValueError: no set of that name, or it has no such split or option.
    DatasetNotFoundError
        A FileNotFoundError that lists where it looked and what to do.
    DatasetFileError
        A ValueError that names the file that is truncated, damaged or not the published one.

    Examples
    --------
    >>> from skrobust.datasets import load_dataset
    >>> X, y = load_dataset("digits", split="test", return_X_y=True)
    >>> X.shape, y.shape
    ((450, 64), (450,))
    """
    key = str(name).lower().replace("_", "-")
    if key not in _LOADERS:
        raise InvalidParameterError(
            f"The 'name' parameter of load_dataset must be one of {', '.join(DATASETS)}. Got {name!r} instead."
        )
    loader = _LOADERS[key]
    takes = inspect.signature(loader).parameters
    if "split" in takes:
        options |= {"split": split} if split is not None else {}
    elif split not in ((None, "test") if loader is load_cifar10c else (None,)):
        raise InvalidParameterError(
            f"The 'split' parameter must be None for {key!r}, which has no splits. Got {split!r}."
        )
    if loader is load_digits_images:
        options = {option: value for option, value in options.items() if option not in _OF_FILES}
    if unknown := sorted(set(options) - set(takes)):
        raise InvalidParameterError(
            f"{key!r} has no option {', '.join(map(repr, unknown))}; it takes {', '.join(takes)}."
        )
    return loader(**options)

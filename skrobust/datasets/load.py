"""One loader for all sets, by name."""

import inspect

from sklearn.utils._param_validation import InvalidParameterError

from .cifar import load_cifar10, load_cifar100
from .cifar_c import load_cifar10c
from .digits import load_digits_images
from .folders import load_image_folder
from .mnist import load_fashion_mnist, load_idx, load_mnist

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

# Options about files, ignored for the digits, so that one call works for all sets.
_FILE_OPTIONS = ("data_home", "verify", "download")

#: The names accepted by `load_dataset`.
DATASETS = tuple(_LOADERS)


def load_dataset(name, *, split=None, **options):
    """Load a set of images by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "cifar10-c", "image-folder", "idx"}
        Each is loaded by the function of that name: `load_digits_images`, `load_mnist`, ... In upper or lower
        case, with "_" or "-".
    split : {"train", "test", "all"}, default=None
        The part; None: the default of the function for that set. "cifar10-c" is a test set.
    **options
        Parameters of that function: ``dtype`` and ``return_X_y`` for all, ``data_home`` and ``verify`` for published
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
    accepted = inspect.signature(loader).parameters
    if "split" in accepted:
        options |= {"split": split} if split is not None else {}
    elif split not in ((None, "test") if loader is load_cifar10c else (None,)):
        raise InvalidParameterError(
            f"The 'split' parameter must be None for {key!r}, which has no splits. Got {split!r}."
        )
    if loader is load_digits_images:
        options = {option: value for option, value in options.items() if option not in _FILE_OPTIONS}
    if unknown := sorted(set(options) - set(accepted)):
        raise InvalidParameterError(
            f"{key!r} has no option {', '.join(map(repr, unknown))}; it takes {', '.join(accepted)}."
        )
    return loader(**options)

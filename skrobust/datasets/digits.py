"""scikit-learn's bundled digits: no files, no network."""

import numpy as np
from sklearn.utils._param_validation import validate_params

from skrobust.signals import documented_like

from .bunch import make_bunch, only, pixel_dtype
from .mnist import load_mnist

# Three quarters and one quarter, in the order of the file.
_N_TRAIN = 1347
_PARTS = {"train": slice(0, _N_TRAIN), "test": slice(_N_TRAIN, None), "all": slice(None)}


@documented_like(load_mnist)
@validate_params(only("split", "dtype", "return_X_y"), prefer_skip_nested_validation=True)
def load_digits_images(*, split="all", dtype="float32", return_X_y=False):
    """Load scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, scaled to [0, 1].

    Parameters
    ----------
    split : {"all", "train", "test"}, default="all"
        No split of these digits is published. Here "train" is the first 1,347 and "test" the last 450. The file is
        ordered by writer, so that most writers of the test images do not occur in the training images.
    dtype : {"float32", "float64", "uint8"}, default="float32"
        Floats are divided by 16, the largest stored value; "uint8" gives the stored values, 0 to 16.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        With ``data`` (n, 64), ``images`` (n, 8, 8), a view of the same memory, and the rest as from `load_mnist`. Or
        ``(data, target)`` if `return_X_y`.

    See Also
    --------
    sklearn.datasets.load_digits : The same images as float64 from 0 to 16.

    Examples
    --------
    >>> from skrobust.datasets import load_digits_images
    >>> digits = load_digits_images(split="train")
    >>> digits.images.shape, digits.images.dtype, float(digits.images.max())
    ((1347, 8, 8), dtype('float32'), 1.0)
    """
    from sklearn.datasets import load_digits

    pixel_dtype(dtype)
    digits = load_digits()
    part = _PARTS[split]
    return make_bunch(
        digits.images[part].astype(np.uint8),
        digits.target[part],
        target_names=[str(name) for name in digits.target_names],
        dtype=dtype,
        return_X_y=return_X_y,
        title=f"Digits of scikit-learn, {split}",
        descr=digits.DESCR,
        white=16,
        files=["sklearn.datasets.load_digits"],
        verified=True,
    )

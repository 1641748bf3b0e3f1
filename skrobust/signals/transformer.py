"""Base class of all transformers of signals and images."""

import functools
from numbers import Integral

from sklearn.base import TransformerMixin
from sklearn.utils._set_output import _get_output_config

from .estimator import SignalEstimator
from .parameters import parameter, parametrized


def _rows_for_frames(transform):
    """Decorator of `transform`: a clear error if images are to be put into a data frame."""

    @functools.wraps(transform)
    def wrapped(self, X, *args, **kwargs):
        result = transform(self, X, *args, **kwargs)
        container = _get_output_config("transform", self)["dense"]
        if container != "default" and result.ndim > 2:
            raise ValueError(
                f"set_output(transform={container!r}) makes a table of rows, but {type(self).__name__} returns images "
                f"of shape {tuple(result.shape[1:])}, as X has. Pass X as rows, X.reshape(len(X), -1), with "
                "image_shape=(height, width[, n_channels]), or set_output(transform='default')."
            )
        return result

    return wrapped


@parametrized
class SignalTransformer(TransformerMixin, SignalEstimator):
    """A transformer of signals or images.

    Parameters
    ----------
    n_jobs : int or None, default=None
        Number of threads. None: what the environment allows. The result does not depend on it.
    """

    n_jobs: int | None = parameter(None, Integral)

    def __init_subclass__(cls, **kwargs):
        if "transform" in vars(cls):
            cls.transform = _rows_for_frames(cls.transform)
        super().__init_subclass__(**kwargs)  # scikit-learn puts the output into a data frame

    def fit(self, X, y=None):
        """Learn the layout of the samples.

        Parameters
        ----------
        X : array-like or Tensor of shape (n_samples, n_features) or (n_samples, height, width[, n_channels])
            Samples, as rows or as images.
        y : None
            Ignored.

        Returns
        -------
        object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter does not fit X.
        """
        self._read_signals(X, reset=True)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

"""Base class of all estimators of signals and images."""

from contextlib import contextmanager

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from .convergence import ConvergenceLog
from .layout import SignalLayout, channels_first_hint
from .parameters import parameter, parametrized
from .tensors import check_tensor, is_tensor

_DTYPES = (np.float64, np.float32)


@contextmanager
def restored_on_error(estimator):
    """Restore the attributes of `estimator` if the code inside is interrupted or fails.

    Replaced attributes are restored; changes made in place are not.

    Parameters
    ----------
    estimator : object
        Anything with attributes.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@parametrized
class SignalEstimator(BaseEstimator):
    """An estimator whose X is ``(n_samples, n_features)`` or ``(n_samples, height, width[, n_channels])``.

    A subclass reads its input only through `_read_signals`: validated, float32 or float64, C-contiguous, on its grid
    with the channels last. `Signals.restore` maps results back to the layout of X.

    Parameters
    ----------
    image_shape : tuple of int or None, default=None
        ``(height, width)`` or ``(height, width, n_channels)`` of images given as rows of a 2-D X. None: rows are 1-D
        signals.

    Attributes
    ----------
    n_features_in_ : int
        Number of features of a sample.
    feature_names_in_ : ndarray of str
        Only if X has feature names.
    """

    image_shape: tuple | None = parameter(None, tuple, list)

    def _read_signals(self, X, *, reset):
        """Validate `X` and return it as `Signals`.

        With `reset`, in `fit`, `n_features_in_` and the layout are set; else X is checked against them. NaN, infinity,
        empty or complex input, and shapes different from those in `fit`, raise a ValueError.
        """
        if not reset:
            check_is_fitted(self)
        values = self._checked(X)
        sample_shape = tuple(values.shape[1:])
        # scikit-learn records names or the number of features of rows; for images the layout gives their number.
        has_rows = values.ndim == 2 and not is_tensor(X)
        if reset:
            layout = SignalLayout.infer(sample_shape, self.image_shape)
            if has_rows:
                validate_data(self, X, reset=True, skip_check_array=True)
            else:
                vars(self).pop("feature_names_in_", None)  # from an earlier fit on named features
                self.n_features_in_ = layout.n_features
            self._layout = layout
            self._convergence_log = ConvergenceLog()
        else:
            if has_rows:
                validate_data(self, X, reset=False, skip_check_array=True)
            if not self._layout.admits(sample_shape):
                self._raise_wrong_shape(sample_shape)
        return self._layout.place(values)

    def _checked(self, X):
        name = type(self).__name__
        if is_tensor(X):
            return check_tensor(X, name=name)
        values = check_array(X, dtype=_DTYPES, order="C", allow_nd=True, input_name="X", estimator=self)
        if values[0].size == 0:
            raise ValueError(
                f"Found array with 0 feature(s) (shape={values.shape}) while a minimum of 1 is required by {name}."
            )
        return values

    def _raise_wrong_shape(self, sample_shape):
        name = type(self).__name__
        if len(sample_shape) == 1:
            raise ValueError(
                f"X has {sample_shape[0]} features, but {name} is expecting {self.n_features_in_} features as input."
            )
        raise ValueError(
            f"X has samples of shape {sample_shape}, but {name} was fitted on {self._layout.canonical_shape} "
            f"(height, width, channels), {self.n_features_in_} features per sample.{channels_first_hint(sample_shape)}"
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

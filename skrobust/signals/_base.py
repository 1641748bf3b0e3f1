"""The base of every estimator that reads signals or images."""

from contextlib import contextmanager

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ._layout import SignalLayout
from ._tensors import check_tensor, is_tensor

_DTYPES = (np.float64, np.float32)


@contextmanager
def restored_on_error(estimator):
    """Leave `estimator` as it was if what runs within is interrupted or fails.

    Attributes that are replaced come back; what is changed within one of them does not.
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class SignalTransformer(TransformerMixin, BaseEstimator):
    """A transformer whose X is ``(n_samples, n_features)`` or ``(n_samples, height, width[, n_channels])``.

    A subclass reads its input through `_read_signals` alone: checked, as float32 or float64, C-contiguous, on its
    grid with the channels last. What it computes goes back through `Signals.restore`. It may have a parameter
    `image_shape`, which turns flat samples into images.
    """

    def _read_signals(self, X, *, reset):
        """Check `X` and lay it out as `Signals`.

        Parameters
        ----------
        X : array-like or torch.Tensor
        reset : bool
            True in `fit`: learn `n_features_in_` and the layout. False: compare with them.

        Raises
        ------
        ValueError
            For NaN, infinity, empty or complex input, and shapes other than those seen in `fit`.
        """
        if not reset:
            check_is_fitted(self)
        values = self._checked(X)
        sample_shape = tuple(values.shape[1:])
        # Rows have named or at least counted features, which scikit-learn keeps; images are counted by their layout.
        has_rows = values.ndim == 2 and not is_tensor(X)
        if reset:
            layout = SignalLayout.infer(sample_shape, getattr(self, "image_shape", None))
            if has_rows:
                validate_data(self, X, reset=True, skip_check_array=True)
            else:
                vars(self).pop("feature_names_in_", None)  # of an earlier fit on named features
                self.n_features_in_ = layout.n_features
            self._layout = layout
        else:
            if has_rows:
                validate_data(self, X, reset=False, skip_check_array=True)
            if not self._layout.admits(sample_shape):
                self._refuse(sample_shape)
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

    def _refuse(self, sample_shape):
        name = type(self).__name__
        if len(sample_shape) == 1:
            raise ValueError(
                f"X has {sample_shape[0]} features, but {name} is expecting {self.n_features_in_} features as input."
            )
        raise ValueError(
            f"X has samples of shape {sample_shape}, but {name} was fitted on {self._layout.canonical_shape} "
            f"(height, width, channels), {self.n_features_in_} features a sample.{self._layout.hint(sample_shape)}"
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

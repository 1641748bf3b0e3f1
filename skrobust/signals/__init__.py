"""What every estimator stands on: where pixels and channels lie in X, checked input, batches, threads."""

from ._base import SignalTransformer
from ._layout import SignalLayout, Signals
from ._resources import batch_slices, kernel_threads
from ._tensors import is_tensor

__all__ = ["SignalLayout", "SignalTransformer", "Signals", "batch_slices", "is_tensor", "kernel_threads"]

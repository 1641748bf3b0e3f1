"""What every estimator stands on: where pixels and channels lie in X, checked input, batches, threads, whole files."""

from ._base import SignalTransformer, restored_on_error
from ._clip import clip_values
from ._counts import count_of
from ._files import write_atomically
from ._layout import SignalLayout, Signals
from ._resources import batch_slices, kernel_threads
from ._tensors import is_tensor

__all__ = [
    "SignalLayout",
    "SignalTransformer",
    "Signals",
    "batch_slices",
    "clip_values",
    "count_of",
    "is_tensor",
    "kernel_threads",
    "restored_on_error",
    "write_atomically",
]

"""What every estimator stands on: where pixels and channels lie in X, checked input, batches, threads, whole files."""

from .files import write_atomically
from .layout import SignalLayout, Signals
from .resources import batch_slices, kernel_threads
from .tensors import is_tensor
from .transformer import SignalTransformer, restored_on_error

__all__ = [
    "SignalLayout",
    "SignalTransformer",
    "Signals",
    "batch_slices",
    "is_tensor",
    "kernel_threads",
    "restored_on_error",
    "write_atomically",
]

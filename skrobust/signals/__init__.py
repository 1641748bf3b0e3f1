"""What every estimator stands on: where pixels and channels lie in X, checked input, batches, threads, whole files."""

from ._base import SignalTransformer, restored_on_error
from ._clip import check_clip, clip_values
from ._counts import count_of
from ._files import write_atomically
from ._layout import SignalLayout, Signals
from ._resources import allowed_threads, batch_slices, kernel_threads, one_blas_thread
from ._shortfall import Shortfalls, shortfalls_ignored, tell_of_shortfall, told_once_a_fit
from ._tensors import is_tensor

__all__ = [
    "Shortfalls",
    "SignalLayout",
    "SignalTransformer",
    "Signals",
    "allowed_threads",
    "batch_slices",
    "check_clip",
    "clip_values",
    "count_of",
    "is_tensor",
    "kernel_threads",
    "one_blas_thread",
    "restored_on_error",
    "shortfalls_ignored",
    "tell_of_shortfall",
    "told_once_a_fit",
    "write_atomically",
]

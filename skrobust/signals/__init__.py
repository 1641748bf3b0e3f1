"""What every estimator stands on: layouts, checked input, scale, batches, threads, whole files."""

from ._base import SignalTransformer, restored_on_error
from ._clip import check_clip, clip_values
from ._counts import count_of
from ._files import write_atomically
from ._layout import SignalLayout, Signals
from ._resources import allowed_threads, batch_slices, kernel_threads, one_blas_thread
from ._scale import data_exponent, groups_by_exponent, scale_exponents, times_power
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
    "data_exponent",
    "groups_by_exponent",
    "is_tensor",
    "kernel_threads",
    "one_blas_thread",
    "restored_on_error",
    "scale_exponents",
    "shortfalls_ignored",
    "tell_of_shortfall",
    "times_power",
    "told_once_a_fit",
    "write_atomically",
]

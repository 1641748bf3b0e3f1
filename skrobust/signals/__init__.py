"""What every estimator stands on: layouts, checked input, scale, batches, threads, whole files."""

from ._base import SignalTransformer, restored_on_error
from ._files import write_atomically
from ._layout import SignalLayout, Signals
from ._resources import batch_slices, kernel_threads
from ._scale import data_exponent, groups_by_exponent, scale_exponents, times_power
from ._tensors import is_tensor

__all__ = [
    "SignalLayout",
    "SignalTransformer",
    "Signals",
    "batch_slices",
    "data_exponent",
    "groups_by_exponent",
    "is_tensor",
    "kernel_threads",
    "restored_on_error",
    "scale_exponents",
    "times_power",
    "write_atomically",
]

"""Shared basis of the estimators: layouts, input validation, scaling, batches, threads, atomic files."""

from .clip import check_clip, clip_values
from .counts import count_of
from .docstrings import documented_like
from .files import write_atomically
from .layout import SignalLayout, Signals
from .parameters import parameter, parametrized
from .resources import allowed_threads, batch_slices, kernel_threads, one_blas_thread
from .scale import data_exponent, groups_by_exponent, scale_exponents, times_power
from .shortfall import Shortfalls, shortfalls_ignored, tell_of_shortfall, told_once_a_fit
from .tensors import is_tensor
from .transformer import SignalTransformer, restored_on_error

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
    "documented_like",
    "groups_by_exponent",
    "is_tensor",
    "kernel_threads",
    "one_blas_thread",
    "parameter",
    "parametrized",
    "restored_on_error",
    "scale_exponents",
    "shortfalls_ignored",
    "tell_of_shortfall",
    "times_power",
    "told_once_a_fit",
    "write_atomically",
]

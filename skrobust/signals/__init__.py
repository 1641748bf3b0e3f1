"""Shared basis of the estimators: layouts, input validation, scaling, batches, threads, atomic files."""

from .clip import check_clip, clip_values
from .convergence import ConvergenceLog, convergence_warnings_ignored, warn_not_converged, warn_once_per_fit
from .counts import count_of
from .docstrings import documented_like
from .estimator import SignalEstimator, restored_on_error
from .files import write_atomically
from .layout import SignalLayout, Signals, per_axis
from .parameters import parameter, parametrized
from .resources import allowed_threads, batch_slices, kernel_threads, one_blas_thread
from .scale import data_exponent, groups_by_exponent, scale_exponents, times_power
from .tensors import is_tensor
from .transformer import SignalTransformer

__all__ = [
    "ConvergenceLog",
    "SignalEstimator",
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
    "per_axis",
    "restored_on_error",
    "scale_exponents",
    "convergence_warnings_ignored",
    "warn_not_converged",
    "times_power",
    "warn_once_per_fit",
    "write_atomically",
]

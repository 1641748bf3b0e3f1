"""Workspaces: arrays allocated together in Python, and divided inside the kernels.

Allocations, slices and reference counts inside a kernel take longer to compile than most loops.
"""

import functools
from collections import namedtuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from .vector_ir import VECTOR_BYTES, emit_data
from .vectors import kernel

Workspace = namedtuple("Workspace", ["values", "starts"])
"""Flat values, and where each of the arrays in them starts."""


def workspace(dtype, *sizes):
    """Uninitialised flat arrays of these sizes, each aligned to a vector.

    Examples
    --------
    >>> from skrobust.kernels.workspace import workspace
    >>> workspace("float64", 3, 5).starts
    array([0, 8])
    """
    itemsize = np.dtype(dtype).itemsize
    starts, end = _layout(VECTOR_BYTES // itemsize, sizes)
    values = np.empty(end + VECTOR_BYTES // itemsize, dtype)
    return Workspace(values[-values.ctypes.data % VECTOR_BYTES // itemsize :], starts)


@functools.lru_cache
def _layout(step, sizes):
    """Where arrays of these sizes start, each at a multiple of `step`, and where the last one ends."""
    ends = np.cumsum([-(-size // step) * step for size in sizes], dtype=np.int64)
    return np.concatenate([[0], ends[:-1]]), int(ends[-1])


@intrinsic
def pointer(typingctx, array, start):
    """Pointer to a value of a contiguous array, to be indexed like a flat one; the array must outlive it.

    Inside kernels it is one machine word, where an array is seven.
    """

    def codegen(context, builder, signature, args):
        return builder.gep(emit_data(context, builder, signature.args[0], args[0]), [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def part(typingctx, workspace, k):
    """Pointer to the `k`-th array of a workspace."""
    values, starts = workspace.types

    def codegen(context, builder, signature, args):
        start = builder.gep(emit_data(context, builder, starts, builder.extract_value(args[0], 1)), [args[1]])
        data = emit_data(context, builder, values, builder.extract_value(args[0], 0))
        return builder.gep(data, [builder.load(start)])

    return types.CPointer(values.dtype)(workspace, types.intp), codegen


@kernel
def copy(source, target, n):
    """Copy the first `n` values."""
    for i in range(n):
        target[i] = source[i]


@kernel
def fill(target, n, value):
    """Set the first `n` values."""
    for i in range(n):
        target[i] = value

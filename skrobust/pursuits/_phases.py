"""Kernels of several phases: every thread runs the whole kernel, and a phase begins when the one before is done.

A phase is some pieces of work. Each thread takes pieces while there are any, and then waits until all are done: for
the pieces, never for a thread. One that begins late finds the first phases done and joins in where the others are.
"""

import os
import platform

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._vector_ir import _call
from ._vectors import inlined

LINE = 8
"""Counters from one that is in use to the next: they lie in cache lines of their own."""

COUNTERS = 2 * LINE
"""Counters that a phase needs."""

_PATIENCE = 4096
"""Looks at a counter before the processor is offered to another thread."""

_I64 = ir.IntType(64)


def _counter(context, builder, signature, args):
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic
def _raise(typingctx, counters, index):
    """Raise a counter by one and return what it was; what was written before is seen by who reads it after."""

    def codegen(context, builder, signature, args):
        address = _counter(context, builder, signature, args)
        return builder.atomic_rmw("add", address, ir.Constant(_I64, 1), "acq_rel")

    return types.int64(counters, types.intp), codegen


@intrinsic
def _look(typingctx, counters, index):
    """The value of a counter that other threads raise."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_counter(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Tell the processor that this thread waits."""

    def codegen(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            _call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _give_way(typingctx):
    """Let the system run another thread on this processor."""

    def codegen(context, builder, signature, args):
        if os.name == "posix":
            _call(builder, "sched_yield", ir.IntType(32), [])
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def pause(looks):
    """Between two looks at a counter, of which there were so many: give way to other threads now and then."""
    if looks % _PATIENCE == 0:
        _give_way()
    else:
        _pause()


@inlined
def take_piece(counters, phase):
    """The number of the next piece of a phase."""
    return _raise(counters, phase * COUNTERS)


@inlined
def finish_piece(counters, phase):
    """Count a piece of the phase as done."""
    _raise(counters, phase * COUNTERS + LINE)


@inlined
def wait_for_pieces(counters, phase, n_pieces):
    """Wait until so many pieces of the phase are done."""
    looks = 0
    while _look(counters, phase * COUNTERS + LINE) < n_pieces:
        looks += 1
        pause(looks)

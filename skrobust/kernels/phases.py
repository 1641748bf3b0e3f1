"""Kernels of several phases: every thread runs the whole kernel, and a phase starts when the previous one is complete.

A phase consists of pieces of work. Each thread takes pieces while there are any, and then waits until all pieces are
done. It never waits for a particular thread: a thread that starts late skips the finished phases.
"""

import os
import platform

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector_ir import emit_call
from .vectors import inlined

LINE = 8
"""Distance between used counters, so that each has its own cache line."""

COUNTERS = 2 * LINE
"""Counters per phase."""

_POLLS_PER_YIELD = 4096
"""Number of polls of a counter before the thread yields the processor."""

_I64 = ir.IntType(64)


def _counter(context, builder, signature, args):
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]])


@intrinsic
def _increment(typingctx, counters, index):
    """Increment a counter atomically and return its old value, with acquire-release semantics."""

    def codegen(context, builder, signature, args):
        address = _counter(context, builder, signature, args)
        return builder.atomic_rmw("add", address, ir.Constant(_I64, 1), "acq_rel")

    return types.int64(counters, types.intp), codegen


@intrinsic
def _read_counter(typingctx, counters, index):
    """Atomic load of a counter that other threads increment."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_counter(context, builder, signature, args), "acquire", 8)

    return types.int64(counters, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Processor hint for a waiting loop."""

    def codegen(context, builder, signature, args):
        if platform.machine().lower() in ("x86_64", "amd64"):
            emit_call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _yield_processor(typingctx):
    """Yield the processor to another thread."""

    def codegen(context, builder, signature, args):
        if os.name == "posix":
            emit_call(builder, "sched_yield", ir.IntType(32), [])
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def pause(n_polls):
    """Pause after the given number of polls of a counter; yields the processor from time to time."""
    if n_polls % _POLLS_PER_YIELD == 0:
        _yield_processor()
    else:
        _pause()


@inlined
def take_piece(counters, phase):
    """The number of the next piece of a phase."""
    return _increment(counters, phase * COUNTERS)


@inlined
def finish_piece(counters, phase):
    """Count a piece of the phase as done."""
    _increment(counters, phase * COUNTERS + LINE)


@inlined
def wait_for_pieces(counters, phase, n_pieces):
    """Wait until this many pieces of the phase are done."""
    n_polls = 0
    while _read_counter(counters, phase * COUNTERS + LINE) < n_pieces:
        n_polls += 1
        pause(n_polls)

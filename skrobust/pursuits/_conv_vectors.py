"""Vector functions that only the convolutional kernels need: thresholds that differ by lane, as bits."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._vector_ir import _call


@intrinsic
def bits_above(typingctx, value, limits):
    """Integer whose bit i tells whether lane i of `value` is greater than lane i of `limits`."""

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_ordered(">", args[0], args[1])
        return builder.zext(builder.bitcast(mask, ir.IntType(value.lanes)), ir.IntType(64))

    return types.int64(value, limits), codegen


@intrinsic
def bits_nonzero(typingctx, value):
    """Integer whose bit i tells whether lane i differs from zero."""

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_unordered("!=", args[0], ir.Constant(args[0].type, None))
        return builder.zext(builder.bitcast(mask, ir.IntType(value.lanes)), ir.IntType(64))

    return types.int64(value), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """Index of the lowest bit of an integer that is not zero."""

    def codegen(context, builder, signature, args):
        not_zero = ir.Constant(ir.IntType(1), 1)
        return _call(builder, "llvm.cttz.i64", ir.IntType(64), [args[0], not_zero])

    return types.int64(types.int64), codegen


@intrinsic
def arrive(typingctx, gate):
    """Return ``gate[0]`` of an int64 array and raise it by one; all writes before are seen by whoever sees that."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(gate), codegen


@intrinsic
def arrivals(typingctx, gate):
    """``gate[0]`` as other threads have left it."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(data, "seq_cst", 8)

    return types.int64(gate), codegen

"""The vector type of the kernels, and the pieces of LLVM IR from which the vector functions are built."""

import os

from llvmlite import ir
from numba import types
from numba.extending import models, register_model

EXPLICIT = os.environ.get("SKROBUST_EXPLICIT_VECTORS", "1") != "0"
VECTOR_BYTES = 64


I32 = ir.IntType(32)


class VectorType(types.Type):
    """Numba type of a vector of `lanes` scalars."""

    def __init__(self, scalar):
        self.scalar = scalar
        self.lanes = VECTOR_BYTES * 8 // scalar.bitwidth if EXPLICIT else 1
        super().__init__(name=f"vector({scalar} x {self.lanes})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir_vector(fe_type))


def ir_scalar(scalar):
    return ir.FloatType() if scalar == types.float32 else ir.DoubleType()


def ir_bits(scalar):
    return ir.IntType(scalar.bitwidth)


def ir_vector(vector):
    return ir.VectorType(ir_scalar(vector.scalar), vector.lanes)


def emit_call(builder, name, result, args, fastmath=()):
    """Call the LLVM intrinsic of that full name."""
    fn_type = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, fn_type, name)
    return builder.call(function, args, fastmath=fastmath)


def vector_suffix(vector):
    return f"v{vector.lanes}f{vector.scalar.bitwidth}"


def emit_splat(builder, vector, value):
    ir_type = ir_vector(vector)
    first = builder.insert_element(ir.Constant(ir_type, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, ir.Constant(ir_type, ir.Undefined), zeros)


def emit_data(context, builder, array_type, array):
    """Address of the first value of an array, or the pointer itself."""
    if isinstance(array_type, types.CPointer):
        return array
    return context.make_array(array_type)(context, builder, array).data


def emit_address(context, builder, array_type, array, index, pointee):
    data = emit_data(context, builder, array_type, array)
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(pointee))


def emit_load(builder, address, vector):
    value = builder.load(address)
    value.align = vector.scalar.bitwidth // 8
    return value


def emit_store(builder, value, address, vector):
    builder.store(value, address).align = vector.scalar.bitwidth // 8


def emit_absolute(builder, vector, value):
    return emit_call(builder, f"llvm.fabs.{vector_suffix(vector)}", value.type, [value])


def emit_lane_mask(builder, vector, count):
    """Mask of the first `count` lanes."""
    wide = ir.VectorType(I32, vector.lanes)
    narrow = builder.trunc(count, I32)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), narrow, ir.Constant(I32, 0))
    counts = builder.shuffle_vector(first, ir.Constant(wide, ir.Undefined), ir.Constant(wide, [0] * vector.lanes))
    return builder.icmp_signed("<", ir.Constant(wide, list(range(vector.lanes))), counts)


def emit_count(builder, vector, mask):
    """Set lanes of `mask` as a 64-bit integer."""
    bits = ir.IntType(vector.lanes)
    set_lanes = emit_call(builder, f"llvm.ctpop.i{vector.lanes}", bits, [builder.bitcast(mask, bits)])
    return builder.zext(set_lanes, ir.IntType(64))

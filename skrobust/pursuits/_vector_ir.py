"""The vector type of the kernels, and the few pieces of LLVM IR of which the vector functions are built."""

import functools
import os

from llvmlite import ir
from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.extending import models, register_model

from ._kernel_cache import KernelCache

EXPLICIT = os.environ.get("SKROBUST_EXPLICIT_VECTORS", "1") != "0"
VECTOR_BYTES = 64


def kernel(function=None, **options):
    """Compile a function for the hot loops: without the interpreter's lock, kept on disk once compiled."""
    if function is None:
        return functools.partial(kernel, **options)
    compiled = njit(error_model="numpy", nogil=True, **options)(function)
    if isinstance(compiled, Dispatcher):  # NUMBA_DISABLE_JIT leaves the function as it is
        compiled._cache = KernelCache(function, f"vectors{VECTOR_BYTES if EXPLICIT else 0}")
    return compiled


inlined = functools.partial(kernel, forceinline=True)

_I32 = ir.IntType(32)


class VectorType(types.Type):
    """A vector of `lanes` scalars, as numba sees it inside a kernel."""

    def __init__(self, scalar):
        self.scalar = scalar
        self.lanes = VECTOR_BYTES * 8 // scalar.bitwidth if EXPLICIT else 1
        super().__init__(name=f"vector({scalar} x {self.lanes})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _ir_vector(fe_type))


def _ir_scalar(scalar):
    return ir.FloatType() if scalar == types.float32 else ir.DoubleType()


def _ir_bits(scalar):
    return ir.IntType(scalar.bitwidth)


def _ir_vector(vector):
    return ir.VectorType(_ir_scalar(vector.scalar), vector.lanes)


def _call(builder, name, result, args):
    """Call an LLVM intrinsic of that full name."""
    fn_type = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, fn_type, name)
    return builder.call(function, args)


def _suffix(vector):
    return f"v{vector.lanes}f{vector.scalar.bitwidth}"


def _splat(builder, vector, value):
    ir_type = _ir_vector(vector)
    first = builder.insert_element(ir.Constant(ir_type, ir.Undefined), value, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, vector.lanes), [0] * vector.lanes)
    return builder.shuffle_vector(first, ir.Constant(ir_type, ir.Undefined), zeros)


def _address(context, builder, array_type, array, index, pointee):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(pointee))


def _load(builder, address, vector):
    value = builder.load(address)
    value.align = vector.scalar.bitwidth // 8
    return value


def _store(builder, value, address, vector):
    builder.store(value, address).align = vector.scalar.bitwidth // 8


def _absolute(builder, vector, value):
    return _call(builder, f"llvm.fabs.{_suffix(vector)}", value.type, [value])


def _lane_mask(builder, vector, count):
    """Mask of the first `count` lanes."""
    wide = ir.VectorType(_I32, vector.lanes)
    narrow = builder.trunc(count, _I32)
    first = builder.insert_element(ir.Constant(wide, ir.Undefined), narrow, ir.Constant(_I32, 0))
    counts = builder.shuffle_vector(first, ir.Constant(wide, ir.Undefined), ir.Constant(wide, [0] * vector.lanes))
    return builder.icmp_signed("<", ir.Constant(wide, list(range(vector.lanes))), counts)


def _count(builder, vector, mask):
    """Set lanes of `mask` as a 64-bit integer."""
    bits = ir.IntType(vector.lanes)
    set_lanes = _call(builder, f"llvm.ctpop.i{vector.lanes}", bits, [builder.bitcast(mask, bits)])
    return builder.zext(set_lanes, ir.IntType(64))

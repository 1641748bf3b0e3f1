"""The vector functions used by the hot loops.

Inside a kernel, ``v = load(a, i)`` reads `lanes(a)` consecutive values of the flat array `a` into one vector value;
vectors are added, multiplied, compared and stored by the functions below, each of which becomes one or two machine
instructions. They are written as LLVM vector IR, because automatic vectorisation of the same loops is two to five
times slower and brittle; LLVM splits the vectors on narrower machines.

With the environment variable ``SKROBUST_EXPLICIT_VECTORS=0`` the same kernels run on vectors of one lane, as plain
numba; the tests compare both.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiler import inlined, kernel
from .memory import zeros
from .vector_ir import (  # noqa: F401 (re-exported for other rooms)
    EXPLICIT,
    I32,
    VECTOR_BYTES,
    VectorType,
    emit_absolute,
    emit_address,
    emit_call,
    emit_count,
    emit_data,
    emit_lane_mask,
    emit_load,
    emit_splat,
    emit_store,
    ir_bits,
    ir_scalar,
    ir_vector,
    vector_suffix,
)


@intrinsic
def lanes(typingctx, array):
    """Values in one vector of this array's dtype."""
    count = VectorType(array.dtype).lanes

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, count)

    return types.intp(array), codegen


@intrinsic
def load(typingctx, array, index):
    """Vector of the values of the flat `array` from `index` on."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        address = emit_address(context, builder, signature.args[0], args[0], args[1], ir_vector(vector))
        return emit_load(builder, address, vector)

    return vector(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write a vector into the flat `array` from `index` on."""

    def codegen(context, builder, signature, args):
        address = emit_address(context, builder, signature.args[0], args[0], args[1], args[2].type)
        emit_store(builder, args[2], address, value)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), codegen


@intrinsic
def load_first(typingctx, array, index, count):
    """Vector whose first `count` lanes are read from the flat `array` from `index` on; the others are zero."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        vector_type = ir_vector(vector)
        address = emit_address(context, builder, signature.args[0], args[0], args[1], vector_type)
        align = ir.Constant(I32, vector.scalar.bitwidth // 8)
        mask = emit_lane_mask(builder, vector, args[2])
        zeros = ir.Constant(vector_type, None)
        name = f"llvm.masked.load.{vector_suffix(vector)}.p0"
        return emit_call(builder, name, vector_type, [address, align, mask, zeros])

    return vector(array, types.intp, types.int64), codegen


@intrinsic
def store_first(typingctx, array, index, value, count):
    """Write the first `count` lanes of a vector into the flat `array` from `index` on."""

    def codegen(context, builder, signature, args):
        address = emit_address(context, builder, signature.args[0], args[0], args[1], args[2].type)
        align = ir.Constant(I32, value.scalar.bitwidth // 8)
        mask = emit_lane_mask(builder, value, args[3])
        name = f"llvm.masked.store.{vector_suffix(value)}.p0"
        emit_call(builder, name, ir.VoidType(), [args[2], address, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.int64), codegen


@intrinsic
def blend_first(typingctx, a, b, count):
    """The first `count` lanes of `a`, the others of `b`."""

    def codegen(context, builder, signature, args):
        return builder.select(emit_lane_mask(builder, a, args[2]), args[0], args[1])

    return a(a, b, types.int64), codegen


@intrinsic
def broadcast(typingctx, value):
    """Vector whose lanes all hold the scalar `value`."""
    vector = VectorType(value)

    def codegen(context, builder, signature, args):
        return emit_splat(builder, vector, args[0])

    return vector(value), codegen


@intrinsic
def zero_vector(typingctx, array):
    """Vector of zeros of this array's dtype."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir_vector(vector), None)

    return vector(array), codegen


@intrinsic
def scalar_like(typingctx, value, array):
    """Number in the dtype of this array."""

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], array.dtype)

    return array.dtype(value, array), codegen


@intrinsic
def load_all(typingctx, array, index):
    """Vector whose lanes all hold ``array[index]`` of a flat array (a negative index does not wrap)."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        address = emit_address(context, builder, signature.args[0], args[0], args[1], ir_scalar(vector.scalar))
        return emit_splat(builder, vector, builder.load(address))

    return vector(array, types.intp), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""

    def codegen(context, builder, signature, args):
        return emit_call(builder, f"llvm.fma.{vector_suffix(a)}", args[0].type, list(args))

    return a(a, b, c), codegen


@intrinsic
def add(typingctx, a, b):
    """a + b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1])

    return a(a, b), codegen


@intrinsic
def absolute(typingctx, value):
    """Magnitudes."""

    def codegen(context, builder, signature, args):
        return emit_absolute(builder, value, args[0])

    return value(value), codegen


@intrinsic
def maximum(typingctx, a, b):
    """Larger of two, lane by lane (no NaN)."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return a(a, b), codegen


@intrinsic
def minimum(typingctx, a, b):
    """Smaller of two, lane by lane (no NaN)."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return a(a, b), codegen


@intrinsic
def largest(typingctx, value):
    """Largest lane (no NaN)."""

    def codegen(context, builder, signature, args):
        name = f"llvm.vector.reduce.fmax.{vector_suffix(value)}"
        # Without the flag, each of its steps would treat NaN.
        return emit_call(builder, name, ir_scalar(value.scalar), [args[0]], fastmath=("nnan",))

    return value.scalar(value), codegen


@intrinsic
def either(typingctx, a, b):
    """Bitwise or: zero (of either sign) where both are zero. Only its zero pattern is meaningful."""

    def codegen(context, builder, signature, args):
        bits = ir.VectorType(ir_bits(a.scalar), a.lanes)
        united = builder.or_(builder.bitcast(args[0], bits), builder.bitcast(args[1], bits))
        return builder.bitcast(united, args[0].type)

    return a(a, b), codegen


@intrinsic
def is_zero(typingctx, value):
    """Whether all lanes are zero."""

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_unordered("!=", args[0], ir.Constant(args[0].type, None))
        bits = ir.IntType(value.lanes)
        return builder.icmp_unsigned("==", builder.bitcast(mask, bits), ir.Constant(bits, 0))

    return types.boolean(value), codegen


@intrinsic
def count_at_least(typingctx, value, threshold):
    """How many lanes have a magnitude >= `threshold`."""

    def codegen(context, builder, signature, args):
        above = builder.fcmp_ordered(">=", emit_absolute(builder, value, args[0]), emit_splat(builder, value, args[1]))
        return emit_count(builder, value, above)

    return types.int64(value, value.scalar), codegen


@intrinsic
def keep_at_least(typingctx, value, threshold):
    """Lanes whose magnitude is >= `threshold`; zeros elsewhere."""

    def codegen(context, builder, signature, args):
        above = builder.fcmp_ordered(">=", emit_absolute(builder, value, args[0]), emit_splat(builder, value, args[1]))
        return builder.select(above, args[0], ir.Constant(args[0].type, None))

    return value(value, value.scalar), codegen


@intrinsic
def pack_at_least(typingctx, array, index, value, threshold):
    """Append the magnitudes >= `threshold` of a vector to `array` at `index`; return the index after them.

    A whole vector is written: `array` needs space for one vector more than it will keep.
    """

    def codegen(context, builder, signature, args):
        magnitudes = emit_absolute(builder, value, args[2])
        above = builder.fcmp_ordered(">=", magnitudes, emit_splat(builder, value, args[3]))
        if value.lanes > 1:
            name = f"llvm.experimental.vector.compress.{vector_suffix(value)}"
            packed = emit_call(
                builder, name, magnitudes.type, [magnitudes, above, ir.Constant(magnitudes.type, ir.Undefined)]
            )
        else:
            packed = magnitudes
        address = emit_address(context, builder, signature.args[0], args[0], args[1], packed.type)
        emit_store(builder, packed, address, value)
        return builder.add(args[1], emit_count(builder, value, above))

    return types.int64(array, types.int64, value, value.scalar), codegen


@intrinsic
def transpose_block(typingctx, source, start, stride, target, target_start, target_stride):
    """Write the transpose of the `lanes` x `lanes` block of `source` at `start` into `target`.

    Rows of the blocks lie `stride` and `target_stride` values apart.
    """
    vector = VectorType(source.dtype)

    def codegen(context, builder, signature, args):
        vector_type = ir_vector(vector)
        row, rows = args[1], []
        for _ in range(vector.lanes):
            address = emit_address(context, builder, signature.args[0], args[0], row, vector_type)
            rows.append(emit_load(builder, address, vector))
            row = builder.add(row, args[2])
        # log2(lanes) rounds, each of which interleaves row i with row i + lanes / 2: together a transpose.
        half = vector.lanes // 2
        low = [lane for i in range(half) for lane in (i, vector.lanes + i)]
        high = [lane for i in range(half, vector.lanes) for lane in (i, vector.lanes + i)]
        for _ in range(vector.lanes.bit_length() - 1):
            woven = []
            for i in range(half):
                for order in (low, high):
                    shuffle = ir.Constant(ir.VectorType(I32, vector.lanes), order)
                    woven.append(builder.shuffle_vector(rows[i], rows[i + half], shuffle))
            rows = woven
        row = args[4]
        for value in rows:
            address = emit_address(context, builder, signature.args[3], args[3], row, vector_type)
            emit_store(builder, value, address, vector)
            row = builder.add(row, args[5])
        return context.get_dummy_value()

    index = types.intp
    return types.void(source, index, index, target, index, index), codegen


@intrinsic
def to_bits(typingctx, value):
    """Bits of a scalar as an integer; for magnitudes their order is the order of the numbers."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], ir_bits(value))
        return builder.zext(bits, ir.IntType(64)) if value.bitwidth == 32 else bits

    return types.int64(value), codegen


@intrinsic
def from_bits(typingctx, bits, like):
    """Scalar of the dtype of `like` with these bits."""

    def codegen(context, builder, signature, args):
        narrow = builder.trunc(args[0], ir_bits(like)) if like.bitwidth == 32 else args[0]
        return builder.bitcast(narrow, ir_scalar(like))

    return like(types.int64, like), codegen


@intrinsic
def multiply(typingctx, a, b):
    """a * b."""

    def codegen(context, builder, signature, args):
        return builder.fmul(args[0], args[1])

    return a(a, b), codegen


@intrinsic
def where_greater(typingctx, a, b, x, y):
    """Lanes of `x` where a > b, of `y` elsewhere and where either is NaN."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return x(a, b, x, y), codegen


@intrinsic
def lane_numbers(typingctx, array):
    """0, 1, 2, ... as a vector of this array's dtype."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.Constant(ir_vector(vector), [float(lane) for lane in range(vector.lanes)])

    return vector(array), codegen


@intrinsic
def total(typingctx, value):
    """Sum of the lanes, in any order."""

    def codegen(context, builder, signature, args):
        scalar = ir_scalar(value.scalar)
        name = f"llvm.vector.reduce.fadd.{vector_suffix(value)}"
        result = emit_call(builder, name, scalar, [ir.Constant(scalar, 0.0), args[0]])
        result.fastmath.add("reassoc")
        return result

    return value.scalar(value), codegen


@intrinsic
def first_largest(typingctx, value, position):
    """Largest lane of `value`, and the smallest of the `position` lanes that go with it, as an integer (no NaN).

    Positions are exact up to 2**24 in float32.
    """

    def codegen(context, builder, signature, args):
        scalar, suffix = ir_scalar(value.scalar), vector_suffix(value)
        top = emit_call(builder, f"llvm.vector.reduce.fmax.{suffix}", scalar, [args[0]])
        top.fastmath.add("nnan")
        at_top = builder.fcmp_ordered("==", args[0], emit_splat(builder, value, top))
        if value.lanes == 1:
            first = builder.extract_element(args[1], ir.Constant(I32, 0))
            return context.make_tuple(builder, signature.return_type, [top, builder.fptosi(first, ir.IntType(64))])
        # Usually a single lane has the maximum: reading its position from memory is faster than a minimum over lanes.
        bits = builder.bitcast(at_top, ir.IntType(value.lanes))
        storage = cgutils.alloca_once_value(builder, args[1])
        lane = emit_call(builder, f"llvm.cttz.i{value.lanes}", bits.type, [bits, ir.Constant(ir.IntType(1), 0)])
        lane = builder.and_(lane, ir.Constant(bits.type, value.lanes - 1))
        address = builder.gep(builder.bitcast(storage, ir.PointerType(scalar)), [builder.zext(lane, ir.IntType(64))])
        first = cgutils.alloca_once_value(builder, builder.load(address))
        others = builder.and_(bits, builder.sub(bits, ir.Constant(bits.type, 1)))
        with builder.if_then(builder.icmp_unsigned("!=", others, ir.Constant(bits.type, 0)), likely=False):
            beyond = ir.Constant(ir_vector(value), [3.0e38] * value.lanes)
            candidates = builder.select(at_top, args[1], beyond)
            builder.store(emit_call(builder, f"llvm.vector.reduce.fmin.{suffix}", scalar, [candidates]), first)
        index = builder.fptosi(builder.load(first), ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, [top, index])

    return types.Tuple((value.scalar, types.int64))(value, position), codegen


@intrinsic
def take_number(typingctx, counter):
    """Return ``counter[0]`` of an int64 array and increment it atomically: the number of the next piece of work."""

    def codegen(context, builder, signature, args):
        data = emit_data(context, builder, signature.args[0], args[0])
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def divide(typingctx, a, b):
    """a / b."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(args[0], args[1])

    return a(a, b), codegen


@intrinsic
def fnma(typingctx, a, b, c):
    """c - a * b, rounded once."""

    def codegen(context, builder, signature, args):
        factors = [builder.fneg(args[0]), args[1], args[2]]
        return emit_call(builder, f"llvm.fma.{vector_suffix(a)}", args[0].type, factors)

    return a(a, b, c), codegen


@kernel
def aligned_zeros(size, like):
    """Flat zeros of the dtype of `like`, aligned to a cache line, because vectors that cross lines cost twice."""
    values = zeros(size + VECTOR_BYTES // like.itemsize, like)
    skip = -values.ctypes.data % VECTOR_BYTES // like.itemsize
    return values[skip : skip + size]


@inlined
def resolution(like):
    """Distance from 1 to the next number in the dtype of `like`; ``np.finfo`` would compile for a quarter second."""
    return 2.0**-23 if like.itemsize == 4 else 2.0**-52


@intrinsic
def read(typingctx, array, index):
    """``array[index]`` of a flat array, without a check for negative indices."""

    def codegen(context, builder, signature, args):
        data = emit_data(context, builder, signature.args[0], args[0])
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


@intrinsic
def write(typingctx, array, index, value):
    """``array[index] = value`` in a flat array, without a check for negative indices."""

    def codegen(context, builder, signature, args):
        data = emit_data(context, builder, signature.args[0], args[0])
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen

"""Vector functions of the convolutional kernels: thresholds per lane as bits, and visits that load an atom once."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from skrobust.kernels.vector_ir import (
    VectorType,
    emit_address,
    emit_call,
    emit_data,
    emit_load,
    emit_splat,
    emit_store,
    ir_scalar,
    ir_vector,
    vector_suffix,
)

SHAPES = (
    *((rows, 1) for rows in range(1, 13)),
    *((1, row_vectors) for row_vectors in range(2, 9)),
    *((rows, 2) for rows in range(2, 9)),
)
"""Largest numbers of rows of an atom, and of vectors of a row, with unrolled code that keeps the atom in registers."""

_I64 = ir.IntType(64)


@intrinsic
def bits_above(typingctx, value, limits):
    """Integer whose bit i is set if lane i of `value` is greater than lane i of `limits`."""

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_ordered(">", args[0], args[1])
        return builder.zext(builder.bitcast(mask, ir.IntType(value.lanes)), ir.IntType(64))

    return types.int64(value, limits), codegen


@intrinsic
def bits_nonzero(typingctx, value):
    """Integer whose bit i is set if lane i is nonzero."""

    def codegen(context, builder, signature, args):
        mask = builder.fcmp_unordered("!=", args[0], ir.Constant(args[0].type, None))
        return builder.zext(builder.bitcast(mask, ir.IntType(value.lanes)), ir.IntType(64))

    return types.int64(value), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """Index of the lowest set bit of a nonzero integer."""

    def codegen(context, builder, signature, args):
        not_zero = ir.Constant(ir.IntType(1), 1)
        return emit_call(builder, "llvm.cttz.i64", ir.IntType(64), [args[0], not_zero])

    return types.int64(types.int64), codegen


@intrinsic
def arrive(typingctx, gate):
    """Return ``gate[0]`` of an int64 array and increment it atomically, with release semantics for earlier writes."""

    def codegen(context, builder, signature, args):
        data = emit_data(context, builder, signature.args[0], args[0])
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(gate), codegen


@intrinsic
def arrivals(typingctx, gate):
    """Atomic load of ``gate[0]``."""

    def codegen(context, builder, signature, args):
        data = emit_data(context, builder, signature.args[0], args[0])
        return builder.load_atomic(data, "seq_cst", 8)

    return types.int64(gate), codegen


def shape_number(rows, row_vectors):
    """Index of an atom's shape, from 1 on; 0 if it has no unrolled code."""
    return SHAPES.index((rows, row_vectors)) + 1 if (rows, row_vectors) in SHAPES else 0


class _Atom:
    """Vectors of an atom and of the buffer below it."""

    def __init__(self, context, builder, types_of, buffer, at, pitch, vectors, a, valid=None):
        self.builder, self.pitch = builder, pitch
        self.vector = VectorType(types_of[0].dtype)
        scalar = ir_scalar(self.vector.scalar)
        self.ir_vector = ir_vector(self.vector)
        self.buffer = emit_address(context, builder, types_of[0], buffer, at, scalar)
        self.own = emit_address(context, builder, types_of[3], vectors, a, scalar)
        self.valid = None
        if not isinstance(types_of[5], types.NoneType) and valid is not None:
            self.valid = emit_address(context, builder, types_of[5], valid, at, scalar)

    def read(self, shape):
        """Load both; the pointers into the buffer are kept."""
        rows, row_vectors = shape
        lanes = self.vector.lanes
        self.steps = []
        for row in range(rows):
            start = self.builder.mul(self.pitch, ir.Constant(_I64, row))
            self.steps += [self.builder.add(start, ir.Constant(_I64, q * lanes)) for q in range(row_vectors)]
        self.pointers = [self._vector_at(self.buffer, step) for step in self.steps]
        self.values = [emit_load(self.builder, pointer, self.vector) for pointer in self.pointers]
        own = [self._vector_at(self.own, ir.Constant(_I64, v * lanes)) for v in range(len(self.steps))]
        self.atom = [emit_load(self.builder, pointer, self.vector) for pointer in own]

    def _vector_at(self, address, step):
        return self.builder.bitcast(self.builder.gep(address, [step]), ir.PointerType(self.ir_vector))

    def _fma(self, a, b, c):
        return emit_call(self.builder, f"llvm.fma.{vector_suffix(self.vector)}", self.ir_vector, [a, b, c])

    def inner(self):
        """Inner product of the two."""
        sums = []  # two independent sums
        for v, (value, own) in enumerate(zip(self.values, self.atom, strict=True)):
            if v < 2:
                sums.append(self.builder.fmul(value, own))
            else:
                sums[v % 2] = self._fma(value, own, sums[v % 2])
        both = self.builder.fadd(*sums) if len(sums) == 2 else sums[0]
        scalar = ir_scalar(self.vector.scalar)
        name = f"llvm.vector.reduce.fadd.{vector_suffix(self.vector)}"
        result = emit_call(self.builder, name, scalar, [ir.Constant(scalar, -0.0), both])
        result.fastmath.add("reassoc")
        return result

    def add(self, coefficient):
        """Add a multiple of the atom, or of its unmasked part, to the buffer."""
        factor = emit_splat(self.builder, self.vector, coefficient)
        for step, pointer, value, own in zip(self.steps, self.pointers, self.values, self.atom, strict=True):
            if self.valid is not None:
                valid = emit_load(self.builder, self._vector_at(self.valid, step), self.vector)
                own = self.builder.fmul(own, valid)
            emit_store(self.builder, self._fma(factor, own, value), pointer, self.vector)


def _for_shape(builder, number, emit, result):
    """Switch over the code of each shape; returns the value of the selected one."""
    done = builder.append_basic_block("done")
    blocks = [builder.append_basic_block(f"shape.{rows}.{row}") for rows, row in SHAPES]
    switch = builder.switch(number, blocks[0])
    ends = []
    for n, (shape, block) in enumerate(zip(SHAPES, blocks, strict=True), 1):
        if n > 1:
            switch.add_case(ir.Constant(_I64, n), block)
        builder.position_at_end(block)
        ends.append((emit(shape), builder.block))
        builder.branch(done)
    builder.position_at_end(done)
    if result is None:
        return None
    value = builder.phi(result)
    for part, block in ends:
        value.add_incoming(part, block)
    return value


@intrinsic
def inner_product(typingctx, buffer, at, pitch, vectors, a, number):
    """Inner product of the atom at `a` of `vectors` with a buffer from `at` on, whose rows are `pitch` apart.

    `number` is the index of the atom's shape, not 0.
    """

    def codegen(context, builder, signature, args):
        atom = _Atom(context, builder, (*signature.args[:5], types.none), *args[:5])

        def emit(shape):
            atom.read(shape)
            return atom.inner()

        return _for_shape(builder, args[5], emit, ir_scalar(atom.vector.scalar))

    index = types.intp
    return buffer.dtype(buffer, index, index, vectors, index, index), codegen


@intrinsic
def add_multiple(typingctx, buffer, at, pitch, vectors, a, valid, number, coefficient):
    """Add a multiple of an atom to a buffer, multiplied by the mask `valid` if that is not None."""

    def codegen(context, builder, signature, args):
        atom = _Atom(context, builder, signature.args, *args[:6])

        def emit(shape):
            atom.read(shape)
            atom.add(args[7])

        _for_shape(builder, args[6], emit, None)
        return context.get_dummy_value()

    index = types.intp
    return types.void(buffer, index, index, vectors, index, valid, index, buffer.dtype), codegen


@intrinsic
def minimise_over(typingctx, residual, at, pitch, vectors, a, valid, number, old, square, inverse, low, high):
    """Minimise over the coefficient of an atom, whose value is `old`; return the new value.

    The residual is always written, even if the value does not change, so that no branch waits for the inner product.

    Parameters
    ----------
    square, inverse : scalar
        Squared norm of the unmasked part of the atom, and its inverse.
    low, high : scalar
        The coefficient is zero if the inner product lies between them.
    """

    def codegen(context, builder, signature, args):
        atom = _Atom(context, builder, signature.args, *args[:6])
        old, square, inverse, low, high = args[7:]

        def emit(shape):
            atom.read(shape)
            value = builder.fadd(atom.inner(), builder.fmul(old, square))
            clipped = builder.select(builder.fcmp_ordered("<", value, high), value, high)
            clipped = builder.select(builder.fcmp_ordered(">", clipped, low), clipped, low)
            new = builder.fmul(builder.fsub(value, clipped), inverse)
            atom.add(builder.fsub(old, new))
            return new

        return _for_shape(builder, args[6], emit, ir_scalar(atom.vector.scalar))

    index, scalar = types.intp, residual.dtype
    return scalar(residual, index, index, vectors, index, valid, index, *[scalar] * 5), codegen

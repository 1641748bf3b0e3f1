"""Buffers allocated inside the kernels. Numba needs 0.1 s to compile each variant of `np.zeros`."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import _empty_nd_impl

from .compiler import inlined


def _emit_zeros(context, builder, array, shape):
    new = _empty_nd_impl(context, builder, array, shape)
    n_bytes = builder.mul(new.nitems, new.itemsize)
    cgutils.memset(builder, new.data, n_bytes, 0)
    return new._getvalue()


@inlined
def rounded_up(size, step):
    """`size` rounded up to a multiple of `step`."""
    return -(-size // step) * step


@intrinsic
def zeros(typingctx, size, like):
    """Flat zeros of the dtype of an array, or of a class such as `np.int64`."""
    array = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        return _emit_zeros(context, builder, array, [args[0]])

    return array(types.intp, like), codegen


@intrinsic
def zeros_2d(typingctx, rows, columns, like):
    """The same of shape (rows, columns)."""
    array = types.Array(like.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        return _emit_zeros(context, builder, array, [args[0], args[1]])

    return array(types.intp, types.intp, like), codegen

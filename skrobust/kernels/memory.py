"""Buffers allocated inside the kernels. Numba would compile each kind of `np.zeros` as a function, in 0.1 s."""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import _empty_nd_impl


def _emit_zeros(context, builder, array, shape):
    made = _empty_nd_impl(context, builder, array, shape)
    n_bytes = builder.mul(made.nitems, made.itemsize)
    cgutils.memset(builder, made.data, n_bytes, 0)
    return made._getvalue()


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

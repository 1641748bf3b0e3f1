"""Reads CIFAR's pickled batches without letting the file call any function of Python or NumPy.

A pickle is a program. This reader allows only the instructions that build dicts, lists, strings, bytes and integers.
The five names with which NumPy arrays are pickled are replaced by classes of this file, which check and store the
description of the array. NumPy's own functions are not called: with a forged dtype state they could be made to read
memory outside the array. The replacements also make the reader independent of NumPy's renamings (``numpy.core``,
``numpy._core``).
"""

import io
import math
import pickle
import pickletools
import re

import numpy as np

from .errors import DatasetFileError

# fmt: off
_OPCODES = frozenset((
    # frame, end and memory of the pickle
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET",
    "LONG_BINGET",
    # values
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    # containers
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_DICT",
    "DICT", "SETITEM", "SETITEMS",
    # the allowed names, called and given a state
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
))
# fmt: on


class _Array:
    """Replaces an array under construction."""

    __slots__ = ("values",)

    def __setstate__(self, state):
        _version, shape, dtype, fortran_order, values = state
        self._fill(values, dtype, shape, fortran_order)

    def _fill(self, values, dtype, shape, fortran_order):
        if isinstance(values, str):  # Protocols below 3 have no bytes
            values = values.encode("latin1")
        shape = tuple(shape)
        if (
            type(dtype) is not _Dtype
            or fortran_order not in (0, 1, "C", "F")
            or not all(type(size) is int and size >= 0 for size in shape)
            or len(shape) > 4
            or not isinstance(values, (bytes, bytearray))
            or len(values) != math.prod(shape) * np.dtype(dtype.code).itemsize
        ):
            raise pickle.UnpicklingError("an array whose description does not match its values")
        order = "F" if fortran_order in (1, "F") else "C"
        self.values = np.frombuffer(values, dtype.byte_order + dtype.code).reshape(shape, order=order)


class _Dtype:
    """Replaces an integer dtype."""

    __slots__ = ("code", "byte_order")

    def __setstate__(self, state):
        # (version, byte order, subarray, names, fields, size, alignment, flags); plain integers have none of the rest.
        byte_order = _text(state[1])
        if byte_order not in ("|", "<", ">", "=") or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a dtype that is not a plain integer")
        self.byte_order = byte_order


class _NdarrayName:
    """Replaces ``numpy.ndarray``, which batches only name."""

    __slots__ = ()


class _Reconstruct:
    """Replaces ``numpy.core.multiarray._reconstruct``."""

    __slots__ = ()

    def __call__(self, subtype, shape, code):
        if type(subtype) is not _NdarrayName:
            raise pickle.UnpicklingError("an array of a foreign class")
        return _Array()


class _MakeDtype:
    """Replaces ``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, code, align=False, copy=False):
        code = _text(code)
        if not re.fullmatch("[iu][1248]", code):
            raise pickle.UnpicklingError(f"an array of dtype {code[:20]!r}, instead of integers")
        dtype = _Dtype()
        dtype.code, dtype.byte_order = code, "="
        return dtype


class _FromBuffer:
    """Replaces ``numpy._core.numeric._frombuffer``, with which protocol 5 pickles arrays."""

    __slots__ = ()

    def __call__(self, values, dtype, shape, order):
        array = _Array()
        array._fill(values, dtype, shape, order)
        return array


class _Encode:
    """Replaces ``_codecs.encode``, with which Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __call__(self, text, encoding):
        if type(text) is not str or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin1")


# Instances without attributes, which a pickle can call but not change.
_ALLOWED = {
    ("numpy", "ndarray"): _NdarrayName(),
    ("numpy", "dtype"): _MakeDtype(),
    ("_codecs", "encode"): _Encode(),
}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[_core + ".multiarray", "_reconstruct"] = _Reconstruct()
    _ALLOWED[_core + ".numeric", "_frombuffer"] = _FromBuffer()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _ALLOWED[module, name]
        except KeyError:
            # The name comes from an untrusted file and may be printed on a terminal: escape and shorten it.
            raise pickle.UnpicklingError(f"it asks for {f'{module}.{name}'[:80]!r}") from None


def load_plain_pickle(content, path):
    """The dict in the unpacked `content` of a CIFAR batch or meta file: str keys, arrays as ndarray, Python 2 strings
    as str.

    Raises DatasetFileError if the pickle is damaged, or holds or asks for anything but dicts, lists, strings, bytes,
    integers and arrays of integers. None of it is executed.
    """
    try:
        _check_opcodes(content)
        loaded = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        if type(loaded) is not dict:
            raise pickle.UnpicklingError(f"it holds a {type(loaded).__name__}, not a dict")
        return {_text(key): _plain(value) for key, value in loaded.items()}
    # A damaged or hostile pickle can make the unpickler raise any of these.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        raise DatasetFileError(
            f"{path} was refused: it is damaged, or a pickle with more content than a CIFAR batch ({error}). "
            "Nothing in it was run. Get the original file again, and do not trust this one."
        ) from error


def _check_opcodes(content):
    """Refuse instructions that no batch has, and memo indices so large that memory would run out."""
    n_memoized = 0
    for opcode, argument, _position in pickletools.genops(content):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it has the instruction {opcode.name}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            n_memoized += 1
            if isinstance(argument, int) and argument > n_memoized + 1:
                raise pickle.UnpicklingError("its memo has gaps")


def _plain(value):
    if type(value) is _Array:
        return value.values
    if type(value) is list:
        return [_plain_item(item) for item in value]
    return _plain_item(value)


def _plain_item(item):
    if isinstance(item, bytes):
        return item.decode("latin1")
    if item is None or isinstance(item, (str, int)):
        return item
    raise pickle.UnpicklingError(f"a {type(item).__name__} instead of a string or an integer")


def _text(value):
    if isinstance(value, bytes):
        return value.decode("latin1")
    if isinstance(value, str):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__} instead of a string")

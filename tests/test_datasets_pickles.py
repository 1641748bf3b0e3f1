"""The unpickler of CIFAR's batches against pickles that call functions."""

import builtins
import collections
import copyreg
import os
import pickle
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
from datasets_writers import python2_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from skrobust.datasets import DatasetFileError
from skrobust.datasets.pickles import load_plain_pickle

_PLANES = np.arange(2 * 12, dtype=np.uint8).reshape(2, 12)
_GOOD = python2_batch(_PLANES, [3, 4])


class _Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _refused(content, match=None):
    with pytest.raises(DatasetFileError, match=match) as caught:
        load_plain_pickle(content, "batch")
    assert str(caught.value).startswith("batch was refused")


def test_pickles_of_python_two_are_read():
    batch = load_plain_pickle(_GOOD, "batch")
    assert batch["labels"] == [3, 4] and batch["batch_label"] == "a batch"
    np.testing.assert_array_equal(batch["data"], _PLANES)
    reference = pickle.loads(_GOOD, encoding="latin1")  # the writer of the tests itself, seen by Python's own reader
    np.testing.assert_array_equal(reference["data"], _PLANES)
    assert reference["labels"] == [3, 4]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "i8", "<u2", ">i4"])
@pytest.mark.parametrize("order", "CF")
def test_pickles_of_current_numpy_are_read(protocol, dtype, order):
    array = np.asarray(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    batch = load_plain_pickle(pickle.dumps({b"data": array, "labels": [1, -(2**40)], "n": None}, protocol), "batch")
    np.testing.assert_array_equal(batch["data"], array)
    assert batch["labels"] == [1, -(2**40)] and batch["n"] is None


@pytest.mark.parametrize("new", [b"numpy._core", b"numpy.core"])
def test_numpy_before_and_after_its_renaming(new):
    content = pickle.dumps({"data": _PLANES}, 2).replace(b"numpy._core", new).replace(b"numpy.core", new)
    np.testing.assert_array_equal(load_plain_pickle(content, "batch")["data"], _PLANES)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: {"data": x}, lambda x: {"labels": [1, [(x,)]]}, lambda x: {x: 1}]
)
@pytest.mark.parametrize(
    "function, arguments",
    [
        (os.system, ("touch {mark}",)),
        (subprocess.getoutput, ("touch {mark}",)),
        (eval, ("open({mark!r}, 'w')",)),
        (exec, ("open({mark!r}, 'w')",)),
        (open, ("{mark}", "w")),
        (os.mkdir, ("{mark}",)),
        (builtins.__import__, ("os",)),
        (getattr, ("text", "__class__")),
        (np.fromfile, ("{mark}",)),
        (np.load, ("{mark}",)),
        (np.save, ("{mark}", 1)),
        (np.memmap, ("{mark}", "uint8", "w+", 0, (1,))),
        (np.array, ([1],)),
        (np.frombuffer, (b"12",)),
        (np.ndarray, ((2,),)),
        (collections.OrderedDict, ()),
        (list, ()),
        (bytearray, (b"12",)),
    ],
)
def test_calls_are_refused(tmp_path, protocol, wrap, function, arguments):
    mark = tmp_path / "mark"
    arguments = [argument.format(mark=str(mark)) if isinstance(argument, str) else argument for argument in arguments]
    _refused(pickle.dumps(wrap(_Calls(function, *arguments)), protocol))
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_python_two_names_are_refused(tmp_path, protocol):
    mark = tmp_path / "mark"
    for name in ("__builtin__\neval", "os\nsystem", "posix\nsystem", "commands\ngetoutput", "numpy.testing\nrunstring"):
        argument = f"S'touch {mark}'\n"
        proto = b"\x80" + bytes([protocol]) if protocol == 2 else b""
        _refused(proto + f"c{name}\n({argument}tR.".encode(), "asks for")
        _refused(proto + f"(i{name}\n.".encode(), "instruction INST")
        _refused(proto + f"(c{name}\n{argument}o.".encode(), "instruction OBJ")
        _refused(proto + f"(c{name}\n{argument}t\x81.".encode("latin1"), "instruction NEWOBJ")
    assert not mark.exists()


def test_other_opcodes_that_import_or_call_are_refused():
    copyreg.add_extension("os", "system", 240)
    try:
        _refused(b"\x80\x02\x82\xf0U\x04true\x85R.", "instruction EXT1")
    finally:
        copyreg.remove_extension("os", "system", 240)
    _refused(b"Pname\n.", "instruction PERSID")
    _refused(b"\x80\x02U\x04nameQ.", "instruction BINPERSID")
    _refused(b"\x80\x05\x97.", "instruction NEXT_BUFFER")
    _refused(b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.", "asks for 'numpy.ndarray.__class__'")
    _refused(b"\x80\x04\x8c\x08builtins\x8c\x0fobject.__init__\x93.", "asks for")


def test_the_name_in_the_message_is_cut_and_quoted():
    with pytest.raises(DatasetFileError) as caught:
        load_plain_pickle(b"cmodule\x1b[2J\n" + b"n" * 5000 + b"\n.", "batch")
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 400


_RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
_NDARRAY = b"cnumpy\nndarray\n"
_U1 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def _array(shape=b"K\x02\x85", dtype=_U1, values=b"U\x02ab", fortran=b"\x89", subtype=_NDARRAY):
    made = _RECONSTRUCT + subtype + b"K\x00\x85U\x01b\x87R"
    return b"\x80\x02}U\x04data" + made + b"(K\x01" + shape + dtype + fortran + values + b"tbs."


def test_the_forged_arrays_below_start_from_a_good_one():
    np.testing.assert_array_equal(load_plain_pickle(_array(), "batch")["data"], np.frombuffer(b"ab", np.uint8))


@pytest.mark.parametrize(
    "content",
    [
        _array(dtype=_U1.replace(b"u1", b"O8")),
        _array(dtype=_U1.replace(b"u1", b"V8")),
        _array(dtype=_U1.replace(b"u1", b"u3")),
        _array(dtype=_U1.replace(b"U\x02u1", b"U\x05u1,u1"), shape=b"K\x01\x85"),
        _array(dtype=_U1.replace(b"NNN", b"NU\x01aN")),  # named fields
        _array(dtype=_U1.replace(b"U\x01|", b"U\x01O")),  # no byte order
        _array(dtype=b"N"),
        _array(dtype=b"U\x02u1"),
        _array(shape=b"K\x03\x85"),
        _array(shape=b"J\xff\xff\xff\xff\x85"),
        _array(shape=b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85"),
        _array(shape=b"K\x02K\x01K\x01\x87"[:-1] + b"\x87" + b"0" + b"(K\x02K\x01K\x01K\x01K\x01t"),
        _array(shape=b"N"),
        _array(values=b"](K\x01K\x02e"),
        _array(values=b"N"),
        _array(fortran=b"K\x07"),
        _array(subtype=b"cnumpy\ndtype\n"),
        _array(subtype=b"U\x01x"),
        b"\x80\x02}U\x04data" + _RECONSTRUCT + _NDARRAY + b"K\x00\x85U\x01b\x87Rs.",  # an array without a state
        b"\x80\x02}U\x04data" + _NDARRAY + b"s.",
        b"\x80\x02}U\x04data" + _U1 + b"s.",
        b"\x80\x02}U\x04datac_codecs\nencode\nX\x01\x00\x00\x00aU\x03hex\x86Rs.",
        b"\x80\x02}U\x04datac_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86Rs.",
    ],
)
def test_forged_arrays_are_refused(content):
    _refused(content)


@pytest.mark.parametrize("target", [_NDARRAY, _RECONSTRUCT, b"cnumpy\ndtype\n", b"c_codecs\nencode\n"])
@pytest.mark.parametrize("name", [b"__class__", b"__call__", b"__setstate__", b"_call"])
def test_admitted_names_cannot_be_changed(target, name):
    attribute = b"}U" + bytes([len(name)]) + name + _NDARRAY + b"s"
    _refused(b"\x80\x02" + target + attribute + b"b0}.")
    _refused(b"\x80\x02" + target + b"N" + attribute + b"\x86b0}.")
    np.testing.assert_array_equal(load_plain_pickle(_GOOD, "batch")["data"], _PLANES)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2 G places
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.",  # a string of an exbibyte
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 36) + b"a.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 36) + b"}.",  # a frame
        b"\x80\x02T\xff\xff\xff\x7fa.",
        _array(shape=b"J\x00\x00\x00\x40J\x00\x00\x00\x40\x86"),
    ],
)
def test_declared_sizes_allocate_nothing(content):
    tracemalloc.start()
    _refused(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_values_of_other_types_are_refused():
    for value in ({"a": {"b": 1}}, {"a": 1.5}, {"a": [[1]]}, {"a": (1,)}, {1: 2}, {"a": {1}}, {"a": 1j}):
        _refused(pickle.dumps(value))
    recursive = {"a": []}
    recursive["a"].append(recursive["a"])
    _refused(pickle.dumps(recursive))


def test_deep_nesting_ends_in_an_error():
    _refused(b"\x80\x02}U\x01a" + b"]" * 200_000 + b"a" * 199_999 + b"s.")


@settings(max_examples=2000)
@given(position=st.integers(0, len(_GOOD) - 1), value=st.integers(0, 255), cut=st.booleans())
def test_one_wrong_byte_gives_a_batch_or_a_clear_error(position, value, cut):
    content = bytearray(_GOOD)
    content[position] = value
    try:
        batch = load_plain_pickle(bytes(content[: position + 1] if cut else content), "batch")
    except DatasetFileError as error:
        assert str(error).startswith("batch was refused")
    else:
        assert all(isinstance(key, str) for key in batch)
        assert all(isinstance(item, (str, int, list, np.ndarray, type(None))) for item in batch.values())

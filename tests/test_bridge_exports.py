"""The table of docs/bridge.md says which module can be traced, exported and converted; each cell is tried."""

import io
import pathlib
import re
import warnings

import numpy as np
import pytest
import torch
from modules_helpers import CLASSIFIERS, TRANSFORMERS, digits, fitted

from skrobust import as_module

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "bridge.md"
ROW = re.compile(r"^\| `(?P<name>[^|]*)` \| (?P<trace>[^|]*) \| (?P<export>[^|]*) \| (?P<onnx>[^|]*) \|$", re.MULTILINE)
KINDS = ("trace", "export", "onnx")
# Codes of two solvers that stop at the same gap may differ by this much, for codes of size one.
LOOSE = {"ConvSparseCoder", 'ConvSparseCoder(output="reconstruction")', 'MOD(coding="l1")'}
LOOSE |= {"LayeredBasisPursuit(tol=...)", "DeepPursuit(tol=...)"}
# One of each way to be recorded; the others take minutes together.
QUICK = {
    "trace": {*TRANSFORMERS, *CLASSIFIERS},
    "export": {
        "WaveletSparsifier",
        'PolarizingCoder(output="reconstruction")',
        "LayeredThresholding",
        "LayeredBasisPursuit",
        "MOD(coding=\"ols\")",
        "LogisticRegression",
        "SVC",
    },
    "onnx": {"WaveletSparsifier", "LogisticRegression"},
}
TABLE = {row["name"]: row.groupdict() for row in ROW.finditer(PAGE.read_text())}
CASES = [
    pytest.param(name, kind, id=f"{name}-{kind}", marks=() if name in QUICK[kind] else pytest.mark.slow)
    for name in (*TRANSFORMERS, *CLASSIFIERS)
    for kind in KINDS
]


def batch(begin, end):
    return torch.tensor(digits()[0][begin:end], dtype=torch.float32)


def traced(module, example):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        trace = torch.jit.trace(module, example, check_trace=False)
        if "process" in TABLE[module.case_name]["trace"]:
            with pytest.raises(RuntimeError, match="_Node"):
                torch.jit.save(trace, stream)
            return trace
        torch.jit.save(trace, stream)
        stream.seek(0)
        return torch.jit.load(stream)


def exported(module, example):
    samples = torch.export.Dim("n_samples", min=1, max=4096)
    program = torch.export.export(module, (example,), dynamic_shapes=({0: samples},))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    stream.seek(0)
    return torch.export.load(stream).module()


def in_onnx(module, example):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    samples = torch.export.Dim("n_samples", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,), dynamic_shapes=({0: samples},))
        stream = io.BytesIO()
        torch.onnx.export(program, dynamo=True, verbose=False).save(stream)
    session = runtime.InferenceSession(stream.getvalue())
    return lambda X: torch.tensor(session.run(None, {session.get_inputs()[0].name: X.numpy()})[0])


def test_the_table_has_every_module():
    assert set(TABLE) == {*TRANSFORMERS, *CLASSIFIERS}
    for row in TABLE.values():
        assert row["trace"] in ("yes", "in its process")
        assert all(row[kind] == "yes" or row[kind].startswith("no: ") for kind in ("export", "onnx"))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_exports_work_as_the_table_says(name, kind):
    module = as_module(fitted(name), dtype="float32")
    module.case_name = name
    example, X = batch(40, 43), batch(50, 57)
    convert = {"trace": traced, "export": exported, "onnx": in_onnx}[kind]
    if TABLE[name][kind].startswith("no: "):
        with pytest.raises(Exception):  # noqa: B017, the exporters' own
            convert(module, example)
        return
    function = convert(module, example)
    with torch.no_grad():
        expected, result = module(X), function(X)
    # Exporters treat a batch of one sample separately.
    with torch.no_grad():
        single = function(X[:1])
    tol = 2e-2 if name in LOOSE and kind != "trace" else 2e-5
    np.testing.assert_allclose(result, expected, rtol=0, atol=tol * max(1, float(expected.abs().max())))
    np.testing.assert_allclose(single, expected[:1], rtol=0, atol=tol * max(1, float(expected.abs().max())))


@pytest.mark.parametrize("name", ["PatchDictionaryDenoiser", "ConvSparseCoder", "DeepPursuit(tol=...)", "KSVD"])
def test_traces_are_differentiable(name):
    module = as_module(fitted(name))
    module.case_name = name
    X = batch(50, 54).double().requires_grad_(True)
    trace = traced(module, batch(40, 43).double())
    gradients = [torch.autograd.grad(function(X).square().sum(), X)[0] for function in (module, trace)]
    torch.testing.assert_close(*gradients)
    assert bool(gradients[0].any())

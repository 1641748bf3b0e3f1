"""The command that compiles the kernels before they are needed."""

import os
import subprocess
import sys

import pytest

from skrobust.cli import main
from skrobust.cli.first_calls import FAMILIES
from skrobust.kernels.cache import cache_folders


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A cache of this test's own, for this process and those it starts."""
    monkeypatch.setenv("SKROBUST_CACHE_DIR", str(tmp_path))
    cache_folders.cache_clear()
    yield tmp_path
    cache_folders.cache_clear()


def test_later_processes_find_all_kernels_of_a_family(folder, capsys):
    assert main(["warmup", "--only", "polar", "--jobs", "1"]) == 0
    done = capsys.readouterr()
    assert "Compiled the kernels of polar in" in done.out and str(folder) in done.out
    assert "compiling: 100%" in done.err
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")}
    assert {path.name.rpartition("-")[0] for path in before} >= {"encode", "encode_filters", "count", "bound_pixels"}
    code = (
        "import numpy as np; from skrobust import PolarizingCoder;"
        "PolarizingCoder().fit_transform(np.random.default_rng(0).random((9, 6, 6), dtype=np.float32))"
    )
    environment = {**os.environ, "SKROBUST_COMPILE_NOTICE": "1"}
    later = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert later.returncode == 0 and "compiling" not in later.stderr, later.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.bin")} == before


def test_an_error_of_a_family_is_raised(folder, monkeypatch):
    monkeypatch.setitem(FAMILIES, "nothing", None)  # the worker does not know it
    with pytest.raises(KeyError, match="nothing"):
        main(["warmup", "--only", "nothing", "--quiet"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "everything"], "invalid choice: 'everything'"),
        (["--dtype", "float16"], "invalid choice: 'float16'"),
        (["--jobs", "0"], "'0' is not a positive integer"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    assert main(["warmup", *arguments]) == 2
    assert message in capsys.readouterr().err

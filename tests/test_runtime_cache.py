"""Compiled kernels on disk: where they lie, what invalidates them, and what a folder that cannot be written does."""

import contextlib
import importlib
import io
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tqdm import tqdm

from skrobust.kernels import cache, notice
from skrobust.kernels.cache import KEPT_VERSIONS, cache_folders, clear_memory, source_stamp
from skrobust.kernels.vectors import kernel

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A cache of this test's own."""
    monkeypatch.setenv("SKROBUST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    clear_memory()
    yield tmp_path / "cache"
    clear_memory()


@pytest.fixture
def modules(monkeypatch, tmp_path):
    """Makes modules of a package that stands for skrobust."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cache, "PACKAGE", tmp_path / "robust")

    def make(**sources):
        (tmp_path / "robust").mkdir(exist_ok=True)
        for name, source in sources.items():
            (tmp_path / "robust" / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        clear_memory()
        importlib.invalidate_caches()
        for name in [name for name in sys.modules if name.split(".")[0] == "robust"]:
            del sys.modules[name]
        return {name: importlib.import_module(f"robust.{name}") for name in sources}

    return make


INNER = """
from skrobust.kernels.vectors import inlined
@inlined
def step(x):
    return x + {}
"""

OUTER = """
from skrobust.kernels.vectors import kernel
from .inner import (
    step,
)
@kernel
def run(x):
    return 2 * step(x)
"""


def _files(folder):
    return sorted(path for path in folder.rglob("*.bin"))


def test_a_second_process_finds_what_the_first_compiled(folder, modules):
    made = modules(inner=INNER.format(1), outer=OUTER)
    assert made["outer"].run(3) == 8
    assert [path.name.split("-")[0] for path in _files(folder)] == ["run"]  # with `step` inside
    again = modules(inner=INNER.format(1), outer=OUTER)["outer"].run
    assert again(3) == 8
    assert sum(again.stats.cache_hits.values()) == 1 and not again.stats.cache_misses
    again(3.0)  # another signature
    assert len(_files(folder)) == 2


def test_editing_an_inlined_function_of_another_file_invalidates(folder, modules):
    assert modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3) == 8
    changed = modules(inner=INNER.format(5), outer=OUTER)["outer"].run
    assert changed(3) == 16
    assert not changed.stats.cache_hits
    back = modules(inner=INNER.format(1), outer=OUTER)["outer"].run  # the former files are still there
    assert back(3) == 8 and back.stats.cache_hits


def test_stamp_covers_all_modules_that_kernels_use(folder, monkeypatch, tmp_path):
    package = tmp_path / "skrobust"
    shutil.copytree(ROOT / "skrobust", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "PACKAGE", package)

    def stamp():
        clear_memory()
        return source_stamp(package / "operators" / "wavelet" / "kernels_1d.py")

    wavelet = [f"operators/wavelet/{name}.py" for name in ("kernels_1d", "kernels", "selection")]
    for name in [*wavelet, "kernels/vectors.py", "kernels/vector_ir.py"]:
        before = stamp()
        with open(package / name, "a", encoding="utf-8") as source:
            source.write("\n# edited\n")
        assert stamp() != before, name
    before = stamp()
    (package / "pursuits/greedy/omp/steps.py").write_text("# another module", encoding="utf-8")
    assert stamp() == before


def test_damaged_and_foreign_files_are_compiled_anew(folder, modules):
    modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3)
    for content in b"", b"\x80", pickle.dumps((("another signature",), None)):
        for path in _files(folder):
            path.write_bytes(content)
        assert modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3) == 8


def test_a_folder_that_cannot_be_written(folder, modules):
    folder.write_text("a file, no folder")
    with pytest.warns(RuntimeWarning, match="cache.*kept in .*Set SKROBUST_CACHE_DIR") as caught:
        made = modules(inner=INNER.format(1), outer=OUTER)["outer"]
        assert made.run(3) == 8 and made.run(3.0) == 8
    assert len(caught) == 1
    temporary = cache_folders()[1]
    assert len(_files(temporary)) == 2
    again = modules(inner=INNER.format(1), outer=OUTER)["outer"].run
    assert again(3) == 8 and again.stats.cache_hits
    temporary.chmod(0o777)  # anyone may have put something there: neither read nor written
    if hasattr(os, "getuid"):
        fresh = modules(inner=INNER.format(1), outer=OUTER)["outer"].run
        with pytest.warns(RuntimeWarning, match="others may write there"):
            assert fresh(3) == 8 and not fresh.stats.cache_hits


@pytest.fixture
def impatient(monkeypatch):
    """The notice of a compile at once; the set of what was announced."""
    monkeypatch.delenv("SKROBUST_COMPILE_NOTICE", raising=False)
    monkeypatch.setattr(notice, "PATIENCE", 0.0)
    monkeypatch.setattr(notice, "announced", set())
    return notice.announced


def test_a_long_compile_is_announced_once(folder, modules, impatient, capsys):
    made = modules(inner=INNER.format(1), outer=OUTER)["outer"]
    made.run(3)
    assert capsys.readouterr().err == f"skrobust: compiling kernels of robust (once per machine; cached in {folder})\n"
    made.run(3.0)  # another kernel of the same folder
    impatient.clear()
    modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3)  # from the cache
    assert not capsys.readouterr().err and not impatient


def test_the_notice_can_be_silenced_and_a_short_compile_has_none(folder, modules, impatient, monkeypatch, capsys):
    made = modules(inner=INNER.format(1), outer=OUTER)["outer"]
    monkeypatch.setenv("SKROBUST_COMPILE_NOTICE", "0")
    made.run(3)
    monkeypatch.delenv("SKROBUST_COMPILE_NOTICE")
    monkeypatch.setattr(notice, "PATIENCE", 60.0)
    made.run(3.0)
    assert not capsys.readouterr().err


def test_the_notice_does_not_break_a_progress_bar(folder, modules, impatient):
    stream = io.StringIO()
    with contextlib.redirect_stderr(stream), tqdm(total=2, desc="coding", file=stream) as bar:
        bar.update()
        modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3)
        bar.update()
    (line,) = [line for line in stream.getvalue().split("\n") if "compiling" in line]
    assert line.rpartition("\r")[2].startswith("skrobust: compiling")  # the bar is cleared before it
    assert stream.getvalue().rpartition("\r")[2].startswith("coding")


def test_works_without_any_cache_folder(folder, modules):
    folder.write_text("a file, no folder")
    cache_folders()[1].write_text("another")
    with pytest.warns(RuntimeWarning, match="compiled again in each process"):
        assert modules(inner=INNER.format(1), outer=OUTER)["outer"].run(3) == 8


def test_old_folders_are_removed(folder, modules):
    for number in range(KEPT_VERSIONS + 3):
        other = folder / f"0.0.{number}-other"
        (other / "module-stamp").mkdir(parents=True)
        os.utime(other, (number, number))
    for number in range(KEPT_VERSIONS + 3):
        assert modules(inner=INNER.format(number), outer=OUTER)["outer"].run(0) == 2 * number
    remaining = sorted(path.name for path in folder.iterdir())
    assert len(remaining) == KEPT_VERSIONS and "0.0.0-other" not in remaining and f"0.0.{number}-other" in remaining
    (current,) = (path for path in folder.iterdir() if not path.name.endswith("-other"))
    assert len(list(current.glob("outer-*"))) == KEPT_VERSIONS


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"SKROBUST_CACHE_DIR": "/a", "NUMBA_CACHE_DIR": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"NUMBA_CACHE_DIR": "/b", "XDG_CACHE_HOME": "/c"}, "/b/skrobust"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/skrobust"),
        ({"HOME": "/d"}, "/d/.cache/skrobust"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="places of Linux")
def test_cache_folders(environment, expected):
    names = "SKROBUST_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    code = "from skrobust.kernels.cache import cache_folders; print(cache_folders()[0])"
    environment = {**inherited, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == expected, done.stderr


def test_nothing_is_written_in_the_package(folder):
    from skrobust.operators.wavelet import selection

    def compiled():
        return {path for kind in ("nbi", "nbc", "bin") for path in (ROOT / "skrobust").rglob(f"*.{kind}")}

    before = compiled()
    values = np.arange(32.0)
    selection.keep_largest(values, 32, 3, np.empty(128), np.empty(64))
    assert np.flatnonzero(values).tolist() == [29, 30, 31]
    assert compiled() == before


def test_every_kernel_has_this_cache():
    from numba.core.dispatcher import Dispatcher

    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "skrobust").rglob("*kernels*.py")]
    names = [".".join(path.parts) for path in paths]
    compiled = [
        value
        for name in names
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, Dispatcher)
    ]
    assert len(compiled) > 50
    assert {value.stats.cache_path for value in compiled} == {str(cache_folders()[0])}
    assert kernel(fastmath=True)(abs_of).targetoptions["fastmath"] is True


def abs_of(x):
    return abs(x)

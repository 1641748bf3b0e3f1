"""Compiled kernels on disk: in the user's cache folder, never in the package.

``<cache>/<version, Python, numba, processor, vector width>/<module>-<stamp>/<function>-<signature>.bin``

The stamp covers the module's source and that of every skrobust module it imports, directly or not, so that an edited
function invalidates all kernels that inline it. A file is written atomically and holds one signature, so that several
processes can compile at once. No folder is accessed before the first call of a kernel.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import pickle
import re
import shutil
import stat
import sys
import tempfile
import uuid
import warnings

import llvmlite
import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

PACKAGE = pathlib.Path(__file__).parents[1]

KEPT_VERSIONS = 8
"""Number of versions of the package, and of each module, whose kernels are kept on disk."""

_IMPORT = re.compile(r"^from (\.+[\w.]*|skrobust[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)


class KernelCache(_Cache):
    """Numba cache of one function's compiled versions; `variant` names further settings that the code depends on."""

    def __init__(self, function, variant):
        self._function, self._variant = function, variant
        # Computed at import, because a source edited later is not the code that will be compiled.
        self._stamp = source_stamp(pathlib.Path(function.__code__.co_filename))
        self._enabled = True

    @property
    def cache_path(self):
        return str(cache_folders()[0])

    def enable(self):
        self._enabled = True

    def disable(self):
        self._enabled = False

    def flush(self):
        """No-op: nothing is kept in memory."""

    def load_overload(self, sig, target_context):
        target_context.refresh()  # numba's own types must be registered before unpickling
        if not self._enabled:
            return None
        path = self._path(sig, target_context.codegen())
        for folder in cache_folders():
            with contextlib.suppress(Exception):  # missing, damaged, or of other types: compile again
                content = (folder / path).read_bytes()
                stored, payload = pickle.loads(content) if _is_safe(folder) else (None, None)
                if stored == sig:
                    return CompileResult._rebuild(target_context, *payload)
        return None

    def save_overload(self, sig, data):
        if not self._enabled or data.lifted or data.library.has_dynamic_globals:
            return
        content = dumps((sig, data._reduce()))
        path = self._path(sig, data.codegen)
        failures = []
        for folder in cache_folders():
            try:
                _write(folder, path, content)
            except OSError as error:
                failures.append(f"{folder} ({error.strerror or error})")
            else:
                break
        if failures:
            _warn_of_failures(tuple(failures), folder if len(failures) < 2 else None)

    def _path(self, sig, codegen):
        triple, processor, features = codegen.magic_tuple()
        code = self._function.__code__
        key = repr((str(sig), triple, features, code.co_firstlineno, numba.config.OPT))
        return pathlib.Path(
            "-".join((_release(), processor or "any", self._variant)),
            f"{pathlib.Path(code.co_filename).stem}-{self._stamp[:16]}",
            f"{self._function.__qualname__}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin",
        )


@functools.cache
def cache_folders():
    """Cache folders in the order of trial; the last one is used if the user's folder is not writable.

    The user's folder is ``SKROBUST_CACHE_DIR``, else inside ``NUMBA_CACHE_DIR``, else the platform's cache folder.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    temporary = pathlib.Path(tempfile.gettempdir()) / f"skrobust-{user}"
    chosen = os.environ.get("SKROBUST_CACHE_DIR")
    if chosen:
        return pathlib.Path(chosen).absolute(), temporary
    if numba.config.CACHE_DIR:
        return pathlib.Path(numba.config.CACHE_DIR).absolute() / "skrobust", temporary
    try:
        return _user_folder(), temporary
    except RuntimeError:  # a user without a home folder
        return temporary, temporary


def _user_folder():
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData/Local") / "skrobust/Cache"
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library/Caches/skrobust"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "skrobust"


@functools.cache
def _warn_of_failures(failures, used):
    """Say once where compiled kernels could not be written."""
    where = f"they are kept in {used}" if used else "they are compiled again in each process"
    warnings.warn(
        f"Compiled kernels could not be written to {' and '.join(failures)}; {where}. "
        "Set SKROBUST_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )


def _is_safe(folder):
    """Whether files of a folder may be executed: a temporary folder must belong to the user and be private."""
    if folder != cache_folders()[1] or not hasattr(os, "getuid"):
        return True
    state = folder.lstat()
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022


def _write(folder, path, content):
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_safe(folder):
        raise PermissionError(f"{folder} belongs to another user, or others may write there")
    target = folder / path
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        _prune(target.parent.parent, f"{path.parent.name.rpartition('-')[0]}-*")
        _prune(folder, "*")
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _prune(parent, pattern):
    """Remove all but the most recently changed folders of a pattern."""

    def changed(folder):
        with contextlib.suppress(OSError):  # another process removed it
            return folder.stat().st_mtime
        return 0.0

    folders = sorted((folder for folder in parent.glob(pattern) if folder.is_dir()), key=changed, reverse=True)
    for folder in folders[KEPT_VERSIONS:]:
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _release():
    from skrobust import __version__

    return f"{__version__}-{sys.implementation.cache_tag}-numba{numba.__version__}-llvmlite{llvmlite.__version__}"


@functools.cache
def source_stamp(path):
    """Digest of a module and of all modules of the package that it imports when it is loaded."""
    pending, known = [path], {}
    while pending:
        path = pending.pop()
        if path not in known:
            known[path], imported = _read(path)
            pending += imported
    return hashlib.sha256(" ".join(sorted(known.values())).encode()).hexdigest()


def clear_memory():
    """Forget folders, source stamps and warnings, after a change of the environment or of the sources."""
    for function in (cache_folders, source_stamp, _read, _warn_of_failures):
        function.cache_clear()


@functools.cache
def _read(path):
    """Digest of a source file, and the files of the package that it imports."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError:  # a package without sources is identified by its version
        return "", []
    imported = []
    for place, names in _IMPORT.findall(source):
        words = place.lstrip(".")
        levels = len(place) - len(words)
        base = path.parents[levels - 1] if levels else PACKAGE.parent
        base = base.joinpath(*filter(None, words.split(".")))
        if base.is_dir():
            modules = [base / f"{name}.py" for name in re.findall(r"\w+", names)]
            imported += [module for module in modules if module.exists()] or [base / "__init__.py"]
        else:
            imported.append(base.with_suffix(".py"))
    return hashlib.sha256(source.encode()).hexdigest(), imported

"""Shared by all tests: bounded threads, a kernel cache that no source change can leave stale."""

import hashlib
import os
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: more threads of torch and BLAS in each would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Numba keys its cache by the file of the kernel alone, not by the files whose functions it inlines.
_sources = sorted((_ROOT / "skrobust").rglob("*.py"))
_stamp = hashlib.sha256(b"".join(path.read_bytes() for path in _sources if "pursuits" in path.parts)).hexdigest()
os.environ.setdefault("NUMBA_CACHE_DIR", str(_ROOT / ".numba_cache" / _stamp[:16]))

from hypothesis import settings  # noqa: E402

settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("suite")

"""Shared by all tests: bounded threads, a kernel cache that no source change can leave stale."""

import hashlib
import os
import pathlib

_ROOT = pathlib.Path(__file__).resolve().parents[1]

# Numba keys its cache by the file of the kernel alone, not by the files whose functions it inlines.
_sources = sorted((_ROOT / "skrobust").rglob("*.py"))
_stamp = hashlib.sha256(b"".join(path.read_bytes() for path in _sources if "pursuits" in path.parts)).hexdigest()
os.environ.setdefault("NUMBA_CACHE_DIR", str(_ROOT / ".numba_cache" / _stamp[:16]))

import numba  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

# Numba's threads, once started, set those of torch as well where both share an OpenMP library.
numba.get_num_threads()
torch.set_num_threads(1)

settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("suite")

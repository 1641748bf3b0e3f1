"""Seconds until a first result: compiling the kernels, and loading them in later processes.

    python benchmarks/bench_cold.py            # a few minutes; writes benchmarks/results/bench_cold.json

Each call runs on small float32 images, one thread, in a process of its own: once with an empty kernel cache, then with
the cache that this left. CPU seconds of the whole process (compiling uses one core), the least of the rounds; the
process that only imports scikit-learn is the yardstick of the second column.
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from _race import RESULTS, machine, write_json

IMAGES = "import numpy as np; r = np.random.default_rng(0); X = r.random((20, 12, 12), dtype=np.float32); "
CALLS = {
    "WaveletSparsifier().fit_transform": "from skrobust import WaveletSparsifier as T; T().fit_transform(X)",
    "PatchDictionaryDenoiser().fit, transform": (
        "from skrobust import PatchDictionaryDenoiser as T; T(random_state=0).fit(X).transform(X)"
    ),
    "ConvSparseCoder().fit": "from skrobust import ConvSparseCoder as T; T(random_state=0, max_iter=5).fit(X)",
    "LayeredBasisPursuit().fit": "from skrobust import LayeredBasisPursuit as T; T(random_state=0).fit(X)",
    "PolarizingCoder().fit_transform": "from skrobust import PolarizingCoder as T; T(random_state=0).fit_transform(X)",
    "orthogonal_mp": (
        "from skrobust.pursuits import orthogonal_mp; X = X.reshape(20, -1); orthogonal_mp(X, X, n_nonzero_coefs=3)"
    ),
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cpu_seconds(code, cache):
    """CPU seconds of a fresh process."""
    root = str(pathlib.Path(__file__).parents[1])
    environment = {**os.environ, **dict.fromkeys(THREADS, "1"), "SKROBUST_CACHE_DIR": str(cache), "PYTHONPATH": root}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(code, rounds):
    """Least CPU seconds of the first and of the second process, and what the cache holds."""
    first, second = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            first.append(cpu_seconds(code, cache))
            second += [cpu_seconds(code, cache) for _ in range(2)]
            files = list(pathlib.Path(cache).rglob("*.bin"))
            size = sum(file.stat().st_size for file in files)
    return {"first_process": min(first), "second_process": min(second), "kernels": len(files), "cache_bytes": size}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default=RESULTS / "bench_cold.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        imports = min(cpu_seconds("import sklearn", cache) for _ in range(2 * args.rounds))
    calls = {}
    for name, code in CALLS.items():
        calls[name] = measure(IMAGES + code, args.rounds)
        print(
            f"{name:42s} {calls[name]['first_process'] - imports:6.1f} s, then "
            f"{calls[name]['second_process'] - imports:5.2f} s over importing scikit-learn; "
            f"{calls[name]['kernels']} kernels, {calls[name]['cache_bytes'] / 1e6:.1f} MB"
        )
    content = {
        "machine": machine("numpy", "numba", "llvmlite", "scikit-learn"),
        "threads": 1,
        "images": "20 x 12 x 12, float32, random, seed 0",
        "statistic": f"least CPU seconds of {args.rounds} rounds",
        "import_sklearn": imports,
        "calls": calls,
    }
    write_json(args.output, content)


if __name__ == "__main__":
    main()

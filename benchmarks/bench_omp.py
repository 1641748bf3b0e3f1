"""Orthogonal matching pursuit of many signals, against SPAMS, batched OMP, dictlearn and scikit-learn in one run.

    python benchmarks/bench_omp.py            # about 3 minutes; writes benchmarks/results/bench_omp.json
    python benchmarks/bench_omp.py --part 0   # the same in pieces: one size with both dtypes, or "memory"

Signals are K random atoms and noise. All contenders get the same arrays, dtype, threads and K, and return their own
form of codes. SPAMS selects as orthogonal least squares does, so it is raced by both rules; ``eps=0.0`` is what makes
it return K atoms in float32. dictlearn (float64, one thread) and scikit-learn (one thread) get a part of
the signals. "batched OMP" is the package orthogonal-matching-pursuit-gpu on CPU tensors, with the rule of OMP, on
a tenth of the signals in one batch, by each of its algorithms; the ratio is to its fastest one of the dtype.
Each contender's mean residual and peak memory are in the result file.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import warnings

import numpy as np
from _race import RESULTS, machine, race, summary, write_json
from threadpoolctl import threadpool_limits

SIZES = [  # features, atoms, K, signals
    (64, 256, 5, 100_000),
    (64, 256, 10, 50_000),
    (192, 512, 8, 20_000),
]
THREADS = 2
BATCHED = "batched OMP"


def problem(d, m, k, n, dtype):
    rng = np.random.default_rng(0)
    components = rng.standard_normal((m, d))
    components /= np.linalg.norm(components, axis=1, keepdims=True)
    X = 0.05 * rng.standard_normal((n, d))
    for _ in range(k):
        X += rng.standard_normal((n, 1)) * components[rng.integers(0, m, n)]
    return X.astype(dtype), components.astype(dtype)


def contenders(X, components, k):
    """Name: (function that codes, signals that it codes, what makes a dense code of its result)."""
    import spams
    import torch
    from dictlearn._coders._omp import batch_omp_gram
    from orthogonal_matching_pursuit_gpu import run_omp
    from sklearn.linear_model import orthogonal_mp_gram

    from skrobust.pursuits import orthogonal_mp

    columns, signals = np.asfortranarray(components.T), np.asfortranarray(X.T)
    tenth, few, fewer = X[: len(X) // 10], X[: len(X) // 20], X[: max(200, len(X) // 200)]
    tensors = torch.tensor(columns), torch.tensor(tenth)
    torch.set_num_threads(THREADS)
    gram = components @ components.T

    def ours(n_jobs, selection):
        return lambda: orthogonal_mp(X, components, n_nonzero_coefs=k, selection=selection, n_jobs=n_jobs)

    def by_spams(threads):
        return lambda: spams.omp(signals, columns, L=k, eps=0.0, numThreads=threads)

    def by_batches(algorithm):
        def code():
            with threadpool_limits(THREADS, user_api="blas"):
                return run_omp(*tensors, n_nonzero_coefs=k, normalize=False, fit_intercept=False, alg=algorithm)

        return code, tenth, lambda z: z.numpy()

    def by_sklearn():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return orthogonal_mp_gram(gram, components @ fewer.T, n_nonzero_coefs=k)

    dense = {"rows": lambda z: z.toarray(), "columns": lambda z: z.toarray().T, "dense columns": lambda z: z.T}
    algorithms = ["naive", "v0"] + ["v0_blas"] * (X.dtype == np.float64)  # the last takes float64 only
    return {
        "skrobust, OMP": (ours(THREADS, "omp"), X, dense["rows"]),
        "skrobust, OLS": (ours(THREADS, "ols"), X, dense["rows"]),
        "SPAMS": (by_spams(THREADS), X, dense["columns"]),
        "skrobust, OMP, one thread": (ours(1, "omp"), X, dense["rows"]),
        "skrobust, OLS, one thread": (ours(1, "ols"), X, dense["rows"]),
        "SPAMS, one thread": (by_spams(1), X, dense["columns"]),
        **{f"{BATCHED}, {algorithm}": by_batches(algorithm) for algorithm in algorithms},
        "dictlearn": (lambda: batch_omp_gram(gram, components @ few.T, k), few, dense["dense columns"]),
        "scikit-learn": (by_sklearn, fewer, dense["dense columns"]),
    }


def run(d, m, k, n, dtype, rounds):
    X, components = problem(d, m, k, n, dtype)
    field = contenders(X, components, k)
    residuals = {}
    for name, (code, signals, dense) in field.items():
        part = signals[:200]
        codes = dense(code())[: len(part)]
        residuals[name] = float(np.linalg.norm(part - codes @ components, axis=1).mean())
    timed = summary(race({name: code for name, (code, _, _) in field.items()}, rounds=rounds))
    per_second = {name: len(field[name][1]) / s["median"] for name, s in timed.items()}
    batched = max(rate for name, rate in per_second.items() if name.startswith(BATCHED))
    return {
        "features": d,
        "atoms": m,
        "k": k,
        "signals": n,
        "dtype": dtype,
        "signals_per_second": per_second,
        "mean_residual": residuals,
        "seconds": timed,
        "ratios": {
            "OLS to SPAMS": per_second["skrobust, OLS"] / per_second["SPAMS"],
            "OMP to SPAMS": per_second["skrobust, OMP"] / per_second["SPAMS"],
            "OLS to SPAMS, one thread": per_second["skrobust, OLS, one thread"] / per_second["SPAMS, one thread"],
            "OMP to batched OMP": per_second["skrobust, OMP"] / batched,
            "OMP to dictlearn": per_second["skrobust, OMP"] / per_second["dictlearn"],
            "OMP to scikit-learn": per_second["skrobust, OMP"] / per_second["scikit-learn"],
        },
    }


def memory(name, size):
    """Bytes that coding takes beyond its input, at their peak, in a process of its own (on Linux)."""
    d, m, k, n = size
    X, components = problem(d, m, k, n, "float32")
    code, signals, _ = contenders(X, components, k)[name]
    code()
    status = pathlib.Path("/proc/self/status")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is used now

    def kilobytes(field):
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    before = kilobytes("VmRSS:")
    codes = code()
    return {"signals": len(signals), "bytes": 1024 * (kilobytes("VmHWM:") - before), "type": type(codes).__name__}


def summarized(workloads):
    """Median and least ratio over all sizes and dtypes."""
    ratios = {name: [w["ratios"][name] for w in workloads] for name in workloads[0]["ratios"]}
    return {name: {"median": statistics.median(r), "least": min(r)} for name, r in ratios.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", metavar="NAME", help="measure the memory of one contender and print it")
    parser.add_argument("--part", nargs="+", choices=["0", "1", "2", "memory"], default=["0", "1", "2", "memory"])
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_omp.json")
    args = parser.parse_args()
    if args.memory:
        with threadpool_limits(1, user_api="blas"):
            print(json.dumps(memory(args.memory, SIZES[0])))
        return
    results = {}
    if len(args.part) < 4 and args.output.exists():
        results = json.loads(args.output.read_text())
    results |= {
        "machine": machine(
            "numpy", "numba", "scikit-learn", "spams-bin", "dictlearn", "orthogonal-matching-pursuit-gpu"
        ),
        "threads": THREADS,
        "statistic": "median of the rounds",
    }
    sizes = [size for i, size in enumerate(SIZES) if str(i) in args.part]
    with threadpool_limits(1, user_api="blas"):
        new = [run(*size, dtype, args.rounds) for size in sizes for dtype in ("float32", "float64")]
    other = [w for w in results.get("workloads", []) if (w["features"], w["atoms"], w["k"], w["signals"]) not in sizes]
    results["workloads"] = workloads = sorted(other + new, key=lambda w: (w["features"], w["k"], w["dtype"]))
    if all("OMP to batched OMP" in w["ratios"] for w in workloads):
        results["ratios"] = summarized(workloads)
    if "memory" in args.part:
        results["memory"] = peaks = {}
        for name in ("skrobust, OMP", "SPAMS", f"{BATCHED}, naive", "dictlearn", "scikit-learn"):
            command = [sys.executable, __file__, "--memory", name]
            peaks[name] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    write_json(args.output, results)
    for w in new:
        print(f"{w['features']} features, {w['atoms']} atoms, K = {w['k']}, {w['dtype']}")
        for name, rate in w["signals_per_second"].items():
            print(f"  {name:28s} {rate / 1e3:8.1f} thousand signals a second, residual {w['mean_residual'][name]:.4f}")
        print("  " + ", ".join(f"{name}: {ratio:.1f}" for name, ratio in w["ratios"].items()))
    for name, peak in results.get("memory", {}).items():
        print(f"{name}: {peak['bytes'] / 2**20:.0f} MiB for {peak['signals']} signals")


if __name__ == "__main__":
    main()

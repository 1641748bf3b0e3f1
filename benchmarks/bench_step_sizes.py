"""The norm of convolutional dictionaries, which sets default step sizes: CPU seconds, and excess over the true value.

    python benchmarks/bench_step_sizes.py            # about 2 minutes; writes benchmarks/results/bench_step_sizes.json

Every problem has random atoms of unit norm, with values of both signs or non-negative. The true value is the largest
eigenvalue of the Gram matrix by Lanczos iterations (ARPACK, relative tolerance 1e-6). CPU seconds, the least of five
calls, each with a new operator, on one thread. The largest problems with padding "same" are left out, as their true
value takes minutes.
"""

import argparse
import pathlib
import statistics
import time

import numpy as np
from _race import RESULTS, machine, write_json
from scipy.sparse.linalg import LinearOperator, eigsh
from threadpoolctl import threadpool_limits

from skrobust.operators import ConvolutionalOperator
from skrobust.signals import kernel_threads

PROBLEMS = [  # side of the signal, channels, side of the atoms, atoms
    (28, 1, 28, 64),
    (224, 1, 224, 16),
    (32, 3, 32, 64),
    (28, 1, 14, 16),
    (32, 3, 16, 32),
    (64, 1, 32, 16),
    (64, 3, 48, 8),
    (28, 1, 7, 64),
    (32, 3, 6, 64),
    (32, 16, 5, 32),
    (16, 64, 3, 64),
    (8, 64, 4, 128),
    (128, 1, 8, 64),
    (224, 1, 11, 16),
]
MODES = [("valid", 1), ("same", 1), ("circular", 1), ("same", 2)]
LARGEST_TRUE_VALUE = 1 << 27  # pixels times values of all atoms, above which the true value takes minutes


def atoms_of(side, channels, n_atoms, non_negative):
    atoms = np.random.default_rng(0).normal(size=(n_atoms, side, side, channels))
    atoms = np.abs(atoms) if non_negative else atoms
    return atoms / np.sqrt((atoms**2).sum(axis=(1, 2, 3), keepdims=True))


def true_value(operator):
    """Largest eigenvalue of the smaller Gram matrix, by products with it."""
    of_signals = np.prod(operator.signal_shape) <= np.prod(operator.code_shape)
    shape = operator.signal_shape if of_signals else operator.code_shape
    first, second = operator.analyze, operator.synthesize
    if not of_signals:
        first, second = second, first
    n = int(np.prod(shape))

    def product(vector):
        return second(first(vector.reshape(1, *shape))).ravel()

    if n <= 200:
        return float(np.linalg.eigvalsh(np.array([product(row) for row in np.eye(n)]))[-1])
    start = np.random.default_rng(1).normal(size=n)
    gram = LinearOperator((n, n), matvec=product, dtype=np.float64)
    return float(eigsh(gram, k=1, which="LA", tol=1e-6, v0=start, return_eigenvectors=False)[0])


def measured(side, channels, kernel, n_atoms, padding, stride, non_negative):
    atoms, seconds = atoms_of(kernel, channels, n_atoms, non_negative), []
    for _ in range(5):
        operator = ConvolutionalOperator(atoms, (side, side, channels), padding=padding, stride=stride)
        start = time.process_time()
        bound = operator.lipschitz
        seconds.append(time.process_time() - start)
    return {
        "signal": [side, side, channels],
        "atoms": [n_atoms, kernel, kernel],
        "padding": padding,
        "stride": stride,
        "non_negative": non_negative,
        "seconds": min(seconds),
        "excess": bound / true_value(operator) - 1,
    }


def summarized(rows):
    seconds, excess = ([row[name] for row in rows] for name in ("seconds", "excess"))
    return {
        "problems": len(rows),
        "seconds": {"median": statistics.median(seconds), "largest": max(seconds)},
        "within 20 ms": sum(s <= 0.02 for s in seconds),
        "excess": {"median": statistics.median(excess), "largest": max(excess), "least": min(excess)},
        "excess at most 1 %": sum(e <= 0.0101 for e in excess),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS / "bench_step_sizes.json")
    args = parser.parse_args()
    rows = []
    with threadpool_limits(1), kernel_threads(1):
        for problem in PROBLEMS:
            for padding, stride in MODES:
                side, channels, kernel, n_atoms = problem
                left_out = padding == "same" and side**2 * n_atoms * channels * kernel**2 > LARGEST_TRUE_VALUE
                for non_negative in () if left_out else (False, True):
                    rows.append(measured(*problem, padding, stride, non_negative))
                    print(rows[-1], flush=True)
    summary = summarized(rows)
    content = {"machine": machine("numpy", "scipy"), "threads": 1, "summary": summary, "problems": rows}
    write_json(args.output, content)
    print(summary)


if __name__ == "__main__":
    main()

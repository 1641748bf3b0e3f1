"""The choices of `ConvolutionalOperator` and basis pursuit by the size of atoms, against the alternatives.

    python benchmarks/bench_large_atoms.py     # two minutes on one core; counts CPU seconds

Operators of one and two axes: analysis and synthesis of two signals by direct convolution and by transforms, and how
much longer what "auto" chose took than the faster. Then basis pursuit with large atoms, by coordinate descent and by
proximal gradient with transforms, to relative duality gaps of 0.1 and 0.01. Writes results/bench_large_atoms.json.
"""

import argparse
import itertools
import math
import time
import warnings

import numpy as np
from _race import RESULTS, machine, write_json
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit

IMAGES = [
    ((size, size), (k, k), *sizes)
    for size, k, sizes in itertools.product(
        (32, 64, 128, 256), (5, 8, 12, 16, 24, 32), ((8, 1), (32, 1), (32, 3), (64, 16))
    )
    if 2 * k <= size
]
SIGNALS = [
    ((length,), (k,), *sizes)
    for length, k, sizes in itertools.product((300, 2000, 20_000), (30, 100, 300, 1000), ((4, 1), (20, 1), (20, 4)))
    if 2 * k < length
]
MOST_PRODUCTS = 6e9

PURSUITS = [
    ((128, 128), (16, 16), 32),
    ((128, 128), (24, 24), 8),
    ((256, 256), (32, 32), 8),
    ((2000,), (300,), 20),
    ((20_000,), (300,), 4),
    ((20_000,), (1000,), 4),
]


def seconds(function, rounds):
    """Least CPU seconds of some calls, after one to warm up."""
    function()
    cpu_seconds = []
    for _ in range(rounds):
        started = time.process_time()
        function()
        cpu_seconds.append(time.process_time() - started)
    return min(cpu_seconds)


def evaluations():
    rng = np.random.default_rng(0)
    rows = []
    for grid, kernel, n_atoms, n_channels in [*IMAGES, *SIGNALS]:
        if math.prod(grid) * math.prod(kernel) * n_atoms * n_channels > MOST_PRODUCTS:
            continue
        atoms = rng.normal(size=(n_atoms, *kernel, n_channels)).astype(np.float32)
        X = rng.normal(size=(2, *grid, n_channels)).astype(np.float32)
        times = {}
        for evaluation in ("spatial", "fft"):
            operator = ConvolutionalOperator(atoms, X.shape[1:], evaluation=evaluation)
            times[evaluation] = seconds(lambda operator=operator, X=X: operator.synthesize(operator.analyze(X)), 3)
        chosen = "fft" if ConvolutionalOperator(atoms, X.shape[1:]).uses_fft else "spatial"
        lost = times[chosen] / min(times.values())
        rows.append({"grid": grid, "kernel": kernel, "atoms": n_atoms, "channels": n_channels, **times, "lost": lost})
    lost = np.array([row["lost"] for row in rows])
    return {"worst": lost.max(), "mean": lost.mean(), "share above 1.3": (lost > 1.3).mean(), "operators": rows}


def problem(grid, kernel, n_atoms):
    """Normalised noise as atoms; a part of a photograph, or a noisy signal of few of the atoms."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(n_atoms, *kernel, 1)).astype(np.float32)
    atoms /= np.sqrt((atoms**2).sum(axis=tuple(range(1, atoms.ndim)), keepdims=True))
    if len(grid) == 2:
        photograph = data.camera()[100 : 100 + grid[0], 150 : 150 + grid[1]].astype(np.float32) / 255
        return atoms, (photograph - photograph.mean())[None, ..., None]
    operator = ConvolutionalOperator(atoms, (*grid, 1))
    codes = rng.normal(size=(1, *operator.code_shape)) * (rng.random((1, *operator.code_shape)) < 0.003)
    return atoms, (operator.synthesize(codes) + 0.05 * rng.normal(size=(1, *grid, 1))).astype(np.float32)


def pursuits():
    rows = []
    for grid, kernel, n_atoms in PURSUITS:
        atoms, X = problem(grid, kernel, n_atoms)
        operator = ConvolutionalOperator(atoms, X.shape[1:], evaluation="fft")
        top = float(convolutional_alpha_max(X, operator)[0])
        for share, tol in itertools.product((0.3, 0.1), (0.1, 0.01)):
            row = {"grid": grid, "kernel": kernel, "atoms": n_atoms, "alpha / alpha_max": share, "tol": tol}
            for solver in ("descent", "fista"):
                params = {"solver": solver, "tol": tol, "max_iter": 2000}

                def pursue(params=params, alpha=share * top, X=X, operator=operator):
                    return convolutional_basis_pursuit(X, operator, alpha, **params)

                row[solver] = seconds(pursue, 2)
                result = pursue()
                row[f"{solver} arrived"] = bool((result.gap <= tol * result.objective).all())
                row["nonzero"] = float((result.codes != 0).mean())
            row["fista / descent"] = row["fista"] / row["descent"]
            rows.append(row)
            print(row, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    content = {"what": __doc__.splitlines()[0], "machine": machine("numpy", "numba", "scipy")}
    content["evaluation"] = evaluations()
    print({name: value for name, value in content["evaluation"].items() if name != "operators"}, flush=True)
    content["pursuits"] = pursuits()
    write_json(RESULTS / "bench_large_atoms.json", content)


if __name__ == "__main__":
    main()

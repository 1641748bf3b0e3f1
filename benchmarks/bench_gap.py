"""How tight the duality gap of convolutional basis pursuit is, and how many iterations it takes.

    SKROBUST_DATA=DIR python benchmarks/bench_gap.py     # a minute or two on one core

For MNIST test images under learned atoms, and for a part of a photograph under atoms that are patches of it: at
several `max_iter` the gap that is reported; the gap of the same residual scaled by one factor for the whole signal, as
is usual; and the true distance from the least objective, which a long run in double precision certifies. All relative
to the objective, the median over images. Then the iterations to gaps of 1e-2 and 1e-3 of both solvers, and those of a
warm-started path against single pursuits. Writes results/bench_gap.json.
"""

import argparse
import time
import warnings

import numpy as np
from _race import RESULTS, machine, write_json
from skimage import data
from sklearn.exceptions import ConvergenceWarning

from skrobust import ConvSparseCoder
from skrobust.datasets import load_dataset
from skrobust.dictionaries import initial_convolutional_atoms
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit, convolutional_path

STOPS = (25, 60, 120, 250, 500, 1000)


def problems():
    """Name, signals, atoms, alpha and sign of each problem."""
    images, _ = load_dataset("mnist", split="train", return_X_y=True)
    coder = ConvSparseCoder(32, kernel_size=7, n_epochs=3, positive=True, random_state=0, image_shape=(28, 28))
    coder.fit(images[:100].reshape(100, -1).astype(np.float32))
    tests, _ = load_dataset("mnist", split="test", return_X_y=True)
    X = tests[:10].reshape(10, 28, 28, 1).astype(np.float32)
    for alpha in (0.02, 0.1):
        yield f"MNIST, alpha {alpha}", X, coder.components_, alpha, True
    photograph = data.camera()[100:228, 100:228, None].astype(np.float32)[None] / 255
    photograph -= photograph.mean()
    atoms = initial_convolutional_atoms(photograph, 32, (8, 8), random_state=0).astype(np.float32)
    top = convolutional_alpha_max(photograph, ConvolutionalOperator(atoms, photograph.shape[1:]))[0]
    yield "photograph 128 x 128, alpha 0.05 of the largest", photograph, atoms, 0.05 * float(top), False


def gap_of_one_factor(X, operator, result, alpha, positive):
    """Gap of each signal where the dual point is the residual times one number."""
    residual = X - operator.synthesize(result.codes)
    correlations = operator.analyze(residual).reshape(len(X), -1)
    top = (correlations if positive else abs(correlations)).max(axis=1)
    flat, signals = residual.reshape(len(X), -1).astype(float), X.reshape(len(X), -1)
    squares, products = (flat**2).sum(1), (flat * signals).sum(1)
    scale = np.minimum(products / squares, alpha / top).clip(0)
    return result.objective - scale * products + scale**2 * squares / 2


def study(X, atoms, alpha, positive):
    operator = ConvolutionalOperator(atoms, X.shape[1:])
    exact = ConvolutionalOperator(atoms.astype(float), X.shape[1:])
    params = {"positive": positive, "solver": "descent"}
    best = convolutional_basis_pursuit(X.astype(float), exact, alpha, tol=1e-7, max_iter=20_000, **params)
    rows = []
    for stop in STOPS:
        solution = convolutional_basis_pursuit(X, operator, alpha, tol=1e-6, max_iter=stop, **params)
        away = solution.objective - best.objective
        gap = solution.gap / solution.objective
        row = {"iterations": solution.n_iter, "distance": away / best.objective, "gap": gap}
        row["gap of one factor"] = gap_of_one_factor(X, operator, solution, alpha, positive) / solution.objective
        rows.append({name: float(np.median(values)) for name, values in row.items()})
    n_iterations = {}
    for solver, most_iterations in (("descent", 5000), ("fista", 1000)):
        for tol in (1e-2, 1e-3):
            solution = convolutional_basis_pursuit(
                X, operator, alpha, positive=positive, solver=solver, tol=tol, max_iter=most_iterations
            )
            arrived = bool((solution.gap <= tol * solution.objective).all())
            n_iter = float(np.median(solution.n_iter))
            n_iterations[f"{solver}, {tol:g}"] = {"iterations": n_iter, "all arrived": arrived}
    alphas = alpha * np.geomspace(1, 20, 8)
    started = time.process_time()
    warm = [solution.n_iter.mean() for _, solution in convolutional_path(X, operator, alphas, tol=1e-3, **params)]
    middle = time.process_time()
    cold = [convolutional_basis_pursuit(X, operator, a, tol=1e-3, **params).n_iter.mean() for a in sorted(alphas)]
    path = {"warm": float(sum(warm)), "single": float(sum(cold)), "warm_seconds": middle - started}
    path["single_seconds"] = time.process_time() - middle
    return {"stops": rows, "iterations_to_gap": n_iterations, "path_of_8_iterations": path}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    content = {"what": __doc__.splitlines()[0], "machine": machine("numpy", "numba")}
    for name, *problem in problems():
        content[name] = study(*problem)
        print(name, *content[name]["stops"], *list(content[name].items())[1:], sep="\n", flush=True)
    write_json(RESULTS / "bench_gap.json", content)


if __name__ == "__main__":
    main()

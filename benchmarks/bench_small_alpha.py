"""Convolutional basis pursuit at small penalties: iterations and seconds to a gap, beside SPORCO's ADMM.

    python benchmarks/bench_small_alpha.py     # some minutes; needs sporco

Two problems on a circle of 64 x 64: the planted codes of SPORCO's own tests (4 Gaussian atoms of 8 x 8, 0.3 % of the
coefficients), and a part of a photograph under 8 atoms that are patches of it. Ours is `solver="auto"`, timed to a
certified relative duality gap. SPORCO, which has none, is timed to the same relative distance from the least
objective, while the clock stands still, with the fastest of three choices of rho. CPU seconds of one thread. Writes
results/bench_small_alpha.json.
"""

import argparse
import time
import warnings

import numpy as np
import sporco.fft
from _race import RESULTS, machine, write_json
from skimage import data
from sklearn.exceptions import ConvergenceWarning
from sporco.admm import cbpdn

from skrobust.dictionaries import initial_convolutional_atoms
from skrobust.operators import ConvolutionalOperator
from skrobust.pursuits import convolutional_alpha_max, convolutional_basis_pursuit

SHARES, TARGETS, MOST = (1e-4, 1e-5, 1e-6), (1e-2, 1e-3), 1000

RHOS = {
    "rho 50 alpha + 1, adaptive": {},
    "rho 0.1": {"rho": 0.1, "AutoRho": {"Enabled": False}},
    "rho 30 alpha / alpha_max": {"rho": None, "AutoRho": {"Enabled": False}},
}


def planted():
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(4, 8, 8, 1))
    atoms /= np.sqrt((atoms**2).sum((1, 2, 3), keepdims=True))
    operator = ConvolutionalOperator(atoms, (64, 64, 1), padding="circular")
    codes = rng.normal(size=(1, 64, 64, 4))
    return operator.synthesize(np.where(abs(codes) > 3, rng.normal(size=codes.shape), 0)), operator


def photograph():
    X = data.camera()[100:164, 100:164, None].astype(float)[None] / 255
    X -= X.mean()
    atoms = initial_convolutional_atoms(X, 8, (8, 8), random_state=0)
    return X, ConvolutionalOperator(atoms, X.shape[1:], padding="circular")


def objective(X, operator, codes, alpha):
    return float(((X - operator.synthesize(codes)) ** 2).sum() / 2 + alpha * np.abs(codes).sum())


def ours(X, operator, alpha):
    reached = {}
    for target in TARGETS:
        convolutional_basis_pursuit(X, operator, alpha, tol=target, max_iter=1, n_jobs=1)
        started = time.process_time()
        result = convolutional_basis_pursuit(X, operator, alpha, tol=target, max_iter=MOST, n_jobs=1)
        row = {"iterations": int(result.n_iter[0]), "seconds": time.process_time() - started}
        reached[f"{target:g}"] = row if result.gap[0] <= target * result.objective[0] else None
    result = convolutional_basis_pursuit(X, operator, alpha, n_jobs=1)
    return reached, float(result.gap[0] / result.objective[0])


def theirs(X, operator, alpha, least, settings):
    reached, watch = {}, {"run": 0.0, "since": 0.0}

    def callback(solver):
        watch["run"] += time.process_time() - watch["since"]
        codes = np.asarray(solver.getcoef()).reshape(1, *X.shape[1:-1], -1)
        distance = objective(X, operator, codes, alpha) / least - 1
        for target in TARGETS:
            if distance <= target and f"{target:g}" not in reached:
                reached[f"{target:g}"] = {"iterations": solver.k + 1, "seconds": watch["run"]}
        watch["since"] = time.process_time()
        return len(reached) == len(TARGETS)

    if settings.get("rho", 0) is None:
        settings = {**settings, "rho": 30 * alpha / float(convolutional_alpha_max(X, operator).max())}
    options = {"Verbose": False, "RelStopTol": 1e-12, "MaxMainIter": MOST, "Callback": callback, **settings}
    atoms = np.moveaxis(operator.components[..., 0], 0, -1)
    solver = cbpdn.ConvBPDN(atoms, X[0, ..., 0], alpha, cbpdn.ConvBPDN.Options(options), dimK=0)
    watch["since"] = time.process_time()
    solver.solve()
    return {f"{target:g}": reached.get(f"{target:g}") for target in TARGETS}


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    sporco.fft.pyfftw_threads = 1
    content = {"what": __doc__.splitlines()[0], "machine": machine("numpy", "numba", "scipy", "sporco")}
    for problem in planted, photograph:
        X, operator = problem()
        top = float(convolutional_alpha_max(X, operator).max())
        for share in SHARES:
            alpha = share * top
            best = convolutional_basis_pursuit(X, operator, alpha, tol=1e-4, max_iter=3000)
            own, default_gap = ours(X, operator, alpha)
            row = {"default gap": default_gap, "skrobust": own}
            for name, settings in RHOS.items():
                row[f"SPORCO, {name}"] = theirs(X, operator, alpha, float(best.objective[0]), settings)
            content[f"{problem.__name__}, {share:g} alpha_max"] = row
            print(problem.__name__, share, *row.items(), sep="\n  ", flush=True)
    write_json(RESULTS / "bench_small_alpha.json", content)


if __name__ == "__main__":
    main()

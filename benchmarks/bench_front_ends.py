"""Seconds of attacks, a robust search and a report behind each front end.

    python benchmarks/bench_front_ends.py --data-home DIR     # ten minutes on 2 cores; results/bench_front_ends.json
    python benchmarks/bench_front_ends.py --part table        # one part: table, search or report

CIFAR-10, images of 32 x 32 in three channels, a Pipeline of the front end and LinearSVC fitted on 500 images.
"table": wall-clock seconds per image of each attack on 40 test images that the model classifies correctly, after one
untimed call; the defaults of the front ends, and what the attack's `gradient` is. "search": GridSearchCV over alpha and
C of a ConvSparseCoder, 36 fits on 141 images, scored on the 47 held out by PGD with 10 steps and gradient="worst".
"report": `robustness_report` with its defaults on 60 images at two eps, behind a ConvSparseCoder, and behind a wavelet
front end before an SVC with the RBF kernel.
"""

import argparse
import json
import tempfile
import time
import warnings

import numpy as np
from _race import RESULTS, machine, write_json
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from skrobust import (
    ConvSparseCoder,
    LayeredBasisPursuit,
    LayeredThresholding,
    PatchDictionaryDenoiser,
    PolarizingCoder,
    WaveletSparsifier,
)
from skrobust.attacks import APGD, FGSM, PGD, Square
from skrobust.datasets import load_dataset
from skrobust.evaluation import make_robust_scorer, robustness_report

EPS = 4 / 255


def front_ends(shape):
    return {
        "none": None,
        "WaveletSparsifier": WaveletSparsifier(image_shape=shape, n_nonzero_coefs=0.05, clip=(0, 1)),
        "PatchDictionaryDenoiser": PatchDictionaryDenoiser(image_shape=shape, n_nonzero_coefs=3, clip=(0, 1)),
        "PolarizingCoder": PolarizingCoder(image_shape=shape, random_state=0),
        "ConvSparseCoder": ConvSparseCoder(16, image_shape=shape, random_state=0),
        "LayeredThresholding": LayeredThresholding((16, 32), image_shape=shape, random_state=0),
        "LayeredBasisPursuit": LayeredBasisPursuit((16, 32), image_shape=shape, random_state=0),
    }


ATTACKS = {
    "FGSM": FGSM(eps=EPS, gradient="worst", random_state=0),
    "PGD, 10 steps, exact": PGD(eps=EPS, n_iter=10, gradient="exact", random_state=0),
    "PGD, 10 steps, worst": PGD(eps=EPS, n_iter=10, gradient="worst", random_state=0),
    "APGD, 50 steps, exact": APGD(eps=EPS, n_iter=50, gradient="exact", random_state=0),
    "Square, 500 queries": Square(eps=EPS, n_iter=500, random_state=0),
}


def pipeline(front_end):
    steps = [] if front_end is None else [front_end]
    return make_pipeline(*steps, LinearSVC(C=0.01, random_state=0))


def seconds_of(function):
    start, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - used


def measure_table(train, test):
    rows = {}
    for name, front_end in front_ends(train.image_shape).items():
        model = pipeline(front_end)
        fit, _ = seconds_of(lambda model=model: model.fit(train.data[:500], train.target[:500]))
        right = np.flatnonzero(model.predict(test.data[:400]) == test.target[:400])[:40]
        X, y = test.data[right], test.target[right]
        row = {"fit": fit, "n": len(right)}
        for key, attack in ATTACKS.items():
            try:
                attack.perturb(model, X[:2], y[:2])
                wall, _ = seconds_of(lambda attack=attack, model=model, X=X, y=y: attack.perturb(model, X, y))
                row[key] = wall / len(X)
            except (TypeError, ValueError) as error:  # a front end without that gradient
                row[key] = None
                print(name, key, error)
        rows[name] = row
        print(name, row, flush=True)
    return rows


def measure_search(train, test):
    X, y = train.data[:188], train.target[:188]
    coder = ConvSparseCoder(16, image_shape=train.image_shape, random_state=0)
    model = make_pipeline(coder, LinearSVC(random_state=0))
    grid = {"convsparsecoder__alpha": [0.05, 0.1, 0.2], "linearsvc__C": [0.001, 0.01, 0.1]}
    scorer = make_robust_scorer(PGD(eps=EPS, n_iter=10, gradient="worst", random_state=0))
    rows = {}
    for name in ("refitted", "memory"):
        with tempfile.TemporaryDirectory() as folder:
            model.set_params(memory=folder if name == "memory" else None)
            search = GridSearchCV(model, grid, scoring=scorer, cv=4, refit=False)
            wall, cpu = seconds_of(lambda search=search: search.fit(X, y))
        best = float(search.cv_results_["mean_test_score"].max())
        rows[name] = {"fits": 36, "seconds": wall, "cpu_seconds": cpu, "best": best}
        print(name, rows[name], flush=True)
    return rows


def measure_report(train, test):
    rows = {}
    shape = train.image_shape
    models = {
        "ConvSparseCoder, LinearSVC": pipeline(front_ends(shape)["ConvSparseCoder"]),
        "WaveletSparsifier, SVC (RBF)": make_pipeline(front_ends(shape)["WaveletSparsifier"], SVC(C=10)),
    }
    for name, model in models.items():
        model.fit(train.data[:500], train.target[:500])
        X, y = test.data[:60], test.target[:60]
        robustness_report(model, X[:4], y[:4], eps=[EPS], random_state=0)
        wall, cpu = seconds_of(
            lambda model=model, X=X, y=y: robustness_report(model, X, y, eps=[EPS / 2, EPS], random_state=0)
        )
        rows[name] = {"n": len(X), "eps": [EPS / 2, EPS], "seconds": wall, "cpu_seconds": cpu}
        print(name, rows[name], flush=True)
    return rows


PARTS = {"table": measure_table, "search": measure_search, "report": measure_report}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-home", help="folder with CIFAR-10; default: SKROBUST_DATA")
    parser.add_argument("--part", choices=PARTS)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = (load_dataset("cifar10", split=split, data_home=args.data_home) for split in ("train", "test"))
    path = RESULTS / "bench_front_ends.json"
    content = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    content |= {"what": __doc__.splitlines()[0], "seed": 0}
    content["machine"] = machine("numpy", "numba", "torch", "scikit-learn")
    for part in [args.part] if args.part else PARTS:
        content[part] = PARTS[part](train, test)
        print(part, content[part], flush=True)
        write_json(path, content)


if __name__ == "__main__":
    main()

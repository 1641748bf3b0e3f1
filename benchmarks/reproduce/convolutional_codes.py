"""Convolutional codes of MNIST and CIFAR-10: atoms, sparsity against PSNR, pooled codes and a front end under attack.

    SKROBUST_DATA=DIR python benchmarks/reproduce/convolutional_codes.py --dataset mnist
    SKROBUST_DATA=DIR python benchmarks/reproduce/convolutional_codes.py --dataset cifar10
    python benchmarks/reproduce/convolutional_codes.py --quick               # a minute, bundled digits

For each data set: atoms learned from training images; for several alpha the share of coefficients that are not zero
and the PSNR of what they stand for on test images; the test accuracy of a linear SVM on pooled codes and on pixels, C
chosen by cross-validation for both (nothing is attacked there). Then the synthesis as a front end before a linear SVM,
alpha and C searched for accuracy under attack with the l2 and the l1 penalty, beside the SVM without it, searched over
a wider range of C and both scales of pixels, and, where the coder has a low-pass, beside that alone, for the codes are
not to be praised for what it does; in one report: white box through the whole Pipeline with each backward pass, APGD
and random search, the worst case per image, with the masking checks. Writes convolutional_codes_NAME.json and .png.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from _linear_svm import linear_svm, strengths, to_symmetric
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from skrobust import ConvSparseCoder
from skrobust.attacks import APGD, PGD, RandomNoise, Square
from skrobust.datasets import load_dataset
from skrobust.displays import DictionaryDisplay, RobustnessCurveDisplay
from skrobust.evaluation import make_robust_scorer, robustness_report

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from _race import write_json

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SEED = 0
ALPHAS = (0.02, 0.05, 0.1, 0.2, 0.4)
FRONT_END, LOW_PASS, UNDEFENDED = "convolutional front end", "low-pass alone", "undefended"
NO_CODE = 100.0  # an alpha beyond the largest correlation: no coefficient is left
TASKS = {
    "mnist": {
        "shape": (28, 28),
        "atoms": (32, 7),
        "learn": (500, 6),
        "highpass": None,
        "codes": {"alpha": 0.1, "tol": 0.02, "pool_size": 7},
        "svm": {"n_train": 10_000, "n_test": 2000, "pixels": (1e-3, 1, 4), "pooled codes": (1e-2, 10, 4)},
        "front_end": {"alpha": [0.2, 0.5, 1.0, 2.0], "svm": ((3e-4, 3e-3, 3), (1e-2, 0.1, 3)), "tol": 0.02},
        "undefended": ((1e-6, 0.1, 6), (3e-3, 0.3, 5)),
        "robust": {
            "n_train": 2000,
            "first_test": 5000,
            "n_test": 500,
            "n_search": 150,
            "eps": [0.05, 0.1, 0.2],
            "tuned_for": 0.1,
        },
        "steps": {"search": 5, "attack": 20, "smooth": 2, "queries": 200},
    },
    "cifar10": {
        "shape": (32, 32, 3),
        "atoms": (64, 5),
        "learn": (300, 8),
        "highpass": 5.0,
        "codes": {"alpha": 0.1, "tol": 0.1, "pool_size": 8},
        "svm": {"n_train": 5000, "n_test": 2000, "pixels": (1e-5, 1e-2, 4), "pooled codes": (1e-3, 1, 4)},
        "front_end": {
            "alpha": [0.1, 0.3, 1.0],
            "highpass": [5.0],
            "svm": ((1e-5, 1e-3, 5), (1e-2, 0.3, 4)),
            "tol": 0.05,
        },
        "undefended": ((1e-7, 1e-2, 11), (1e-2, 1, 9)),
        "robust": {
            "n_train": 2000,
            "first_test": 8000,
            "n_test": 400,
            "n_search": 400,
            "eps": [2 / 255, 8 / 255],
            "tuned_for": 2 / 255,
        },
        "steps": {"search": 5, "attack": 20, "smooth": 2, "queries": 200},
    },
    "digits": {
        "shape": (8, 8),
        "atoms": (8, 4),
        "learn": (100, 3),
        "highpass": None,
        "codes": {"alpha": 0.1, "tol": 0.02, "pool_size": 4},
        "svm": {"n_train": 300, "n_test": 100, "pixels": (1e-3, 1, 4), "pooled codes": (1e-2, 10, 4)},
        "front_end": {"alpha": [0.2, 0.5], "svm": ((1e-2, 1e-2, 1), (1e-1, 1e-1, 1)), "tol": 0.02},
        "undefended": ((1e-3, 1e-2, 2), (1e-2, 1e-2, 1)),
        "robust": {
            "n_train": 200,
            "first_test": 200,
            "n_test": 30,
            "n_search": 20,
            "eps": [0.1],
            "tuned_for": 0.1,
        },
        "steps": {"search": 3, "attack": 3, "smooth": 1, "queries": 20},
    },
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--quick", action="store_true", help="bundled digits: a check, no result")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the JSON and PNG; default: benchmarks/results")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    name = "digits" if arguments.quick else arguments.dataset
    folder = arguments.output or (None if arguments.quick else RESULTS)

    def keep(content):
        if folder is not None:
            write_json(folder / f"convolutional_codes_{name}.json", content)

    figure = study(name, TASKS[name], keep)
    if folder is not None:
        figure.savefig(folder / f"convolutional_codes_{name}.png", dpi=130)


def study(name, task, keep):
    """All figures of one data set, kept as they come, and its picture."""
    started = time.process_time()
    data = {}
    for split in ("train", "test"):
        X, y = load_dataset(name, split=split, return_X_y=True)
        data[split] = X.reshape(len(X), -1).astype(np.float32), y
    learned = learn(data["train"][0], task)
    content = {"what": __doc__.splitlines()[0], "task": task, "objectives": learned.objectives_}
    content["learning_cpu_seconds"] = round(time.process_time() - started, 1)
    say("learned", content["objectives"])
    content["curve"] = [sparsity_and_psnr(learned, task, alpha, data["test"][0][:200]) for alpha in ALPHAS]
    say("curve", content["curve"])
    content["linear_svm"] = linear_svm_on_codes(learned, task, data)
    say("linear SVM", content["linear_svm"])
    keep(content)
    searches = search(learned, task, data)
    content["searches"] = {key: described(one) for key, one in searches.items()}
    keep(content)
    report = attack(searches, task, data)
    content["report"] = json.loads(report.to_json())
    content["differences"] = [
        {"beside": other, "eps": eps, "difference": difference, "low": low, "high": high}
        for other in searches
        if other != FRONT_END
        for eps in (0.0, *report.eps.tolist())
        for difference, low, high in [report.compare(FRONT_END, other, eps)]
    ]
    content["conclusions"], content["warnings"] = report.conclusions(), report.warnings()
    content["cpu_seconds"] = round(time.process_time() - started)
    say("report", report, *content["conclusions"], *content["warnings"], content["cpu_seconds"])
    keep(content)
    return picture(name, learned, content, report)


def learn(X, task):
    """A coder with atoms learned from the first training images."""
    (n_atoms, kernel_size), (n_images, n_epochs) = task["atoms"], task["learn"]
    coder = ConvSparseCoder(
        n_atoms,
        kernel_size=kernel_size,
        alpha=0.1,
        positive=True,
        n_epochs=n_epochs,
        highpass=task["highpass"],
        image_shape=task["shape"],
        random_state=SEED,
    )
    return coder.fit(X[:n_images])


def coder_with(learned, task, **parameters):
    """A coder of the learned atoms."""
    same = {"positive": True, "highpass": task["highpass"], "image_shape": task["shape"]}
    return ConvSparseCoder(dictionary=learned.components_, **same, **parameters)


def sparsity_and_psnr(learned, task, alpha, X):
    """Share of coefficients, coefficients a pixel value, and PSNR with a peak of 1 of what the codes stand for."""
    settings = {"alpha": alpha, "tol": 0.02}
    codes = coder_with(learned, task, sparse_output=True, **settings).fit_transform(X)
    restored = coder_with(learned, task, output="reconstruction", **settings).fit_transform(X)
    errors = ((restored - X) ** 2).mean(axis=1)
    return {
        "alpha": alpha,
        "share": codes.nnz / np.prod(codes.shape),
        "coefficients_per_value": codes.nnz / X.size,
        "psnr": float(np.mean(-10 * np.log10(np.maximum(errors, 1e-12)))),
    }


def linear_svm_on_codes(learned, task, data):
    """Test accuracy of a linear SVM on pixels and on pooled codes, C chosen by cross-validation."""
    sizes = {"train": task["svm"]["n_train"], "test": task["svm"]["n_test"]}
    (X, y), (X_test, y_test) = ((data[split][0][:n], data[split][1][:n]) for split, n in sizes.items())
    coder = coder_with(learned, task, pool="sum", **task["codes"]).fit(X[:1])
    features = {"pixels": (X, X_test), "pooled codes": (coder.transform(X), coder.transform(X_test))}
    found = {"n": sizes}
    for name, (train, test) in features.items():
        model = make_pipeline(MaxAbsScaler(), LinearSVC(max_iter=300, tol=1e-3, random_state=SEED))
        grid = {"linearsvc__C": np.geomspace(*task["svm"][name]).tolist()}
        tuned = GridSearchCV(model, grid, cv=3).fit(train, y)
        found[name] = {"features": train.shape[1], "accuracy": tuned.score(test, y_test), **tuned.best_params_}
    return found


def search(learned, task, data):
    """Front end and SVM, its low-pass alone and SVM, and the SVM, searched for accuracy under attack."""
    robust, steps, grid = task["robust"], task["steps"], task["front_end"]
    X, y = (values[: robust["n_train"]] for values in data["train"])
    eps = robust["tuned_for"]
    scorer = make_robust_scorer(
        [
            PGD(eps, n_iter=steps["search"], loss="margin", random_state=SEED),
            PGD(eps, n_iter=steps["search"], loss="margin", gradient="identity", random_state=SEED),
            Square(eps, n_iter=steps["queries"] // 4, image_shape=task["shape"], random_state=SEED),
        ],
        max_samples=robust["n_search"],
    )
    svm = {"loss": "squared_hinge", "max_iter": 300, "tol": 1e-2, "random_state": SEED}
    front_end = coder_with(learned, task, output="reconstruction", tol=grid["tol"], max_iter=300)
    defended = linear_svm(front_end, **svm)
    high = {"convsparsecoder__highpass": grid.get("highpass", [None])}
    candidates = {FRONT_END: (defended, classifiers(grid["svm"], convsparsecoder__alpha=grid["alpha"], **high))}
    if task["highpass"] is not None:
        candidates[LOW_PASS] = defended, classifiers(grid["svm"], convsparsecoder__alpha=[NO_CODE], **high)
    both = {"functiontransformer__func": [to_symmetric, None]}
    candidates[UNDEFENDED] = linear_svm(**svm), classifiers(task["undefended"], **both)
    found = {}
    for name, (pipeline, tried) in candidates.items():
        folds = StratifiedKFold(2, shuffle=True, random_state=SEED)
        found[name] = GridSearchCV(pipeline, tried, scoring=scorer, cv=folds).fit(X, y)
        say(name, found[name].best_params_, found[name].best_score_)
    return found


def classifiers(between, **others):
    """Grids of linear SVMs: the l2 penalty on pixels in [-1, 1] and the l1 penalty on [0, 1], unless told otherwise."""
    scales = [to_symmetric], [None]
    return [
        {"functiontransformer__func": scale, **strengths(penalty, *one), **others}
        for penalty, scale, one in zip(("l2", "l1"), scales, between, strict=True)
    ]


def described(found):
    """What a search did, for the JSON."""

    def named(parameters):
        return {key: getattr(value, "__name__", value) for key, value in parameters.items()}

    results = found.cv_results_
    return {
        "chosen": named(found.best_params_),
        "cross_validated": float(found.best_score_),
        "scoring": " ".join(repr(found.scoring).split()),
        "candidates": [
            {"parameters": named(parameters), "robust": float(mean)}
            for parameters, mean in zip(results["params"], results["mean_test_score"], strict=True)
        ],
    }


def attack(searches, task, data):
    """The report on test images that neither search nor any figure above has seen."""
    robust, steps = task["robust"], task["steps"]
    behind = robust["first_test"] + robust["n_test"]
    X, y = (values[robust["first_test"] : behind] for values in data["test"])
    pgd = {"loss": "margin", "random_state": SEED}
    attacks = [
        RandomNoise(random_state=SEED),
        *(PGD(n_iter=steps["attack"], gradient=mode, **pgd) for mode in ("exact", "identity", "projection")),
        PGD(n_iter=steps["smooth"], gradient="smooth", **pgd),
        APGD(n_iter=steps["attack"], random_state=SEED),
        Square(n_iter=steps["queries"], image_shape=task["shape"], random_state=SEED),
    ]
    return robustness_report(
        {name: found.best_estimator_ for name, found in searches.items() if name != UNDEFENDED},
        X,
        y,
        eps=robust["eps"],
        attacks=attacks,
        focus_eps=robust["tuned_for"],
        baseline={UNDEFENDED: searches[UNDEFENDED].best_estimator_},
        image_shape=task["shape"],
        random_state=SEED,
    )


def picture(name, learned, content, report):
    """Atoms, sparsity against PSNR, and both models under attack."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14.4, 4.4), layout="constrained")
    DictionaryDisplay.from_estimator(learned, ax=left)
    left.set_title(f"{name}: {len(learned.components_)} learned atoms", loc="left", fontsize=10)
    curve = content["curve"]
    middle.plot([p["coefficients_per_value"] for p in curve], [p["psnr"] for p in curve], "o-", color="#22262c")
    for point in curve:
        middle.annotate(
            rf"$\alpha$ = {point['alpha']:g}",
            (point["coefficients_per_value"], point["psnr"]),
            xytext=(7, -9),
            textcoords="offset points",
            fontsize=8,
        )
    middle.set(xlabel="coefficients a pixel value", ylabel="PSNR of the synthesis, dB")
    middle.margins(x=0.15)
    RobustnessCurveDisplay.from_report(report, ax=right)
    for panel in (middle, right):
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def say(*kwargs):
    print(*kwargs, sep="\n", flush=True)


if __name__ == "__main__":
    main()

"""Layered coders before a linear SVM on MNIST, each grid-searched for accuracy under attack, under an adaptive suite.

    SKROBUST_DATA=DIR python benchmarks/reproduce/layered_pipelines_mnist.py     # about 30 CPU minutes on one core
    python benchmarks/reproduce/layered_pipelines_mnist.py --quick               # a minute, bundled digits

`LayeredBasisPursuit`, `LayeredThresholding`, `DeepPursuit` and `MultilayerPursuit`, whose dictionaries are learned
layer by layer without labels, `PolarizingCoder`, and no coder at all, before a linear SVM. For each, `GridSearchCV`
chooses penalty (or thresholds) and the SVM's C by the worst case per image of PGD through the whole Pipeline and
Square, on training images. The winners then stand in one report on test images that no search has seen: PGD and APGD,
each through every backward pass, Square, and corner search. Writes layered_pipelines_mnist.json.
"""

import json
import tempfile
import time

import torch
from _linear_svm import read_arguments, save_json, strengths
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from sklearn.svm import LinearSVC

from skrobust import DeepPursuit, LayeredBasisPursuit, LayeredThresholding, MultilayerPursuit, PolarizingCoder
from skrobust.attacks import APGD, PGD, CornerSearch, Square
from skrobust.datasets import load_dataset
from skrobust.evaluation import make_robust_scorer, robustness_report
from skrobust.evaluation.scoring.robust import evenly_spread

NAME = "layered_pipelines_mnist"
EPS, SEED = 0.1, 0
UNDEFENDED = "no coder"


def main():
    arguments = read_arguments(__doc__)
    # Images this small go through faster on one thread; the searches run in processes.
    torch.set_num_threads(1)
    started = time.perf_counter()
    (X, y), (X_test, y_test), image_shape = images(arguments)
    searches = {}
    with tempfile.TemporaryDirectory() as memory:
        for name, (pipeline, grid) in candidates(image_shape, arguments, memory).items():
            search = GridSearchCV(
                pipeline,
                grid,
                scoring={"clean": "accuracy", "robust": scorer(image_shape, arguments)},
                refit="robust",
                cv=StratifiedKFold(2, shuffle=True, random_state=SEED),
                n_jobs=arguments.n_jobs,
            )
            begun = time.perf_counter()
            searches[name] = search.fit(X, y)
            search.seconds_ = time.perf_counter() - begun
            print(f"{name}: {search.best_params_}, {search.best_score_:.3f}, {search.seconds_:.0f} s", flush=True)
        models = {name: search.best_estimator_ for name, search in searches.items()}
        report = robustness_report(
            {name: model for name, model in models.items() if name != UNDEFENDED},
            X_test,
            y_test,
            eps=[0.1, 0.2],
            focus_eps=EPS,
            attacks=suite(image_shape, arguments),
            baseline={UNDEFENDED: models[UNDEFENDED]},
            image_shape=image_shape,
            random_state=SEED,
            verbose=arguments.verbose,
        )
    print(report, *report.warnings(), sep="\n")
    content = {
        "what": __doc__.splitlines()[0],
        "n_train": len(y),
        "n_test": len(y_test),
        "searches": {name: described(search) for name, search in searches.items()},
        "warnings": report.warnings(),
        "seconds": round(time.perf_counter() - started),
        "report": json.loads(report.to_json()),
    }
    save_json(arguments, NAME, content)
    print(f"{content['seconds']} s")


def images(arguments):
    """Training and test images, spread evenly over the published sets."""
    name, n_train, n_test = ("digits", 200, 20) if arguments.quick else ("mnist", 2000, 150)
    options = {} if arguments.quick else {"data_home": arguments.data_home}
    sets = [load_dataset(name, split=split, **options) for split in ("train", "test")]
    some = [evenly_spread(len(one.target), n) for one, n in zip(sets, (n_train, n_test), strict=True)]
    parts = [(one.data[chosen], one.target[chosen]) for one, chosen in zip(sets, some, strict=True)]
    return *parts, sets[0].image_shape


def candidates(image_shape, arguments, memory):
    """Pipeline and grid of each search; codes of one coder serve every C."""
    if arguments.quick:
        layers = {"n_components": (8, 16), "kernel_size": (3, None), "stride": (1, 1), "n_epochs": 1}
        alphas, Cs, n_strengths = [0.1], [0.01, 0.1], 2
    else:
        layers = {"n_components": (16, 32, 64), "kernel_size": (6, 6, None), "stride": (2, 2, 1), "n_epochs": 2}
        alphas, Cs, n_strengths = [0.3, 0.8, 1.5], [0.0003, 0.003, 0.03], 9
        layers["batch_size"] = 250
    layers |= {"per_layer": True, "image_shape": image_shape, "random_state": SEED, "n_jobs": 1}
    svm = LinearSVC(max_iter=300, tol=1e-2, random_state=SEED)
    coders = {
        "LayeredThresholding": (LayeredThresholding(**layers), "threshold"),
        "LayeredBasisPursuit": (LayeredBasisPursuit(**layers, max_iter=5), "alpha"),
        "DeepPursuit": (DeepPursuit(**layers, max_iter=10), "alpha"),
        "MultilayerPursuit": (MultilayerPursuit(**layers, max_iter=10), "alpha"),
    }
    found = {}
    for name, (coder, penalty) in coders.items():
        grid = {f"{name.lower()}__{penalty}": alphas, "linearsvc__C": Cs}
        found[name] = make_pipeline(coder, MaxAbsScaler(), svm, memory=memory), grid
    polar = PolarizingCoder(image_shape=image_shape)
    found["PolarizingCoder"] = (
        make_pipeline(polar, svm, memory=memory),
        {"polarizingcoder__n_thresholds": [1] if arguments.quick else [1, 2, 3], "linearsvc__C": Cs},
    )
    found[UNDEFENDED] = (
        make_pipeline(MaxAbsScaler(), svm),
        [strengths("l2", 1e-5, 0.1, n_strengths), strengths("l1", 1e-3, 0.1, n_strengths // 2)],
    )
    return found


def scorer(image_shape, arguments):
    """Worst case per image of gradients through the Pipeline and of random search."""
    n_iter, n_queries, n_images = (3, 20, 20) if arguments.quick else (10, 100, 100)
    attacks = [
        PGD(EPS, n_iter=n_iter, loss="margin", random_state=SEED),
        PGD(EPS, n_iter=n_iter, loss="margin", gradient="identity", random_state=SEED),
        Square(EPS, n_iter=n_queries, image_shape=image_shape, random_state=SEED),
    ]
    return make_robust_scorer(attacks, max_samples=n_images)


def suite(image_shape, arguments):
    """The attacks of the report; the worst of them counts, image by image."""
    n_iter, n_queries = (3, 20) if arguments.quick else (20, 300)
    kwargs = {"random_state": SEED}
    return [
        PGD(n_iter=n_iter, loss="margin", gradient="worst", **kwargs),
        APGD(n_iter=n_iter, gradient="worst", **kwargs),
        Square(n_iter=n_queries, image_shape=image_shape, **kwargs),
        CornerSearch(**kwargs),
    ]


def described(search):
    """What a search did, for the JSON."""
    results = search.cv_results_
    return {
        "chosen": search.best_params_,
        "scoring": {name: " ".join(str(one).split()) for name, one in search.scoring.items()},
        "n_settings": len(results["params"]),
        "seconds": round(search.seconds_, 1),
        "candidates": [
            {"parameters": parameters, "clean": round(float(clean), 4), "robust": round(float(robust), 4)}
            for parameters, clean, robust in zip(
                results["params"], results["mean_test_clean"], results["mean_test_robust"], strict=True
            )
        ],
    }


if __name__ == "__main__":
    main()

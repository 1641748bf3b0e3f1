"""One search for three scores on MNIST: accuracy clean, under attack and corrupted.

    SKROBUST_DATA=DIR python benchmarks/reproduce/three_scores_mnist.py     # 7 minutes on 2 cores
    python benchmarks/reproduce/three_scores_mnist.py --quick               # seconds, bundled digits

`GridSearchCV` over wavelet, sparsity and the SVM's C, in two processes, with ``scoring={"clean", "robust",
"corrupted"}``. The winner is chosen by a stated trade-off: the largest mean of robust and corrupted accuracy among the
candidates that keep the floor on clean accuracy. The robust score is the worst case per image of PGD through every
backward pass and of Square, so that the search does not prefer what hides its gradients. The undefended SVM is
searched by the same scores, trade-off and folds over as many settings: C with the l2 and C with the l1 penalty. Both
winners then stand in one report on test images that neither has seen, under the default attacks, with the masking
checks. Writes three_scores_mnist.html, .json and .png.
"""

import json
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from _linear_svm import LEVELS, linear_svm, read_arguments, save_figure, save_json, strengths, wavelet_front_end
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skrobust.attacks import PGD, Square
from skrobust.datasets import load_dataset
from skrobust.displays import RobustnessCurveDisplay
from skrobust.displays.drawing.style import model_colors
from skrobust.evaluation import Corruption, TradeOff, make_robust_scorer, robustness_report
from skrobust.evaluation.scoring.robust import evenly_spread

NAME = "three_scores_mnist"
EPS, SEED = 0.1, 0
FRONT_END, UNDEFENDED = "wavelet front end", "undefended"
SCORES = ("clean", "robust", "corrupted")
WEIGHTS = {"robust": 1, "corrupted": 1}
NOISES = ("gaussian_noise", "impulse_noise")


def main():
    arguments = read_arguments(__doc__)
    # Images this small go through faster on one thread; the searches run in processes.
    torch.set_num_threads(1)
    started = time.perf_counter()
    (X, y), (X_test, y_test), image_shape = images(arguments)
    trade_off = TradeOff(WEIGHTS, at_least={"clean": 0.7 if arguments.quick else 0.85})
    searches = {}
    for name, (pipeline, grid) in candidates(image_shape, arguments).items():
        search = GridSearchCV(
            pipeline,
            grid,
            scoring=scores(image_shape, arguments),
            refit=trade_off,
            cv=StratifiedKFold(3, shuffle=True, random_state=SEED),
            n_jobs=arguments.n_jobs,
        )
        begun = time.perf_counter()
        searches[name] = search.fit(X, y)
        search.seconds_ = time.perf_counter() - begun
        print(f"{name}: {search.best_params_}, {chosen(search)}, {search.seconds_:.0f} s", flush=True)
    report = robustness_report(
        {FRONT_END: searches[FRONT_END].best_estimator_},
        X_test,
        y_test,
        eps=[0.05, 0.1, 0.15, 0.2],
        focus_eps=EPS,
        baseline={UNDEFENDED: searches[UNDEFENDED].best_estimator_},
        corruptions=noises(image_shape),
        image_shape=image_shape,
        random_state=SEED,
        verbose=arguments.verbose,
    )
    report.settings["tuned by"] = f"{trade_off!r} over scoring={scores(image_shape, arguments)!r}"
    print(report, *report.conclusions(), *report.warnings(), sep="\n")
    content = {
        "what": __doc__.splitlines()[0],
        "trade_off": repr(trade_off),
        "n_train": len(y),
        "n_test": len(y_test),
        "searches": {name: described(search) for name, search in searches.items()},
        "differences": differences(report),
        "conclusions": report.conclusions(),
        "warnings": report.warnings(),
        "seconds": round(time.perf_counter() - started),
        "report": json.loads(report.to_json()),
    }
    save_json(arguments, NAME, content)
    save_figure(arguments, NAME, figure(searches, report, trade_off))
    if arguments.output is not None:
        print(f"wrote {report.to_html(arguments.output / f'{NAME}.html')}")
    print(f"{content['seconds']} s")


def images(arguments):
    """Training and test images, spread evenly over the published sets."""
    name, n_train, n_test = ("digits", 300, 60) if arguments.quick else ("mnist", 3000, 1000)
    options = {} if arguments.quick else {"data_home": arguments.data_home}
    sets = [load_dataset(name, split=split, **options) for split in ("train", "test")]
    some = [evenly_spread(len(one.target), n) for one, n in zip(sets, (n_train, n_test), strict=True)]
    parts = [(one.data[chosen], one.target[chosen]) for one, chosen in zip(sets, some, strict=True)]
    return *parts, sets[0].image_shape


def candidates(image_shape, arguments):
    """Pipeline and grid of both searches, as many settings in each."""
    if arguments.quick:
        wavelets, fractions, Cs = ["haar"], [0.3, 0.8], [0.001, 0.01, 0.1]
    else:
        wavelets, fractions, Cs = ["haar", "coif1", "db5"], [0.03, 0.06, 0.12], [0.0002, 0.0006, 0.002]
    n_settings = len(wavelets) * len(fractions) * len(LEVELS) * len(Cs)
    n_l1 = n_settings // 3
    svm = {"loss": "squared_hinge", "max_iter": 300, "tol": 1e-2, "random_state": SEED}
    return {
        FRONT_END: (
            linear_svm(wavelet_front_end("haar", image_shape), **svm),
            {
                "waveletsparsifier__wavelet": wavelets,
                "waveletsparsifier__n_nonzero_coefs": fractions,
                "waveletsparsifier__level": LEVELS,
                "linearsvc__C": Cs,
            },
        ),
        UNDEFENDED: (
            linear_svm(**svm),
            [strengths("l2", 1e-6, 0.3, n_settings - n_l1), strengths("l1", 3e-4, 0.1, n_l1)],
        ),
    }


def scores(image_shape, arguments):
    """Clean accuracy, the worst case per image of two attacks, and the mean over two corruptions."""
    n_iter, n_queries, n_images = (5, 30, 30) if arguments.quick else (10, 100, 200)
    attacks = [
        PGD(EPS, n_iter=n_iter, loss="margin", gradient="worst", random_state=SEED),
        Square(EPS, n_iter=n_queries, image_shape=image_shape, random_state=SEED),
    ]
    return {
        "clean": "accuracy",
        "robust": make_robust_scorer(attacks, max_samples=n_images),
        "corrupted": make_robust_scorer(noises(image_shape), reduce="mean"),
    }


def noises(image_shape):
    """The corruptions, of the highest severity."""
    return [Corruption(kind, 5, random_state=SEED, image_shape=image_shape) for kind in NOISES]


def chosen(search):
    """Cross-validated scores of the winner."""
    return {score: round(float(search.cv_results_[f"mean_test_{score}"][search.best_index_]), 4) for score in SCORES}


def described(search):
    """Settings and outcome of a search, for the JSON."""
    results = search.cv_results_
    means = zip(*(results[f"mean_test_{score}"].tolist() for score in SCORES), strict=True)
    return {
        "chosen": search.best_params_,
        "cross_validated": chosen(search),
        "scoring": {name: " ".join(repr(scorer).split()) for name, scorer in search.scoring.items()},
        "folds": " ".join(repr(search.cv).split()),
        "n_settings": len(results["params"]),
        "n_jobs": search.n_jobs,
        "seconds": round(search.seconds_, 1),
        "candidates": [
            {"parameters": parameters, **dict(zip(SCORES, [round(m, 4) for m in mean], strict=True))}
            for parameters, mean in zip(results["params"], means, strict=True)
        ],
    }


def differences(report):
    """Accuracy of the front end minus the baseline's in points, with the paired 95 % interval, at each eps."""
    found = []
    for eps in (0.0, *report.eps.tolist()):
        difference, low, high = report.compare(FRONT_END, UNDEFENDED, eps)
        found.append({"eps": eps, "difference": difference, "low": low, "high": high})
    return found


def figure(searches, report, trade_off):
    """All candidates by their scores, and the two winners under attack."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(11.2, 4.4), layout="constrained")
    colors = model_colors(report.models, report.baseline)
    floor = 100 * trade_off.at_least["clean"]
    for name, marker in ((UNDEFENDED, "s"), (FRONT_END, "o")):
        results = searches[name].cv_results_
        clean = 100 * results["mean_test_clean"]
        mixed = 50 * (results["mean_test_robust"] + results["mean_test_corrupted"])
        best = searches[name].best_index_
        # What is far below the floor would squeeze the rest.
        near = clean > floor - 15
        color = colors[name]
        left.scatter(clean[near], mixed[near], 22, color, marker=marker, alpha=0.55, linewidth=0, label=name)
        left.scatter(clean[best], mixed[best], 110, "none", marker=marker, edgecolor=color, linewidth=1.8)
    left.axvline(floor, color="#8a8f98", linewidth=0.8, linestyle=(0, (3, 2)))
    left.annotate("floor ", (floor, 3), xycoords=("data", "axes points"), ha="right", fontsize=8, color="#6b727d")
    left.set(xlabel="clean accuracy, %", ylabel="mean of robust and corrupted accuracy, %")
    settings = f"{len(results['params'])} settings each, cross-validated; winners ringed"
    left.set_title(settings, loc="left", fontsize=9, color="#6b727d")
    left.legend(frameon=False, loc="upper left")
    RobustnessCurveDisplay.from_report(report, ax=right)
    right.axvline(EPS, color="#c9cdd3", linewidth=0.8, zorder=0)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    return drawn


if __name__ == "__main__":
    main()

"""Wavelet, sparsity and C chosen by GridSearchCV for accuracy under attack, against an SVM searched just as hard.

    SKROBUST_DATA=DIR python benchmarks/reproduce/grid_search_mnist.py
    python benchmarks/reproduce/grid_search_mnist.py --quick                 # seconds, bundled digits

Two tasks on MNIST, 3 against 7 and all ten digits, with the linear SVM of the front-end paper. The search sees training
images only, and its scorer attacks white box (the paper's attack, and PGD through four backward passes) and by random
search, at l-infinity eps = 0.1, so that it does not prefer what merely hides its gradients. The undefended SVM is
searched by the same scorer and folds over as many settings: C with the l2 penalty, and C with the l1 penalty, which is
the linear classifier's own defence against l-infinity attacks. The winners then meet more and longer attacks, at
several eps, on images that neither has seen. Writes grid_search_mnist.json and .png.
"""

import json
import time

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from _linear_svm import (
    LEVELS,
    describe_search,
    linear_svm,
    load_images,
    read_arguments,
    robust_search,
    save_figure,
    save_json,
    split_as_published,
    strengths,
    strong_attacks,
    wavelet_front_end,
)

from skrobust.evaluation import RobustnessCurveDisplay, robustness_report

NAME = "grid_search_mnist"
EPS = 0.1
FRONT_END, UNDEFENDED = "wavelet front end", "undefended"
WAVELETS = ["haar", "coif1", "db5"]
# Classes, training images, test images.
TASKS = {"3 against 7": ((3, 7), 6000, 1000), "all ten digits": (None, 4000, 500)}


def main():
    arguments = read_arguments(__doc__)
    # Images this small go through faster on one thread; the searches run in processes.
    torch.set_num_threads(1)
    started = time.perf_counter()
    content = {"what": __doc__.splitlines()[0], "tuned_at_eps": EPS, "tasks": {}}
    figure, panels = plt.subplots(1, len(TASKS), figsize=(11.2, 4.2), sharey=True, layout="constrained")
    for panel, (task, (digits, n_train, n_test)) in zip(panels, TASKS.items(), strict=True):
        print(f"{task}\n{'-' * len(task)}")
        X, y, image_shape = load_images(arguments, digits)
        X, X_test, y, y_test = split_as_published(X, y)
        if arguments.quick:
            n_train, n_test = 150, 30
        X, y, X_test, y_test = X[:n_train], y[:n_train], X_test[:n_test], y_test[:n_test]
        searches = search_both(X, y, image_shape, arguments)
        report = compare(searches, X_test, y_test, image_shape, arguments)
        content["tasks"][task] = {
            "n_train": len(y),
            "n_test": len(y_test),
            "searches": {name: describe_search(search, EPS) for name, search in searches.items()},
            "differences": differences(report),
            "conclusions": report.conclusions(),
            "report": json.loads(report.to_json()),
        }
        print(report, *content["tasks"][task]["conclusions"], "", sep="\n")
        draw(panel, report, task)
    panels[1].set_ylabel("")
    content["seconds"] = round(time.perf_counter() - started)
    save_json(arguments, NAME, content)
    save_figure(arguments, NAME, figure)
    print(f"{content['seconds']} s")


def search_both(X, y, image_shape, arguments):
    """One finished search with and one without front end: same scorer, same folds, as many settings."""
    if arguments.quick:
        wavelets, fractions, Cs = ["haar"], [0.2, 0.5], [0.001, 0.01]
    else:
        wavelets, fractions, Cs = WAVELETS, [0.03, 0.06, 0.12], [0.0005, 0.002]
    n_settings = len(wavelets) * len(fractions) * len(LEVELS) * len(Cs)
    n_l1 = n_settings // 3
    plan = {
        FRONT_END: (
            linear_svm(wavelet_front_end("haar", image_shape), random_state=0),
            {
                "waveletsparsifier__wavelet": wavelets,
                "waveletsparsifier__n_nonzero_coefs": fractions,
                "waveletsparsifier__level": LEVELS,
                "linearsvc__C": Cs,
            },
        ),
        UNDEFENDED: (
            linear_svm(random_state=0),
            [strengths("l2", 1e-6, 0.3, n_settings - n_l1), strengths("l1", 3e-4, 3e-2, n_l1)],
        ),
    }
    searches = {}
    for name, (pipeline, grid) in plan.items():
        print(name, end=":")
        searches[name] = robust_search(
            pipeline, grid, X, y, eps=EPS, image_shape=image_shape, arguments=arguments, max_samples=200
        )
    return searches


def compare(searches, X, y, image_shape, arguments):
    """Both winners under all attacks, worst case per image."""
    quick = {"n_restarts": 1, "n_queries": 20, "n_iter": 5} if arguments.quick else {}
    return robustness_report(
        {FRONT_END: searches[FRONT_END].best_estimator_},
        X,
        y,
        eps=[0.1, 0.2] if arguments.quick else [0.05, 0.1, 0.15, 0.2],
        attacks=strong_attacks(image_shape, **quick),
        focus_eps=EPS,
        baseline={UNDEFENDED: searches[UNDEFENDED].best_estimator_},
        checks=False,
        n_examples=0,
        verbose=arguments.verbose,
    )


def differences(report):
    """Points by which the front end is ahead, with the paired 95 % interval, at each eps."""
    found = []
    for eps in (0.0, *report.eps.tolist()):
        difference, low, high = report.compare(FRONT_END, UNDEFENDED, eps)
        found.append({"eps": eps, "difference": difference, "low": low, "high": high})
    return found


def draw(panel, report, task):
    """The two curves of one task."""
    RobustnessCurveDisplay.from_report(report, ax=panel)
    panel.axvline(EPS, color="#c9cdd3", linewidth=0.8, zorder=0)
    panel.set_title(f"{task}: {panel.get_title(loc='left')}", loc="left", fontsize=9.5)


if __name__ == "__main__":
    main()

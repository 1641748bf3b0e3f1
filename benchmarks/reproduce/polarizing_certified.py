"""Certified accuracy of linear classifiers on polarized codes, beside the same classifiers without code.

    SKROBUST_DATA=DIR python benchmarks/reproduce/polarizing_certified.py       # about 20 minutes on 2 cores
    python benchmarks/reproduce/polarizing_certified.py --quick                 # seconds, bundled digits alone
    SKROBUST_DATA=DIR python benchmarks/reproduce/polarizing_certified.py --only "two classes"       # one part

l-infinity, images in [0, 1], no certified training: penalties and code dropout only. Every setting is chosen by the
mean certified accuracy at three radii on training images (cross-validation, or 5000 images held out), for the
classifiers without code from at least as many settings, with l2 and with l1 penalty. Shows:

1. MNIST, all classes, 10 000 test images.
2. MNIST, 3 against 7, all 14 000 images of the two, split 75 / 25; the wavelet front end's gap certificate beside it.
3. scikit-learn's digits, 75 / 25: mean of five random splits, and the published order, whose test images are by
   other writers.

Writes polarizing_certified.json.
"""

import time

import numpy as np
from _linear_svm import LEVELS, load_images, split_as_published
from _polarizing import certified_row, certified_search, fit_with_dropout, print_rows, read_arguments, save_parts
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import PolarizingCoder, WaveletSparsifier
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.evaluation import make_certified_scorer

NAME = "polarizing_certified"
TUNED_AT = {"mnist": [0.05, 0.1, 0.2], "mnist 3 against 7": [0.05, 0.1, 0.15], "digits": [0.05, 0.1, 0.15]}
TARGETS = {
    "mnist": {"0.05": 0.88, "0.1": 0.85, "0.2": 0.75},
    "mnist 3 against 7": {"0.05": 0.975, "0.1": 0.965, "0.15": 0.955},
    "digits": {"0.05": 0.84, "0.1": 0.78, "0.15": 0.60},
}


def main():
    parts = {"digits": digits, "two classes": two_classes, "ten classes": ten_classes}
    arguments = read_arguments(__doc__, parts)
    head = {
        "what": __doc__.splitlines()[0],
        "threat_model": "l-infinity, any perturbation within eps and [0, 1]; proofs, no attacks",
        "tuned_for": {"what": "mean certified accuracy at these eps, training images only", "eps": TUNED_AT},
        "targets": TARGETS,
    }
    for name in arguments.only or (["digits"] if arguments.quick else parts):
        started = time.perf_counter()
        content = {"tables": {}}
        parts[name](content, arguments)
        content["seconds"] = round(time.perf_counter() - started)
        save_parts(arguments, NAME, head, {name: content})
        print(f"{name}: {content['seconds']} s", flush=True)


def digits(content, arguments):
    """scikit-learn's digits: 1347 training and 450 test images."""
    few = arguments.quick
    grid = {
        "polarizingcoder__n_thresholds": [1, 2] if few else [1, 2, 3],
        "polarizingcoder__eps": [0.1] if few else [0.05, 0.1, 0.15],
        "logisticregression__C": np.geomspace(0.01, 1, 3 if few else 5).tolist(),
    }
    model = make_pipeline(PolarizingCoder(image_shape=(8, 8)), LogisticRegression(max_iter=2000))
    X, y = load_digits_images(split="all", dtype="float64", return_X_y=True)
    splits = {"other writers": (X[:1347], X[1347:], y[:1347], y[1347:])}
    for seed in range(1 if few else 5):
        splits[f"split {seed}"] = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
    tables = []
    for name, (X_train, X_test, y_train, y_test) in splits.items():
        kwargs = _words("digits", arguments)
        searches = {"polarizing coder": certified_search(model, grid, X_train, y_train, **kwargs)}
        searches |= without_code(X_train, y_train, np.geomspace(1e-3, 10, 6 if few else 45), kwargs)
        title = "digits" if name == "other writers" else f"digits, {name}"
        report(title, searches, (X_test, y_test), (0.05, 0.1, 0.15), len(y_train), content)
        if name != "other writers":
            tables.append(content["tables"][title]["rows"])
    content["tables"]["digits, mean of splits"] = {"n_splits": len(tables), "rows": mean_rows(tables)}
    print_rows(f"digits, mean of {len(tables)} splits, certified accuracy in %", mean_rows(tables), (0.05, 0.1, 0.15))


def mean_rows(tables):
    """Means and standard deviations over tables of the same form."""
    result = {}
    for name, first in tables[0].items():
        clean = [table[name]["clean"]["accuracy"] for table in tables]
        result[name] = {"clean": _mean(clean), "certified": {}}
        for eps in first["certified"]:
            result[name]["certified"][eps] = _mean([table[name]["certified"][eps]["accuracy"] for table in tables])
    return result


def _mean(values):
    return {"accuracy": float(np.mean(values)), "std": float(np.std(values))}


def two_classes(content, arguments):
    """MNIST, 3 against 7, as the front-end paper splits it."""
    X, y, image_shape = load_images(arguments, (3, 7))
    X, X_test, y, y_test = split_as_published(X, y)
    kwargs = _words("mnist 3 against 7", arguments)
    svm = LinearSVC(loss="squared_hinge", dual=False)
    Cs = np.geomspace(1e-5, 1e-2, 6).tolist()
    coder = PolarizingCoder(image_shape=image_shape)
    grid = {"polarizingcoder__eps": [0.1, 0.2], "linearsvc__C": Cs}
    searches = {"polarizing coder": certified_search(make_pipeline(coder, svm), grid, X, y, **kwargs)}
    searches |= without_code(X, y, np.geomspace(1e-6, 1, 24), kwargs, few_l1=12)
    few = np.random.default_rng(0).permutation(len(y))[:3000]
    front = WaveletSparsifier("haar", clip=(0, 1), image_shape=image_shape)
    grid = {
        "waveletsparsifier__n_nonzero_coefs": [20, 40, 80],
        "waveletsparsifier__level": LEVELS,
        "linearsvc__C": [1e-4, 1e-3],
    }
    name = "Haar front end, gap certificate"
    searches[name] = certified_search(make_pipeline(front, svm), grid, X[few], y[few], **kwargs)
    searches[name].best_estimator_.fit(X, y)
    report("mnist 3 against 7", searches, (X_test, y_test), (0.05, 0.1, 0.15, 0.2, 0.3), len(y), content)


def without_code(X, y, Cs, kwargs, few_l1=None):
    """For comparison: linear classifiers on the pixels, with both penalties."""
    l1 = np.geomspace(Cs.min(), Cs.max(), few_l1) if few_l1 else Cs
    svm = LinearSVC(penalty="l1", loss="squared_hinge", dual=False)
    grids = {
        "undefended": (make_pipeline(LogisticRegression(max_iter=300)), {"logisticregression__C": Cs.tolist()}),
        "undefended, l1 penalty": (make_pipeline(svm), {"linearsvc__C": l1.tolist()}),
    }
    return {name: certified_search(model, grid, X, y, **kwargs) for name, (model, grid) in grids.items()}


def ten_classes(content, arguments):
    """MNIST, all classes: settings chosen on the last 5000 training images, final models trained on all 60 000."""
    train, test = (load_mnist(split=s, data_home=arguments.data_home, dtype="float32") for s in ("train", "test"))
    fit, held = slice(0, 55_000), slice(55_000, None)
    X, y = train.data, train.target
    eps = (0.05, 0.1, 0.2, 0.3)

    def polarized(X, y, *, coder_eps, share, C):
        coder = PolarizingCoder(eps=coder_eps, image_shape=train.image_shape)
        return fit_with_dropout(coder, X, y, share=share, n_copies=2 if share else 1, C=C, max_iter=150)

    def undefended(X, y, *, C):
        return make_pipeline(LogisticRegression(C=C, max_iter=100)).fit(X, y)

    def undefended_l1(X, y, *, C):
        svm = LinearSVC(penalty="l1", loss="squared_hinge", dual=False, C=C, max_iter=200, tol=1e-3)
        return make_pipeline(svm).fit(X, y)

    plans = {
        "polarizing coder, penalty": (
            polarized,
            [{"coder_eps": e, "share": 0.0, "C": C} for e in (0.1, 0.2) for C in (1e-3, 3e-3, 1e-2)],
        ),
        "polarizing coder, code dropout": (
            polarized,
            [{"coder_eps": e, "share": s, "C": 1.0} for e in (0.1, 0.2) for s in (0.4, 0.5, 0.6)],
        ),
        "undefended": (undefended, [{"C": C} for C in np.geomspace(1e-6, 1e-2, 9).tolist()]),
        "undefended, l1 penalty": (undefended_l1, [{"C": C} for C in np.geomspace(3e-5, 3e-3, 5).tolist()]),
    }
    rows, choices = {}, {}
    for name, (build, settings) in plans.items():
        scores = []
        for setting in settings:
            model = build(X[fit], y[fit], **setting)
            scores.append(make_certified_scorer(TUNED_AT["mnist"])(model, X[held], y[held]))
            print(f"  {name}: {setting} {100 * scores[-1]:.2f} % of the held-out images", flush=True)
        best = int(np.argmax(scores))
        choices[name] = {"settings": settings, "held_out": scores, "chosen": settings[best]}
        rows[name] = certified_row(build(X, y, **settings[best]), test.data, test.target, eps)
    content["tables"]["mnist"] = {"n_train": len(y), "n_held_out": 5000, "rows": rows, "searches": choices}
    print_rows("MNIST, certified accuracy in %", rows, eps)


def report(title, searches, test, eps, n_train, content):
    """Certify the winners on the test images."""
    rows = {name: certified_row(search.best_estimator_, *test, eps) for name, search in searches.items()}
    content["tables"][title] = {
        "n_train": n_train,
        "rows": rows,
        "searches": {
            name: {
                "chosen": search.best_params_,
                "cross_validated": float(search.best_score_),
                "n_settings": len(search.cv_results_["params"]),
                "seconds": round(search.seconds_, 1),
            }
            for name, search in searches.items()
        },
    }
    print_rows(f"{title}, certified accuracy in %", rows, eps)
    for name, search in searches.items():
        print(f"  {name}: {search.best_params_}")


def _words(name, arguments):
    return {"eps": TUNED_AT[name], "n_jobs": arguments.n_jobs}


if __name__ == "__main__":
    main()

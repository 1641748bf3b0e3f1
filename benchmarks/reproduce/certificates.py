"""Certified-accuracy curves on MNIST: linear classifiers, wavelet front ends, polarized codes, randomized smoothing.

    SKROBUST_DATA=DIR python benchmarks/reproduce/certificates.py           # minutes on 2 cores
    python benchmarks/reproduce/certificates.py --quick                     # seconds, bundled digits

Two classes: 3 against 7, all images, split 75 / 25. Ten classes: the published split, the first 2000 test images.
Each model is tuned by `make_certified_scorer` on training images only (3 folds of a subset, then fitted on all); the
undefended SVM is tuned in the same way over more settings. l-infinity certificates hold for every perturbation within
eps and [0, 1]; "unbounded" rows without the bounds of pixels. Randomized smoothing is l2, and its radii hold with
confidence 0.999 per image.

Writes certificates.json and certificates.png.
"""

import time

import numpy as np
from _linear_svm import load_images, save_figure, split_as_published
from _polarizing import certified_search, print_rows, read_arguments, save_parts
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from skrobust import PolarizingCoder, WaveletSparsifier
from skrobust.certificates import RandomizedSmoothingClassifier, certify
from skrobust.datasets import load_digits_images, load_mnist
from skrobust.displays import CertifiedAccuracyDisplay
from skrobust.evaluation import wilson_interval

EPS = (0.05, 0.1, 0.15)
L2_EPS = (0.25, 0.5, 1.0)
N_SEARCHED = 1500


def main():
    parts = {"two classes": two_classes, "ten classes": ten_classes}
    arguments = read_arguments(__doc__, parts)
    head = {
        "what": __doc__.splitlines()[0],
        "threat_model": "any perturbation within eps; proofs, no attacks",
        "targets": {"two classes, unbounded": {"0.05": 0.965, "0.1": 0.90, "0.15": 0.65}},
    }
    for name in arguments.only or parts:
        started = time.perf_counter()
        content = parts[name](arguments)
        content["seconds"] = round(time.perf_counter() - started)
        save_parts(arguments, "certificates", head, {name: content})


def two_classes(arguments):
    """3 against 7, with and without the bounds of pixels."""
    X, y, image_shape = load_images(arguments, (3, 7))
    X, X_test, y, y_test = split_as_published(X, y)
    ks = [10, 16] if arguments.quick else [40, 50, 60]
    Cs = [1e-2, 1e-1] if arguments.quick else [1e-3, 3e-3]
    models = searched(X, y, image_shape, ks, Cs, arguments)
    content = {"n_train": len(y), "searches": models["searches"], "tables": {}}
    for title, clip in (("within [0, 1]", (0, 1)), ("unbounded", None)):
        rows = {name: certified_at(model, X_test, y_test, EPS, clip=clip) for name, model in models["linf"].items()}
        content["tables"][title] = rows
        print_rows(f"3 against 7, {title}, certified accuracy in %", rows, EPS)
    rows = {
        name: certified_at(model, X_test[:300], y_test[:300], L2_EPS, norm="l2", clip=None)
        for name, model in models["l2"].items()
    }
    content["tables"]["l2"] = rows
    print_rows("3 against 7, l2, certified accuracy in %", rows, L2_EPS)
    draw(models, X_test[:200], y_test[:200], "certificates", arguments)
    return content


def ten_classes(arguments):
    """All digits."""
    if arguments.quick:
        X, y = load_digits_images(split="all", return_X_y=True)
        (X, X_test), (y, y_test), image_shape = np.split(X, [1300]), np.split(y, [1300]), (8, 8)
    else:
        train, test = (load_mnist(split=s, data_home=arguments.data_home, dtype="float32") for s in ("train", "test"))
        X, y, image_shape = train.data[:10_000], train.target[:10_000], train.image_shape
        X_test, y_test = test.data[:2000], test.target[:2000]
    ks = [16] if arguments.quick else [40, 80]
    Cs = [1e-2, 1e-1] if arguments.quick else [3e-4, 1e-3, 3e-3]
    models = searched(X, y, image_shape, ks, Cs, arguments)
    rows = {name: certified_at(model, X_test, y_test, EPS) for name, model in models["linf"].items()}
    print_rows("ten classes, certified accuracy in %", rows, EPS)
    draw(models, X_test[:200], y_test[:200], "certificates_ten_classes", arguments)
    return {"n_train": len(y), "searches": models["searches"], "tables": {"within [0, 1]": rows}}


def searched(X, y, image_shape, ks, Cs, arguments):
    """The models of each norm, chosen on training images."""
    few = np.random.default_rng(0).permutation(len(y))[:N_SEARCHED]
    svm = LinearSVC(loss="hinge", random_state=0)
    front = WaveletSparsifier("haar", level=1, image_shape=image_shape)
    wide = np.geomspace(min(Cs) / 100, max(Cs) * 3, 8).tolist()
    plans = {
        "undefended SVM": (make_pipeline(svm), {"linearsvc__C": wide}),
        "Haar, top K": (make_pipeline(front, svm), {"waveletsparsifier__n_nonzero_coefs": ks, "linearsvc__C": Cs}),
        "polarized pixels": (make_pipeline(PolarizingCoder(image_shape=image_shape), svm), {"linearsvc__C": wide}),
    }
    models, searches = {}, {}
    for name, (model, grid) in plans.items():
        search = certified_search(model, grid, X[few], y[few], eps=list(EPS), n_jobs=arguments.n_jobs)
        models[name] = search.best_estimator_.fit(X, y)
        searches[name] = {
            "chosen": search.best_params_,
            "cross_validated": float(search.best_score_),
            "n_settings": len(search.cv_results_["params"]),
            "n_images": len(few),
        }
        print(f"  {name}: {search.best_params_}", flush=True)
    smoothed = RandomizedSmoothingClassifier(
        make_pipeline(front.set_params(n_nonzero_coefs=max(ks)), LogisticRegression(max_iter=200)),
        sigma=0.5,
        n=200 if arguments.quick else 1000,
        random_state=0,
    ).fit(X[few], y[few])
    l2 = {name: models[name] for name in ("undefended SVM", "Haar, top K")} | {"Haar, smoothed": smoothed}
    return {"linf": models, "l2": l2, "searches": searches}


def certified_at(model, X, y, eps, *, norm="linf", clip=(0, 1)):
    """The row of a table: one proof at each radius, without the search for the largest."""
    n = len(y)
    started = time.perf_counter()
    found = {f"{e:g}": certify(model, X, y, e, norm=norm, clip=clip, radius=False) for e in eps}
    seconds = time.perf_counter() - started
    first = next(iter(found.values()))

    def figure(share):
        return {"accuracy": share, "ci": list(wilson_interval(round(share * n), n))}

    return {
        "clean": figure(first.accuracy),
        "certified": {name: figure(one.certified_accuracy) for name, one in found.items()},
        "method": first.method,
        "is_exact": first.is_exact,
        "norm": norm,
        "clip": clip,
        "n": n,
        "ms_per_image_and_radius": round(1e3 * seconds / n / len(eps), 3),
    }


def draw(models, X, y, name, arguments):
    """Curves of both norms, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 3.9), layout="constrained")
    for ax, norm, clip, grid in zip(axes, ("linf", "l2"), ((0, 1), None), ((0, 0.3), (0, 2)), strict=True):
        certificates = {k: certify(model, X, y, 0.0, norm=norm, clip=clip) for k, model in models[norm].items()}
        CertifiedAccuracyDisplay.from_certificates(
            certificates, eps=np.linspace(*grid, 13), baseline="undefended SVM", ax=ax
        )
    save_figure(arguments, name, figure)


if __name__ == "__main__":
    main()
